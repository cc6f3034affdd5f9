//! Work of a fixed capacity: so many at once, each for so long, by a timer and not by the CPU.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

/// Where work is done; what it can do a second is `places` over the service time.
#[derive(Debug)]
pub(super) struct Station {
    places: Semaphore,
    service_ms: AtomicU64,
    /// Every so many fail at once, taking no place; 0: none.
    fails_each: AtomicU64,
    received: AtomicU64,
    answered: AtomicU64,
    under_way: AtomicUsize,
    most: AtomicUsize,
}

impl Station {
    /// A station that does so much at once, each piece in so many milliseconds.
    pub(super) fn new(places: usize, service_ms: u64) -> Self {
        Self {
            places: Semaphore::new(places),
            service_ms: AtomicU64::new(service_ms),
            fails_each: AtomicU64::new(0),
            received: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            under_way: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        }
    }

    /// From now on a piece of work takes so long.
    pub(super) fn take(&self, service_ms: u64) {
        self.service_ms.store(service_ms, Ordering::Relaxed);
    }

    /// From now on every so many fail; 0: none.
    pub(super) fn fail(&self, each: u64) {
        self.fails_each.store(each, Ordering::Relaxed);
    }

    /// Does a piece of work, when it is its turn; what is dropped leaves the queue. Whether it was done.
    pub(super) async fn work(&self) -> bool {
        let received = self.received.fetch_add(1, Ordering::Relaxed);
        let each = self.fails_each.load(Ordering::Relaxed);
        if each > 0 && received.is_multiple_of(each) {
            return false;
        }
        let _under_way = UnderWay::begin(self);
        let _place = self.places.acquire().await.expect("nobody closes the semaphore");
        tokio::time::sleep(Duration::from_millis(self.service_ms.load(Ordering::Relaxed))).await;
        self.answered.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// What it has done, and how much is here now, in work or waiting.
    pub(super) fn said(&self) -> [(&'static str, f64); 4] {
        [
            ("received", self.received.load(Ordering::Relaxed) as f64),
            ("answered", self.answered.load(Ordering::Relaxed) as f64),
            ("under_way", self.under_way.load(Ordering::Relaxed) as f64),
            ("most_under_way", self.most.load(Ordering::Relaxed) as f64),
        ]
    }
}

/// One that is here, for as long as this lives.
struct UnderWay<'a>(&'a Station);

impl<'a> UnderWay<'a> {
    fn begin(station: &'a Station) -> Self {
        let now = station.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        station.most.fetch_max(now, Ordering::Relaxed);
        Self(station)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}
