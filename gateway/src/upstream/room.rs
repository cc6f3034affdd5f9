//! How much may be under way at once, so that a service that hangs does not take what the others need.

use std::sync::Arc;

use purlin::telemetry::metrics::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Room for so many requests. Nobody waits for it: who hangs is not helped by a queue.
#[derive(Debug)]
pub(crate) struct Room {
    places: Arc<Semaphore>,
    taken: Gauge,
}

/// A place for one request, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    taken: Gauge,
    _permit: OwnedSemaphorePermit,
}

impl Room {
    /// Room for so many, of which `taken` shows how many are taken.
    pub(crate) fn new(most: usize, taken: Gauge) -> Self {
        Self { places: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))), taken }
    }

    /// A place, unless all are taken.
    pub(crate) fn enter(&self) -> Option<Place> {
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        self.taken.inc();
        Some(Place { taken: self.taken.clone(), _permit: permit })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.dec();
    }
}
