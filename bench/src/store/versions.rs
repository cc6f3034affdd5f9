//! The last version of each stream, for callers who commit on their own streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use purlin_bench::append::{BEFORE, STREAMS};

/// The last version of each stream; cheap to clone.
#[derive(Clone)]
pub(crate) struct Versions(Arc<Vec<AtomicU64>>);

impl Versions {
    /// As they are when each stream has its share of the events before.
    pub(crate) fn new() -> Self {
        Self((0..STREAMS).map(|_| AtomicU64::new(BEFORE / STREAMS)).collect::<Vec<_>>().into())
    }

    /// The last version of a stream, which is about to have so many events more.
    pub(crate) fn claim(&self, stream: u64, events: usize) -> u64 {
        self.0[stream as usize].fetch_add(events as u64, Ordering::Relaxed)
    }
}
