//! Waiting longer and longer: for a store that cannot be reached, or after a lost race.

use std::time::Duration;

use crate::message::Uuid;
use crate::resilience::Retry;

/// Pauses that grow with each failure in a row.
#[derive(Debug)]
pub(super) struct Backoff {
    retry: Retry,
    failures: u32,
}

impl Backoff {
    /// For a store of our own that cannot be written or read: it is asked again for as long as it takes.
    pub(super) fn store() -> Self {
        let (first_delay, max_delay) = (Duration::from_millis(20), Duration::from_secs(5));
        Self { retry: Retry { max_attempts: u32::MAX, first_delay, max_delay, jitter: 0.5 }, failures: 0 }
    }

    /// For a commit that lost a race: the loser decides anew almost at once.
    pub(super) fn conflict() -> Self {
        let (first_delay, max_delay) = (Duration::from_millis(1), Duration::from_millis(50));
        Self { retry: Retry { max_attempts: 16, first_delay, max_delay, jitter: 1.0 }, failures: 0 }
    }

    /// Waits; false when there have been as many attempts as there may be.
    pub(super) async fn pause(&mut self) -> bool {
        self.failures = self.failures.saturating_add(1);
        if !self.retry.allows(self.failures) {
            return false;
        }
        tokio::time::sleep(self.retry.delay(self.failures, dice())).await;
        true
    }
}

/// A random number from 0 to 1.
pub(super) fn dice() -> f64 {
    f64::from(Uuid::new_v4().as_u128() as u32) / f64::from(u32::MAX)
}
