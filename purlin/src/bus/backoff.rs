//! Waiting longer and longer for a store that cannot be reached.

use std::time::Duration;

use crate::message::Uuid;

/// How often, and after which pauses, a failed handling is repeated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    /// How often a message is handled at most, the first time included.
    pub max_attempts: u32,
    /// The pause after the first failure; it doubles with each further one.
    pub first_delay: Duration,
    /// The longest pause.
    pub max_delay: Duration,
    /// Which part of a pause is random, from 0 to 1.
    pub jitter: f64,
}

impl Retry {
    /// The pause after failure number `attempt` (from 1), for a throw of the dice from 0 to 1.
    pub fn delay(&self, attempt: u32, dice: f64) -> Duration {
        let factor = 2f64.powi(attempt.saturating_sub(1).min(40).cast_signed());
        let full = (self.first_delay.as_secs_f64() * factor).min(self.max_delay.as_secs_f64());
        Duration::from_secs_f64(full * (1.0 - self.jitter * dice))
    }
}

/// Pauses that grow with each failure in a row.
#[derive(Debug)]
pub(super) struct Backoff {
    retry: Retry,
    failures: u32,
}

impl Backoff {
    pub(super) fn new(retry: Retry) -> Self {
        Self { retry, failures: 0 }
    }

    /// For a store of our own that cannot be written or read: it is asked again for as long as it takes.
    pub(super) fn store() -> Self {
        let (first_delay, max_delay) = (Duration::from_millis(20), Duration::from_secs(5));
        Self::new(Retry { max_attempts: u32::MAX, first_delay, max_delay, jitter: 0.5 })
    }

    /// For a commit that lost a race: the loser decides anew almost at once.
    pub(super) fn conflict() -> Self {
        let (first_delay, max_delay) = (Duration::from_millis(1), Duration::from_millis(50));
        Self::new(Retry { max_attempts: 16, first_delay, max_delay, jitter: 1.0 })
    }

    /// Waits; false when there have been as many attempts as there may be.
    pub(super) async fn pause(&mut self) -> bool {
        self.failures += 1;
        if self.failures >= self.retry.max_attempts {
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
