//! What becomes of the result of a call.

use std::time::Duration;

use tokio::time::Instant;

use super::Breaker;
use super::machine::Outcome;
use super::permit::{Leave, Says};

impl Breaker {
    #[inline]
    pub(super) fn waits(&self, leave: &mut Leave) {
        leave.takes_time(|| self.shared.time.now());
    }

    #[inline]
    pub(super) fn judged(&self, leave: Leave, says: Says) {
        match says {
            Says::Good => self.succeeded(leave, None),
            Says::Failed => self.failed(leave, None),
            Says::Nothing => self.told_nothing(leave),
        }
    }

    #[inline]
    pub(super) fn succeeded(&self, leave: Leave, now: Option<Instant>) {
        if !self.shared.gate.is_clean_in(leave.generation) {
            self.succeeded_and_counts(leave, now);
        }
    }

    #[inline(never)]
    fn succeeded_and_counts(&self, leave: Leave, now: Option<Instant>) {
        if self.shared.gate.is_timed() {
            return self.succeeded_in_time(leave, now);
        }
        // The time matters only to the machine.
        if !self.shared.gate.count_good(leave.generation, Duration::ZERO) {
            self.settle(leave, Outcome::Success { slow: false }, self.time(now));
        }
    }

    #[inline]
    fn succeeded_in_time(&self, leave: Leave, now: Option<Instant>) {
        let now = self.time(now);
        let slow = self.shared.gate.counts_slow() && self.is_slow(leave, now);
        if slow || !self.shared.gate.count_good_in_time(leave.generation, now) {
            self.settle(leave, Outcome::Success { slow }, now);
        }
    }

    #[cold]
    pub(super) fn failed(&self, leave: Leave, now: Option<Instant>) {
        let now = self.time(now);
        self.settle(leave, Outcome::Failure { slow: self.is_slow(leave, now) }, now);
    }

    #[cold]
    pub(super) fn abandoned(&self, leave: Leave, now: Option<Instant>) {
        let now = self.time(now);
        let outcome = match leave.took(now).is_some_and(|took| took >= self.config().abandoned_after) {
            true => Outcome::Failure { slow: self.is_slow(leave, now) },
            false => Outcome::Abandoned,
        };
        self.settle(leave, outcome, now);
    }

    #[cold]
    pub(super) fn told_nothing(&self, leave: Leave) {
        self.settle(leave, Outcome::Abandoned, self.time(None));
    }

    /// A call that was given up before succeeded all the same.
    #[cold]
    pub(super) fn succeeded_late(&self, leave: Leave, now: Instant) {
        let now = self.time(Some(now));
        let slow = self.is_slow(leave, now);
        if slow || !self.shared.gate.count_good(leave.generation, now) {
            self.settle_late(leave, Outcome::Success { slow }, now);
        }
    }

    /// A call that was given up before failed.
    #[cold]
    pub(super) fn failed_late(&self, leave: Leave, now: Instant) {
        let now = self.time(Some(now));
        self.settle_late(leave, Outcome::Failure { slow: self.is_slow(leave, now) }, now);
    }

    fn settle_late(&self, leave: Leave, outcome: Outcome, now: Duration) {
        self.told(now, |told| self.shared.gate.settle_late(leave.generation, outcome, now, told));
    }

    #[cold]
    fn settle(&self, leave: Leave, outcome: Outcome, now: Duration) {
        self.told(now, |told| self.shared.gate.settle(leave.generation, outcome, now, told));
    }

    fn is_slow(&self, leave: Leave, now: Duration) -> bool {
        let took = leave.took(now).unwrap_or_default();
        self.config().slow_after().is_some_and(|slow| took >= slow)
    }
}
