//! A warning that would fill the log is written now and then only.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Says when a warning may be written again; the first always may.
#[derive(Debug)]
pub struct Rarely {
    every: Duration,
    next: Mutex<Option<Instant>>,
}

impl Rarely {
    /// At most once in so long.
    pub fn every(every: Duration) -> Self {
        Self { every, next: Mutex::new(None) }
    }

    /// Whether to write it now.
    pub fn is_time(&self) -> bool {
        let now = Instant::now();
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if next.is_some_and(|next| now < next) {
            return false;
        }
        *next = Some(now + self.every);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_time_once_in_a_while() {
        let rarely = Rarely::every(Duration::from_secs(1));
        assert!(rarely.is_time());
        assert!(!rarely.is_time());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(rarely.is_time());
    }
}
