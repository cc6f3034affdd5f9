//! A limit on how much is under way at once, so that one slow callee does not take all there is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as friendly;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::message::{Fault, FaultKind};

use super::Deadline;

/// How much may be under way, and how much may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BulkheadConfig {
    /// How many may be under way at once; at least 1.
    pub max_under_way: usize,
    /// How many more may wait; the next one is refused.
    pub max_waiting: usize,
    /// How long one waits at most; never past its deadline.
    #[serde(with = "friendly")]
    pub max_wait: Duration,
}

/// Limits what is under way at once; cheap to clone.
#[derive(Debug, Clone)]
pub struct Bulkhead {
    config: BulkheadConfig,
    places: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

impl Bulkhead {
    /// With nobody inside.
    pub fn new(config: BulkheadConfig) -> Self {
        let places = config.max_under_way.clamp(1, Semaphore::MAX_PERMITS);
        Self { config, places: Arc::new(Semaphore::new(places)), waiting: Arc::default() }
    }

    /// A place inside, which is free again when it is dropped. Who came first enters first.
    pub async fn enter(&self) -> Result<Place, Full> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(Place(place));
        }
        let _waiting = Waiting::start(&self.waiting, self.config.max_waiting).ok_or(Full)?;
        let until = Deadline::after(self.config.max_wait);
        match until.enforce(Arc::clone(&self.places).acquire_owned()).await {
            Ok(place) => Ok(Place(place.expect("the semaphore is never closed"))),
            Err(_) => Err(Full),
        }
    }

    /// How many more could enter at once.
    pub fn free(&self) -> usize {
        self.places.available_permits()
    }
}

/// A place in a [`Bulkhead`].
#[derive(Debug)]
#[must_use = "a place that is dropped is free again"]
pub struct Place(#[expect(dead_code, reason = "it is held to be dropped")] OwnedSemaphorePermit);

/// As much as can be is under way or waiting. Nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("as much as can be is under way already")]
pub struct Full;

impl Fault for Full {
    fn kind(&self) -> FaultKind {
        FaultKind::Overloaded
    }
}

/// One that waits, for as long as this lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn start(waiting: &'a AtomicUsize, max: usize) -> Option<Self> {
        let one_more = |waiting| (waiting < max).then_some(waiting + 1);
        waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Self(waiting))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn bulkhead(max_under_way: usize, max_waiting: usize) -> Bulkhead {
        Bulkhead::new(BulkheadConfig { max_under_way, max_waiting, max_wait: SECOND })
    }

    #[tokio::test(start_paused = true)]
    async fn one_enters_when_another_leaves() {
        let bulkhead = bulkhead(1, 1);
        let first = bulkhead.enter().await.unwrap();
        let second = async { bulkhead.enter().await.is_ok() };
        let leave = async {
            tokio::time::sleep(SECOND / 2).await;
            assert_eq!(bulkhead.free(), 0);
            drop(first);
        };
        assert!(tokio::join!(second, leave).0);
        assert_eq!(bulkhead.free(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_would_wait_behind_too_many_or_for_too_long_is_refused() {
        let (bulkhead, start) = (bulkhead(1, 1), Instant::now());
        let _inside = bulkhead.enter().await.unwrap();
        let waits = async { (bulkhead.enter().await.unwrap_err(), start.elapsed()) };
        let refused = async { (bulkhead.enter().await.unwrap_err(), start.elapsed()) };
        assert_eq!(tokio::join!(waits, refused), ((Full, SECOND), (Full, Duration::ZERO)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_waiting_leaves_the_queue() {
        let bulkhead = bulkhead(1, 1);
        let inside = bulkhead.enter().await.unwrap();
        for _ in 0..10 {
            assert!(tokio::time::timeout(SECOND / 10, bulkhead.enter()).await.is_err());
        }
        drop(inside);
        assert!(bulkhead.enter().await.is_ok());
    }
}
