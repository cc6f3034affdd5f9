//! The attempts of one call.

use std::fmt::Debug;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::message::FaultKind;
use crate::resilience::budget::Reserved;
use crate::resilience::hedge::Hedging;
use crate::resilience::{Criticality, Deadline, Permit, Place, criticality, deadline, dice};

use super::line::Parts;
use super::seen::Seen;
use super::{Silence, Verdict};

/// The answer of a callee, or why there is none.
pub(in crate::resilience) type Answer<T, E> = Result<Result<T, E>, Silence>;

/// One call on its way: under which terms, until when, and who says what an answer means.
pub(super) struct Run<'a, J> {
    parts: &'a Parts,
    seen: Option<&'a Seen>,
    deadline: Deadline,
    /// Whether the deadline is our caller's: how long that gives says nothing about the callee.
    given: bool,
    class: Criticality,
    repeatable: bool,
    judge: J,
}

/// How an attempt, or the call, ended, and when.
pub(super) struct Ended<T, E> {
    pub(super) answer: Answer<T, E>,
    pub(super) at: Instant,
    verdict: Verdict,
    /// Whether the callee was asked at all.
    asked: bool,
}

impl<T, E> Ended<T, E> {
    /// The callee was not asked.
    fn unasked(silence: Silence, at: Instant) -> Self {
        let verdict = Verdict::Failed { kind: FaultKind::Unavailable, retry_after: None };
        Self { answer: Err(silence), at, verdict, asked: false }
    }

    /// What metrics call it.
    pub(super) fn outcome(&self) -> &'static str {
        match &self.answer {
            Ok(_) => self.verdict.outcome(),
            Err(silence) => silence.outcome(),
        }
    }
}

impl<'a, J> Run<'a, J> {
    pub(super) fn new(
        parts: &'a Parts,
        seen: Option<&'a Seen>,
        start: Instant,
        repeatable: bool,
        judge: J,
    ) -> Self {
        let own = Deadline::from(start, parts.policy.timeout);
        let given = deadline::current().is_some_and(|given| given < own);
        let deadline = own.tightened();
        Self { parts, seen, deadline, given, class: criticality::current(), repeatable, judge }
    }

    /// Makes attempts until one has an answer that counts, or there is to be no other.
    pub(super) async fn attempts<T, E, F, Fut>(&self, start: Instant, work: &Mutex<F>) -> Ended<T, E>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        J: Fn(&Result<T, E>) -> Verdict,
    {
        let (mut failed, mut now) = (0, start);
        let (mut last, mut retry): (Option<Ended<T, E>>, _) = (None, None);
        loop {
            let ended = self.hedged(now, retry.take(), work).await;
            // Only a call that is made earns a part of a retry; one that is refused here asks nobody.
            if failed == 0 && ended.asked {
                self.parts.budget.earn();
            }
            let ended = match last.take() {
                // What failed before says more than that it was given up.
                Some(last) if !ended.asked => return Ended { at: ended.at, ..last },
                _ => ended,
            };
            failed += 1;
            let Some((pause, reserved)) = self.pause(failed, &ended) else { return ended };
            self.tell_retry(failed, pause, &ended);
            tokio::time::sleep(pause).await;
            (now, retry, last) = (Instant::now(), Some(reserved), Some(ended));
        }
    }

    /// How long to wait before the next attempt, and a retry of the budget; none if there is to be none.
    fn pause<T, E>(&self, failed: u32, ended: &Ended<T, E>) -> Option<(Duration, Reserved<'a>)> {
        let Verdict::Failed { retry_after, .. } = ended.verdict else { return None };
        let retry = &self.parts.policy.retry;
        if !self.repeatable || !ended.asked || !retry.allows(failed) {
            return None;
        }
        // The own pause comes on top: of all who were told the same time, few then come at once.
        let pause = retry.delay(failed, dice()).saturating_add(retry_after.unwrap_or_default());
        let in_time = pause < self.deadline.remaining_at(ended.at);
        in_time.then(|| self.parts.budget.reserve(ended.at)).flatten().map(|reserved| (pause, reserved))
    }

    #[cold]
    fn tell_retry<T, E>(&self, failed: u32, pause: Duration, ended: &Ended<T, E>) {
        let callee = self.parts.breaker.name();
        tracing::debug!(%callee, failed, ?pause, outcome = ended.outcome(), "a call is tried again");
        if let Some(seen) = self.seen {
            seen.retries.inc();
        }
    }

