//! A place among those that are under way.

use tokio::time::Instant;

use super::Bulkhead;

/// A place in a [`Bulkhead`]; dropped, it is free again and says nothing about the callee.
#[derive(Debug)]
#[must_use = "a place that is dropped is free again"]
pub struct Place<'a> {
    bulkhead: &'a Bulkhead,
    since: Instant,
}

impl<'a> Place<'a> {
    pub(super) fn new(bulkhead: &'a Bulkhead, since: Instant) -> Self {
        Self { bulkhead, since }
    }

    /// The callee answered: how long it took is a measurement, if places adapt.
    pub fn answered(self, now: Instant) {
        self.bulkhead.answered(now.saturating_duration_since(self.since), now);
    }

    /// The callee said that it has too much to do, or did not answer in all the time that an answer may take.
    pub fn overloaded(self, now: Instant) {
        self.bulkhead.overloaded(now);
    }

    /// The answer was not there when somebody's deadline passed. If that was shorter than answers may usually take, it
    /// says nothing.
    pub fn late(self, now: Instant) {
        self.bulkhead.late(now.saturating_duration_since(self.since), now);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.bulkhead.leave();
    }
}
