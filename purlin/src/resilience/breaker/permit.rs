//! The leave to make one call.

use std::time::Duration;

use tokio::time::Instant;

use super::Breaker;
use super::machine::Generation;

/// The leave to make one call; give it the result. Dropped without one, it counts as the configuration's
/// `abandoned_after` says, and a probe's place is free again.
#[derive(Debug)]
#[must_use = "a permit that is dropped is a call that was given up"]
pub struct Permit<'a> {
    breaker: &'a Breaker,
    leave: Leave,
}

/// As [`Permit`], for a call that outlives the handle that let it through.
#[derive(Debug)]
#[must_use = "a permit that is dropped is a call that was given up"]
pub(in crate::resilience) struct OwnedPermit {
    breaker: Breaker,
    leave: Option<Leave>,
}

/// What a result is told with: in which generation the call was let through, and since when it takes time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leave {
    pub(super) generation: Generation,
    pub(super) since: Option<Duration>,
}

/// What an answer says about the callee.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Says {
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

    /// What the answer says, by whoever can tell.
    #[inline]
    pub(super) fn judged(self, says: Says) {
        match says {
            Says::Good => self.breaker.succeeded(self.leave, None),
            Says::Failed => self.breaker.failed(self.leave, None),
            Says::Nothing => self.breaker.told_nothing(self.leave),
        }
        std::mem::forget(self);
    }

    /// The call does not end at once: from now on it takes time.
    #[inline]
    pub(super) fn waits(&mut self) {
        self.breaker.waits(&mut self.leave);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.breaker.abandoned(self.leave, None);
    }
}

impl OwnedPermit {
    pub(super) fn new(breaker: Breaker, leave: Leave) -> Self {
        Self { breaker, leave: Some(leave) }
    }

    /// The callee answered, or, if it `failed`, it did not, or could not do its work.
    pub(in crate::resilience) fn judged(mut self, failed: bool) {
        if let Some(leave) = self.leave.take() {
            match failed {
                true => self.breaker.failed(leave, None),
                false => self.breaker.succeeded(leave, None),
            }
        }
    }

    /// The call does not end at once: from now on it takes time.
    pub(in crate::resilience) fn waits(&mut self) {
        if let Some(leave) = &mut self.leave {
            self.breaker.waits(leave);
        }
    }
}

impl Drop for OwnedPermit {
    fn drop(&mut self) {
        if let Some(leave) = self.leave.take() {
            self.breaker.abandoned(leave, None);
        }
    }
}