    /// Makes an attempt, and when it is slow another one beside it, if that may be.
    async fn hedged<T, E, F, Fut>(
        &self,
        now: Instant,
        retry: Option<Reserved<'a>>,
        work: &Mutex<F>,
    ) -> Ended<T, E>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        J: Fn(&Result<T, E>) -> Verdict,
    {
        let lost = AtomicBool::new(false);
        let mut first = pin!(self.attempt(now, retry, work, &lost));
        let hedging = self.parts.hedging.as_deref().filter(|_| self.repeatable);
        let Some((hedging, delay)) = hedging.and_then(|hedging| Some((hedging, hedging.delay()?))) else {
            let ended = first.await;
            learn(hedging, now, &ended);
            return ended;
        };
        if let Ok(ended) = tokio::time::timeout(delay, &mut first).await {
            learn(Some(hedging), now, &ended);
            return ended;
        }
        let later = Instant::now();
        let Some(reserved) = hedging.budget().reserve(later) else {
            // How long it took counts all the same: by such calls a callee that has become slower is known.
            let ended = first.await;
            learn(Some(hedging), now, &ended);
            return ended;
        };
        if let Some(seen) = self.seen {
            seen.hedges.inc();
        }
        // Seldom needed, and as large as the first: it is not a part of every call.
        let mut second = Box::pin(self.attempt(later, Some(reserved), work, &lost));
        let ended = tokio::select! {
            biased;
            ended = &mut first => better(ended, second, &lost).await,
            ended = &mut second => better(ended, first, &lost).await,
        };
        learn(Some(hedging), now, &ended);
        ended
    }

    /// Makes an attempt: with a place, by leave of the breaker, within its time. Dropped when it has `lost`, it tells
    /// the breaker nothing.
    async fn attempt<T, E, F, Fut>(
        &self,
        now: Instant,
        retry: Option<Reserved<'a>>,
        work: &Mutex<F>,
        lost: &AtomicBool,
    ) -> Ended<T, E>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        J: Fn(&Result<T, E>) -> Verdict,
    {
        if self.deadline.remaining_at(now).is_zero() {
            return Ended::unasked(Silence::DeadlineExceeded, now);
        }
        let (place, now) = match self.parts.bulkhead.try_enter(self.class, now) {
            Ok(Some(place)) => (place, now),
            Ok(None) => match self.parts.bulkhead.wait(self.class, self.deadline).await {
                Ok(place) => (place, Instant::now()),
                Err(_) => return self.found_no_place(),
            },
            Err(_) => return Ended::unasked(Silence::Full, now),
        };
        let leave = match self.parts.breaker.admit(now) {
            Ok(permit) => Leave { permit: Some(permit), lost },
            Err(open) => return Ended::unasked(Silence::Open(open), now),
        };
        if let Some(retry) = retry {
            retry.made();
        }
        let time = self.time(now);
        let answer = time
            .until
            .enforce(async {
                let attempt = (work.lock().unwrap_or_else(PoisonError::into_inner))();
                attempt.await
            })
            .await;
        let at = Instant::now();
        let Ok(answer) = answer else { return timed_out(leave.permit(), place, time, at) };
        let verdict = (self.judge)(&answer);
        settle(leave.permit(), place, Told { verdict, time, at, class: self.class });
        Ended { answer: Ok(answer), at, verdict, asked: true }
    }

    #[cold]
    fn found_no_place<T, E>(&self) -> Ended<T, E> {
        let now = Instant::now();
        match self.deadline.remaining_at(now).is_zero() {
            true => Ended::unasked(Silence::DeadlineExceeded, now),
            false => Ended::unasked(Silence::Full, now),
        }
    }

    /// How long an attempt has that begins now, and who says so.
    fn time(&self, now: Instant) -> Time {
        let policy = &self.parts.policy;
        let attempt = Deadline::from(now, policy.attempt);
        let until = attempt.min(self.deadline);
        let whose = match until {
            until if until == attempt => Whose::Policy,
            _ if self.given => Whose::Caller,
            // The end of a call whose time earlier attempts, or waiting for a place, have used up is no answer.
            until if until.remaining_at(now) >= policy.attempt.min(policy.timeout) / 2 => Whose::Policy,
            _ => Whose::Nobody,
        };
        Time { until, whose }
    }
}

