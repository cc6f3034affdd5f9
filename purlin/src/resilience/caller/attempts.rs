//! The attempts of one call, one after the other.

use std::fmt::Debug;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::message::FaultKind;
use crate::resilience::budget::Reserved;
use crate::resilience::{Criticality, Deadline, Ticket, criticality, deadline};

use super::line::Parts;
use super::seen::Seen;
use super::{Silence, Verdict};

/// The answer of a callee, or why there is none.
pub(in crate::resilience) type Answer<T, E> = Result<Result<T, E>, Silence>;

/// One call on its way: under which terms, until when, and who says what an answer means.
pub(super) struct Run<'a, J> {
    pub(super) parts: &'a Parts,
    pub(super) seen: Option<&'a Seen>,
    pub(super) deadline: Deadline,
    /// Whether the deadline is our caller's: how long that gives says nothing about the callee.
    pub(super) given: bool,
    pub(super) class: Criticality,
    pub(super) repeatable: bool,
    pub(super) judge: J,
}

/// How an attempt, or the call, ended, and when.
pub(super) struct Ended<T, E> {
    pub(super) answer: Answer<T, E>,
    pub(super) at: Instant,
    pub(super) verdict: Verdict,
    /// Whether the callee was asked at all.
    pub(super) asked: bool,
    /// Whether its time says how long the callee takes.
    pub(super) measured: bool,
}

impl<T, E> Ended<T, E> {
    /// The callee was not asked.
    pub(super) fn unasked(silence: Silence, at: Instant) -> Self {
        let verdict = Verdict::Failed { kind: FaultKind::Unavailable, retry_after: None };
        Self { answer: Err(silence), at, verdict, asked: false, measured: false }
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
        F: FnMut(Option<Ticket>) -> Fut,
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
        let (Verdict::Failed { retry_after, .. } | Verdict::PassedOn { retry_after, .. }) = ended.verdict
        else {
            return None;
        };
        let retry = &self.parts.policy.retry;
        if !self.repeatable || !ended.asked || !retry.allows(failed) {
            return None;
        }
        let pause = retry.random_pause(failed, retry_after)?;
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
}

impl<T, E> Debug for Ended<T, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ended")
            .field("verdict", &self.verdict)
            .field("asked", &self.asked)
            .finish_non_exhaustive()
    }
}
