//! The leave to make one call.

use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::clock::nanos;
use super::machine::Generation;
use super::{Breaker, Open, Ticket};

/// The leave to make one call; give it the result. Dropped without one, it counts as the configuration's
/// `abandoned_after` says, and a probe's place is free again.
#[derive(Debug)]
#[must_use = "a permit that is dropped is a call that was given up"]
pub struct Permit<'a> {
    breaker: &'a Breaker,
    leave: Leave,
}

/// As [`Permit`], or its refusal, for a call that outlives the handle that it asked. `B` is how the breaker is held
/// meanwhile.
#[derive(Debug)]
#[must_use = "a permit that is dropped is a call that was given up"]
pub(in crate::resilience) struct OwnedPermit<B: Deref<Target = Breaker>> {
    breaker: B,
    stands: Stands,
}

/// How it stands with a call.
#[derive(Debug, Clone, Copy)]
enum Stands {
    Let(Leave),
    /// It may ask again after so long.
    Refused(Duration),
    /// The breaker knows its result.
    Over,
}

/// What a result is told with: in which generation the call was let through, and since when it takes time.
///
/// Two numbers, which are passed in registers; what is larger is written to memory and read again, which costs several
/// times as much as all else that a good call does (`cargo xtask bench resilience`).
#[derive(Debug, Clone, Copy)]
pub(super) struct Leave {
    pub(super) generation: Generation,
    /// In nanoseconds since the breaker was made.
    since: u64,
}

impl Leave {
    /// No breaker lives for so many nanoseconds, which are centuries.
    const NOT_YET: u64 = u64::MAX;

    #[inline]
    pub(super) fn new(generation: Generation, since: Option<Duration>) -> Self {
        Self { generation, since: since.map_or(Self::NOT_YET, nanos) }
    }

    /// It takes time from now on, unless it did before.
    #[inline]
    pub(super) fn takes_time(&mut self, now: impl FnOnce() -> Duration) {
        if self.since == Self::NOT_YET {
            self.since = nanos(now());
        }
    }

    /// How much time it has taken, if it took any.
    #[inline]
    pub(super) fn took(self, now: Duration) -> Option<Duration> {
        let took = || now.saturating_sub(Duration::from_nanos(self.since));
        (self.since != Self::NOT_YET).then(took)
    }
}

/// What an answer says about the callee.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::resilience) enum Says {
    Good,
    Failed,
    Nothing,
}

impl From<bool> for Says {
    fn from(failed: bool) -> Self {
        if failed { Self::Failed } else { Self::Good }
    }
}

impl<'a> Permit<'a> {
    #[inline]
    pub(super) fn new(breaker: &'a Breaker, leave: Leave) -> Self {
        Self { breaker, leave }
    }

    /// The callee answered; that it refused the request is an answer too.
    #[inline]
    pub fn succeeded(self) {
        self.breaker.succeeded(self.leave, None);
        std::mem::forget(self);
    }

    /// As [`Permit::succeeded`], for those who know the time.
    #[inline]
    pub fn succeeded_at(self, now: Instant) {
        self.breaker.succeeded(self.leave, Some(now));
        std::mem::forget(self);
    }

    /// The callee did not answer, or could not do its work.
    pub fn failed(self, now: Instant) {
        self.breaker.failed(self.leave, Some(now));
        std::mem::forget(self);
    }

    /// The call was given up: what dropping the permit does, for those who know the time.
    pub fn abandoned(self, now: Instant) {
        self.breaker.abandoned(self.leave, Some(now));
        std::mem::forget(self);
    }

    /// The answer says nothing about the callee, however long it took: nothing is counted, and a probe's place is free
    /// again.
    pub fn told_nothing(self) {
        self.breaker.told_nothing(self.leave);
        std::mem::forget(self);
    }

    /// With what a probe's result is told if nobody waits for it; none for a call that is no probe. Asking takes no
    /// lock while the breaker is closed and nobody changes it.
    #[inline]
    pub fn ticket(&self) -> Option<Ticket> {
        Ticket::of(self.breaker, self.leave)
    }

    /// What the answer says, if nobody knows how long it took: where slow calls count, a good one says nothing.
    #[cold]
    pub(in crate::resilience) fn told_sometime(self, says: Says) {
        let says = match says {
            Says::Good if self.breaker.shared.gate.counts_slow() => Says::Nothing,
            says => says,
        };
        self.breaker.judged(Leave::new(self.leave.generation, None), says);
        std::mem::forget(self);
    }

    /// What the answer says, by whoever can tell.
    #[inline]
    pub(super) fn judged(self, says: Says) {
        self.breaker.judged(self.leave, says);
        std::mem::forget(self);
    }

    /// Goes on with the call; one that does not end at once takes time from now on.
    #[inline]
    pub(super) fn poll<F: Future>(&mut self, work: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let polled = work.poll(cx);
        if polled.is_pending() {
            self.breaker.waits(&mut self.leave);
        }
        polled
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.breaker.abandoned(self.leave, None);
    }
}

impl<B: Deref<Target = Breaker>> OwnedPermit<B> {
    /// As [`Breaker::enter`].
    #[inline]
    pub(in crate::resilience) fn enter(breaker: B) -> Self {
        let stands = match breaker.leave() {
            Ok(leave) => Stands::Let(leave),
            Err(retry_after) => Stands::Refused(retry_after),
        };
        Self { breaker, stands }
    }

    /// Whether the call may be made.
    #[inline]
    pub(in crate::resilience) fn is_let_through(&self) -> bool {
        matches!(self.stands, Stands::Let(_))
    }

    /// What one is told who is refused.
    #[inline]
    pub(in crate::resilience) fn refusal(&self) -> Open {
        match self.stands {
            Stands::Refused(retry_after) => self.breaker.refusal(retry_after),
            Stands::Let(_) | Stands::Over => unreachable!("who was let through calls, once"),
        }
    }

    /// What the answer says, by whoever can tell.
    #[inline]
    pub(in crate::resilience) fn judged(&mut self, says: Says) {
        if let Stands::Let(leave) = std::mem::replace(&mut self.stands, Stands::Over) {
            self.breaker.judged(leave, says);
        }
    }

    /// The call does not end at once: from now on it takes time.
    #[inline]
    pub(in crate::resilience) fn waits(&mut self) {
        if let Stands::Let(leave) = &mut self.stands {
            self.breaker.waits(leave);
        }
    }
}

impl<B: Deref<Target = Breaker>> Drop for OwnedPermit<B> {
    #[inline]
    fn drop(&mut self) {
        if let Stands::Let(leave) = self.stands {
            self.breaker.abandoned(leave, None);
        }
    }
}
