//! Callers of one process who want to change the same aggregate take turns, once one of them has lost a race.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::resilience::{Retry, dice};
use crate::store::StreamId;

/// After so many lost races the rivals are not of this process: there is a pause before the next one.
const AT_ONCE: u32 = 2;

const PAUSES: Retry = Retry {
    max_attempts: u32::MAX,
    first_delay: Duration::from_millis(1),
    max_delay: Duration::from_millis(20),
    jitter: 1.0,
};

/// The turns of a repository: a queue for each aggregate that is contended, and none for the others.
///
/// Without turns a hundred callers of one aggregate would each lose to ninety-nine others, and decide in vain. So who
/// lost a race takes a turn, and while there is a queue, whoever comes joins it. Aggregates that nobody lost a race
/// for cost what they did before, and no aggregate waits for another.
///
/// A queue is there only while somebody stands in it: there are never more of them than callers.
#[derive(Default)]
pub(super) struct Turns {
    contended: Mutex<HashMap<StreamId, Queue>>,
}

#[derive(Default)]
struct Queue {
    turn: Arc<AsyncMutex<()>>,
    /// Those who wait, and the one whose turn it is.
    callers: usize,
}

/// One caller's attempts at one aggregate.
pub(super) struct Attempts<'a> {
    turns: &'a Turns,
    stream: &'a StreamId,
    turn: Option<Turn<'a>>,
    lost: u32,
}

/// It is this caller's turn. The next one's begins before this one leaves the queue.
struct Turn<'a> {
    _held: OwnedMutexGuard<()>,
    _place: Place<'a>,
}

/// A place in the queue for an aggregate.
struct Place<'a> {
    turns: &'a Turns,
    stream: &'a StreamId,
}

impl Turns {
    pub(super) fn of<'a>(&'a self, stream: &'a StreamId) -> Attempts<'a> {
        Attempts { turns: self, stream, turn: None, lost: 0 }
    }

    fn contended(&self) -> MutexGuard<'_, HashMap<StreamId, Queue>> {
        self.contended.lock().expect("no panic happens under the lock of the queues")
    }
}

impl<'a> Attempts<'a> {
    /// Waits until it makes sense to try, where others stand in a queue already.
    pub(super) async fn begin(&mut self) {
        let contended = self.turns.contended().contains_key(self.stream);
        if contended {
            self.turn = Some(self.queue().await);
        }
    }

    /// Somebody else was faster: waits for a turn, or a moment when the turn was no help. Who has the turn keeps it
    /// meanwhile: those behind him would meet the same rivals.
    pub(super) async fn lost(&mut self) {
        self.lost += 1;
        if self.turn.is_none() {
            self.turn = Some(self.queue().await);
        } else if self.lost > AT_ONCE {
            tokio::time::sleep(PAUSES.delay(self.lost - AT_ONCE, dice())).await;
        }
    }

    async fn queue(&self) -> Turn<'a> {
        let (place, turn) = Place::take(self.turns, self.stream);
        Turn { _held: turn.lock_owned().await, _place: place }
    }
}

impl<'a> Place<'a> {
    /// The place, and the turn to wait for.
    fn take(turns: &'a Turns, stream: &'a StreamId) -> (Self, Arc<AsyncMutex<()>>) {
        let mut contended = turns.contended();
        let queue = contended.entry(stream.clone()).or_default();
        queue.callers += 1;
        (Self { turns, stream }, Arc::clone(&queue.turn))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut contended = self.turns.contended();
        let Some(queue) = contended.get_mut(self.stream) else { return };
        queue.callers -= 1;
        if queue.callers == 0 {
            contended.remove(self.stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_queue_ends_with_the_last_who_stands_in_it_and_is_nobody_elses() {
        let (turns, hot) = (Turns::default(), StreamId::new("order", "hot").unwrap());
        let (mut first, mut second, mut left) = (turns.of(&hot), turns.of(&hot), turns.of(&hot));
        first.begin().now_or_never().expect("nobody has lost yet");
        second.begin().now_or_never().expect("nobody has lost yet");
        second.lost().now_or_never().expect("the first to lose has his turn at once");
        assert!(left.begin().now_or_never().is_none(), "who comes now joins the queue");
        for n in 0..1000 {
            let other = StreamId::new("order", n).unwrap();
            turns.of(&other).begin().now_or_never().expect("no other aggregate is waited for");
        }
        drop((first, second, left));
        assert!(turns.contended().is_empty(), "who left the queue is not waited for");
        turns.of(&hot).begin().now_or_never().expect("what was contended is not for ever");
    }
}
