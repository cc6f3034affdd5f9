//! The leave to make one call.

use tokio::time::Instant;

use super::Breaker;
use super::machine::{Generation, Outcome};

/// The leave to make one call; give it the result. Dropped without one, it counts as the configuration's
/// `abandoned_after` says.
#[derive(Debug)]
#[must_use = "a permit that is dropped is a call that was given up"]
pub struct Permit<'a> {
    breaker: &'a Breaker,
    generation: Generation,
    since: Instant,
}

impl<'a> Permit<'a> {
    pub(super) fn new(breaker: &'a Breaker, generation: Generation, since: Instant) -> Self {
        Self { breaker, generation, since }
    }

    /// The callee answered; that it refused the request is an answer too.
    pub fn succeeded(self) {
        self.breaker.succeeded(self.generation);
        std::mem::forget(self);
    }

    /// The callee did not answer, or could not do its work.
    pub fn failed(self, now: Instant) {
        self.breaker.settle(self.generation, Outcome::Failure, now);
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        let took = now.saturating_duration_since(self.since);
        let outcome = match took >= self.breaker.config().abandoned_after {
            true => Outcome::Failure,
            false => Outcome::Abandoned,
        };
        self.breaker.settle(self.generation, outcome, now);
    }
}