/// Until when an attempt may last, and who says so.
#[derive(Debug, Clone, Copy)]
struct Time {
    until: Deadline,
    whose: Whose,
}

/// Whose wish it is that an attempt ends then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// The policy's: it is as long as an answer may take, and the end of it counts against the callee.
    Policy,
    /// Our caller's, who may give as little as he likes: that must not open the breaker for everybody else.
    Caller,
    /// What was left of the policy's time.
    Nobody,
}

impl Time {
    /// A failure so shortly before the end is most likely made by it: a connection that was given the same deadline.
    const ABOUT: Duration = Duration::from_millis(5);

    /// Whether a failure of this kind tells of how little time there was, not of the callee.
    fn explains(self, kind: FaultKind, at: Instant) -> bool {
        let ended = self.until.remaining_at(at) <= Self::ABOUT;
        // A callee that was told the deadline may say itself that it is too short, at once even.
        self.whose != Whose::Policy && (ended || kind == FaultKind::Timeout)
    }
}

/// The leave of an attempt, which may turn out to be the one that was not needed.
struct Leave<'a, 'l> {
    permit: Option<Permit<'a>>,
    lost: &'l AtomicBool,
}

impl<'a> Leave<'a, '_> {
    fn permit(mut self) -> Permit<'a> {
        self.permit.take().expect("a leave is used once")
    }
}

impl Drop for Leave<'_, '_> {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take_if(|_| self.lost.load(Ordering::Relaxed)) {
            permit.told_nothing();
        }
    }
}

#[cold]
fn timed_out<T, E>(permit: Permit<'_>, place: Place<'_>, time: Time, at: Instant) -> Ended<T, E> {
    match time.whose {
        Whose::Policy => {
            permit.failed(at);
            place.overloaded(at);
        }
        // Whether the callee had enough of it is for the permit to say.
        Whose::Caller | Whose::Nobody => permit.abandoned(at),
    }
    let verdict = Verdict::Failed { kind: FaultKind::Timeout, retry_after: None };
    Ended { answer: Err(Silence::DeadlineExceeded), at, verdict, asked: true }
}

/// What breaker and limit are told of an answer.
#[derive(Debug, Clone, Copy)]
struct Told {
    verdict: Verdict,
    time: Time,
    at: Instant,
    class: Criticality,
}

fn settle(permit: Permit<'_>, place: Place<'_>, told: Told) {
    let Told { verdict, time, at, class } = told;
    match verdict {
        // A bug is met by one request, and others may do without it: whoever finds a request that meets one must not
        // close the callee to all. But it does not show either that the callee can do its work.
        Verdict::Refused(FaultKind::Bug) => permit.told_nothing(),
        Verdict::Good | Verdict::Refused(_) => {
            permit.succeeded();
            place.answered(at);
        }
        // Who sheds load is there, and does what it can: fewer calls at once are what helps. That the unimportant is
        // refused says nothing about what there is for the rest.
        Verdict::Failed { kind: FaultKind::Overloaded, .. } => {
            permit.told_nothing();
            if class == Criticality::Critical {
                place.overloaded(at);
            }
        }
        Verdict::Failed { kind, .. } if time.explains(kind, at) => permit.abandoned(at),
        Verdict::Failed { kind, .. } => {
            permit.failed(at);
            // One who is away is away quickly, which says nothing about how much he can do.
            if kind == FaultKind::Timeout {
                place.overloaded(at);
            }
        }
    }
}

/// Tells hedging how long an answer took.
fn learn<T, E>(hedging: Option<&Hedging>, since: Instant, ended: &Ended<T, E>) {
    if let Some(hedging) = hedging.filter(|_| ended.asked) {
        hedging.answered(ended.at.saturating_duration_since(since));
    }
}

/// The first answer, unless it is a failure and the other one is not.
async fn better<T, E>(
    ended: Ended<T, E>,
    other: impl Future<Output = Ended<T, E>>,
    lost: &AtomicBool,
) -> Ended<T, E> {
    if ended.asked && !ended.verdict.is_failure() {
        // That the other one took longer, however long, is what hedging is for.
        lost.store(true, Ordering::Relaxed);
        return ended;
    }
    let other = other.await;
    match other.asked && (!other.verdict.is_failure() || !ended.asked) {
        true => other,
        false => ended,
    }
}

impl<T, E> Debug for Ended<T, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ended")
            .field("verdict", &self.verdict)
            .field("asked", &self.asked)
            .finish_non_exhaustive()
    }
}
