//! What a process knows of one key whose count it shares, and what it decides by that: pure, over times in nanoseconds.

use std::time::Duration;

use super::super::gcra::Gcra;
use super::super::{Limited, Quota};
use super::{Ask, Grant, Key};

/// The limit as a process sees it that is one of several.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shares {
    /// All of it.
    pub(super) whole: Gcra,
    /// The part that is this process's own.
    pub(super) own: Gcra,
    /// How many a lease has at most.
    pub(super) most: u32,
    /// How long a lease lasts.
    pub(super) life: u64,
    /// How long a lease should last at the pace at which requests come.
    pub(super) ahead: u64,
}

impl Shares {
    pub(super) fn new(whole: Gcra, processes: u32, life: u64, ahead: u64) -> Self {
        let own = whole.part(processes);
        let paced = u32::try_from(2 * ahead / whole.interval).unwrap_or(u32::MAX);
        let most = paced.max(own.burst / 2).clamp(1, whole.burst);
        Self { whole, own, most, life: life.max(whole.interval), ahead }
    }

    /// When to come back if only the counter knows: it will have answered by then.
    fn retry(&self) -> Duration {
        Duration::from_nanos(self.ahead)
    }
}

/// One key.
#[derive(Debug, Default)]
pub(super) struct Cell {
    /// When the whole quota is full, as far as it is known here.
    whole: u64,
    /// When this process's own part of it is full.
    own: u64,
    leases: Leases,
    /// How many were let through without a lease, and not told yet.
    debt: u32,
    /// How many came since the last ask.
    used: u32,
    asked_at: u64,
    /// Whether an ask is waiting or under way.
    asking: bool,
}

/// What became of a request.
pub(super) struct Taken {
    pub(super) answer: Result<Quota, Limited>,
    /// Whether the counter should hear of this key; it is, from now on, taken for asked.
    pub(super) ask: bool,
}

impl Cell {
    /// Takes one request. `told` is whether the counter is there, and hears of what is let through.
    pub(super) fn take(&mut self, shares: &Shares, now: u64, told: bool) -> Taken {
        if self.used == 0 && self.asked_at == 0 {
            self.asked_at = now;
        }
        self.used = self.used.saturating_add(1);
        if self.leases.take(now) {
            let answer = Ok(self.quota(shares, now));
            return Taken { answer, ask: told && self.leases.are_low(now) && self.begin_to_ask() };
        }
        // What is known to be used up is not asked for: it is known until when.
        let (whole, answer) = shares.whole.decide(self.whole, now);
        if answer.is_err() {
            return Taken { answer, ask: told && self.debt > 0 && self.begin_to_ask() };
        }
        let (own, part) = shares.own.decide(self.own, now);
        if let Err(part) = part {
            let retry_after = if told { part.retry_after.min(shares.retry()) } else { part.retry_after };
            let limited = Limited { limit: shares.whole.burst, retry_after, ..part };
            return Taken { answer: Err(limited), ask: told && self.begin_to_ask() };
        }
        (self.whole, self.own) = (whole, own);
        self.debt = self.debt.saturating_add(u32::from(told));
        Taken { answer, ask: told && self.begin_to_ask() }
    }

    /// Gives back one request that was let through. What the counter has been told of already is, from now on, a lease.
    pub(super) fn give_back(&mut self, shares: &Shares, now: u64) {
        if self.debt > 0 {
            self.debt -= 1;
            self.whole = self.whole.saturating_sub(shares.whole.interval);
            self.own = self.own.saturating_sub(shares.own.interval);
        } else {
            self.leases.give_back(now, now.saturating_add(shares.life));
        }
    }

    /// What is said of it, and asked for. Nobody else asks until there is an answer.
    pub(super) fn ask(&mut self, shares: &Shares, key: Key, now: u64) -> Ask {
        let held = self.leases.held(now);
        let elapsed = now.saturating_sub(self.asked_at).max(shares.ahead);
        // One request now and then is told afterwards; only those that others follow are worth a lease.
        let others = u64::from(self.used.saturating_sub(1));
        let expected = u32::try_from(2 * others * shares.ahead / elapsed).unwrap_or(u32::MAX);
        let stuck = held == 0 && shares.own.decide(self.own, now).1.is_err();
        let wanted = expected.max(u32::from(stuck)).min(shares.most).saturating_sub(held);
        let spent = std::mem::take(&mut self.debt);
        (self.used, self.asked_at) = (0, now);
        let interval = Duration::from_nanos(shares.whole.interval);
        Ask { key, interval, burst: shares.whole.burst, spent, wanted }
    }

    /// Takes in the answer to an ask that was made at `asked`; says whether there is more to say already.
    pub(super) fn answered(&mut self, shares: &Shares, grant: Grant, asked: u64, now: u64) -> bool {
        let lease = Lease { left: grant.granted, until: asked.saturating_add(shares.life) };
        self.leases.add(lease, now);
        let full_in = u64::try_from(grant.full_in.as_nanos()).unwrap_or(u64::MAX);
        let untold = u64::from(self.debt).saturating_mul(shares.whole.interval);
        self.whole = now.saturating_add(full_in).saturating_add(untold);
        self.asking = false;
        self.debt > 0 && self.begin_to_ask()
    }

    /// There is no answer, and there will be none: what was let through is not told again, since it may be known.
    pub(super) fn unanswered(&mut self) {
        self.asking = false;
    }

    fn begin_to_ask(&mut self) -> bool {
        !std::mem::replace(&mut self.asking, true)
    }

    fn quota(&self, shares: &Shares, now: u64) -> Quota {
        let quota = shares.whole.quota(self.whole, now);
        Quota { remaining: quota.remaining.saturating_add(self.leases.held(now)).min(quota.limit), ..quota }
    }
}

/// Requests that may be let through until a time.
#[derive(Debug, Clone, Copy, Default)]
struct Lease {
    left: u32,
    until: u64,
}

impl Lease {
    fn held(&self, now: u64) -> u32 {
        if now < self.until { self.left } else { 0 }
    }
}

/// The lease that is used up first, and the one that was fetched ahead.
#[derive(Debug, Default)]
struct Leases {
    older: Lease,
    newer: Lease,
    /// How many the newer one had.
    size: u32,
}

impl Leases {
    fn held(&self, now: u64) -> u32 {
        self.older.held(now) + self.newer.held(now)
    }

    /// Whether it is time to fetch the next one.
    fn are_low(&self, now: u64) -> bool {
        self.held(now) <= self.size / 2
    }

    fn take(&mut self, now: u64) -> bool {
        let lease = if self.older.held(now) > 0 { &mut self.older } else { &mut self.newer };
        let held = lease.held(now) > 0;
        lease.left -= u32::from(held);
        held
    }

    fn give_back(&mut self, now: u64, until: u64) {
        if self.newer.held(now) == 0 {
            self.newer = Lease { left: 0, until };
        }
        self.newer.left = self.newer.left.saturating_add(1);
    }

    /// What is left of two that are older becomes one, which ends when the first of them would.
    fn add(&mut self, lease: Lease, now: u64) {
        self.size = lease.left;
        if lease.left == 0 {
            return;
        }
        let (older, newer) = (self.older, self.newer);
        self.older = match (older.held(now), newer.held(now)) {
            (0, _) => newer,
            (_, 0) => older,
            (a, b) => Lease { left: a.saturating_add(b), until: older.until },
        };
        self.newer = lease;
    }
}
