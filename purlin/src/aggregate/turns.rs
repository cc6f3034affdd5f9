//! Callers of one process who want to change the same aggregate take turns, once they have met.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};

use crate::resilience::{Retry, dice};
use crate::store::StreamId;

/// Aggregates share so many turns; two that share one wait for each other now and then, and nothing worse.
const TURNS: usize = 64;

/// After so many lost races the rivals are not of this process: there is a pause before the next one.
const AT_ONCE: u32 = 2;

const PAUSES: Retry = Retry {
    max_attempts: u32::MAX,
    first_delay: Duration::from_millis(1),
    max_delay: Duration::from_millis(20),
    jitter: 1.0,
};

/// The turns of a repository.
///
/// Whoever meets nobody takes none: an update then costs what it did before, and many aggregates are changed at once.
/// Without turns a hundred callers of one aggregate would each lose to ninety-nine others, and decide in vain.
pub(super) struct Turns {
    hasher: RandomState,
    turns: [Mutex<()>; TURNS],
}

impl Default for Turns {
    fn default() -> Self {
        Self { hasher: RandomState::new(), turns: std::array::from_fn(|_| Mutex::default()) }
    }
}

/// One caller's attempts at one aggregate.
pub(super) struct Attempts<'a> {
    turn: &'a Mutex<()>,
    held: Option<MutexGuard<'a, ()>>,
    lost: u32,
}

impl Turns {
    pub(super) fn of(&self, stream: &StreamId) -> Attempts<'_> {
        let index = self.hasher.hash_one(stream) as usize % TURNS;
        Attempts { turn: &self.turns[index], held: None, lost: 0 }
    }
}

impl Attempts<'_> {
    /// Waits until it makes sense to try, where others are waiting already.
    pub(super) async fn begin(&mut self) {
        if self.turn.try_lock().is_err() {
            self.held = Some(self.turn.lock().await);
        }
    }

    /// Somebody else was faster: waits for a turn, or a moment when the turn was no help.
    pub(super) async fn lost(&mut self) {
        self.lost += 1;
        if self.held.is_none() {
            self.held = Some(self.turn.lock().await);
        } else if self.lost > AT_ONCE {
            tokio::time::sleep(PAUSES.delay(self.lost - AT_ONCE, dice())).await;
        }
    }
}
