//! What waits to be asked: each key once, and no more than there is room for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{Key, Shared};

/// A key of a limit whose count is to be asked for.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) limit: Arc<Shared>,
    pub(super) hash: u64,
    pub(super) key: Key,
}

/// The queue between requests and the one who asks.
#[derive(Debug, Default)]
pub(super) struct Asks {
    waiting: Mutex<VecDeque<Waiting>>,
    come: Notify,
}

impl Asks {
    const ROOM: usize = 10_000;

    /// Adds one; not if there is no room.
    pub(super) fn add(&self, waiting: Waiting) -> Result<(), Waiting> {
        let mut all = self.lock();
        if all.len() >= Self::ROOM {
            return Err(waiting);
        }
        all.push_back(waiting);
        drop(all);
        self.come.notify_one();
        Ok(())
    }

    /// The next ones, at least one.
    pub(super) async fn next(&self, most: usize) -> Vec<Waiting> {
        loop {
            let come = self.come.notified();
            let next = self.take(most);
            if !next.is_empty() {
                return next;
            }
            come.await;
        }
    }

    /// Those that wait now, at most so many.
    pub(super) fn take(&self, most: usize) -> Vec<Waiting> {
        let mut all = self.lock();
        let some = all.len().min(most);
        all.drain(..some).collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
