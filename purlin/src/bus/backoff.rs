//! Waiting longer and longer: for a store that cannot be reached, or after a lost race.

use std::time::Duration;

use tokio::time::Instant;

use crate::resilience::{Retry, dice};

/// Pauses that grow with each failure in a row.
#[derive(Debug)]
pub(crate) struct Backoff {
    retry: Retry,
    failures: u32,
    /// After a time without a failure the next one is a first one again.
    forgets_after: Option<Duration>,
    last: Option<Instant>,
}

impl Backoff {
    /// For a store of our own that cannot be written or read: it is asked again for as long as it takes.
    pub(crate) fn store() -> Self {
        let (first_delay, max_delay) = (Duration::from_millis(20), Duration::from_secs(5));
        let retry = Retry { max_attempts: u32::MAX, first_delay, max_delay, jitter: 0.5 };
        Self { retry, failures: 0, forgets_after: Some(2 * max_delay), last: None }
    }

    /// For a commit that lost a race: the loser decides anew almost at once.
    pub(crate) fn conflict() -> Self {
        let (first_delay, max_delay) = (Duration::from_millis(1), Duration::from_millis(50));
        let retry = Retry { max_attempts: 16, first_delay, max_delay, jitter: 1.0 };
        Self { retry, failures: 0, forgets_after: None, last: None }
    }

    /// Waits; false when there have been as many attempts as there may be.
    pub(crate) async fn pause(&mut self) -> bool {
        let quiet = self.last.map(|last| last.elapsed());
        if quiet.zip(self.forgets_after).is_some_and(|(quiet, enough)| quiet >= enough) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        if !self.retry.allows(self.failures) {
            return false;
        }
        tokio::time::sleep(self.retry.delay(self.failures, dice())).await;
        self.last = Some(Instant::now());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failure_long_after_the_last_one_is_a_first_one() {
        let mut backoff = Backoff::store();
        for _ in 0..50 {
            backoff.pause().await;
        }
        let pause = async |backoff: &mut Backoff| {
            let began = Instant::now();
            backoff.pause().await;
            began.elapsed()
        };
        assert!(pause(&mut backoff).await > Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(pause(&mut backoff).await < Duration::from_millis(50));
    }
}
