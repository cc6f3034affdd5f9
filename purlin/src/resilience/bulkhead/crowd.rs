//! How many are inside and how many wait, in one word, so that both are known at the same moment.

use super::sync::AtomicU64;
use super::sync::Ordering::{AcqRel, Acquire};

/// The number inside (32 bits), and the number waiting (32 bits). While somebody waits, only who holds the queue's lock
/// lets anybody in; anybody may leave at any time.
#[derive(Debug)]
pub(super) struct Crowd(AtomicU64);

/// A moment of a [`Crowd`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) inside: usize,
    pub(super) waiting: usize,
}

/// What became of one who came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    In,
    Waits,
    Refused,
}

const INSIDE: u64 = 1;
const WAITING: u64 = 1 << 32;

impl Moment {
    fn of(word: u64) -> Self {
        Self { inside: (word % WAITING) as usize, waiting: (word / WAITING) as usize }
    }
}

impl Crowd {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(super) fn now(&self) -> Moment {
        Moment::of(self.0.load(Acquire))
    }

    /// Lets one in if nobody waits and fewer than `places` are inside.
    #[inline]
    pub(super) fn enter(&self, places: usize) -> bool {
        let enters = |word| {
            let now = Moment::of(word);
            (now.waiting == 0 && now.inside < places).then_some(word + INSIDE)
        };
        self.0.fetch_update(AcqRel, Acquire, enters).is_ok()
    }

    /// Lets one in if fewer than `places` are inside, or to those who wait if they are fewer than `queue`. Only for who
    /// holds the queue's lock.
    pub(super) fn come(&self, places: usize, queue: usize) -> Came {
        let decide = |now: Moment| match now {
            now if now.inside < places => Came::In,
            now if now.waiting < queue => Came::Waits,
            _ => Came::Refused,
        };
        let comes = |word| match decide(Moment::of(word)) {
            Came::In => Some(word + INSIDE),
            Came::Waits => Some(word + WAITING),
            Came::Refused => None,
        };
        match self.0.fetch_update(AcqRel, Acquire, comes) {
            Ok(before) => decide(Moment::of(before)),
            Err(_) => Came::Refused,
        }
    }

    /// Lets one in who waits, if fewer than `places` are inside. Only for who holds the queue's lock.
    pub(super) fn call(&self, places: usize) -> bool {
        let comes = |word| (Moment::of(word).inside < places).then_some(word + INSIDE - WAITING);
        self.0.fetch_update(AcqRel, Acquire, comes).is_ok()
    }

    /// One who waits goes away. Only for who holds the queue's lock.
    pub(super) fn give_up(&self) {
        self.0.fetch_sub(WAITING, AcqRel);
    }

    /// One who is inside leaves; whether somebody waits.
    #[inline]
    pub(super) fn leave(&self) -> bool {
        Moment::of(self.0.fetch_sub(INSIDE, AcqRel)).waiting > 0
    }
}
