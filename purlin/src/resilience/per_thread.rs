//! Something for each thread, so that many can use it without meeting.
//!
//! The first threads of a process have a line of their own each, the others share the last one. Where a line is a thread's
//! own, no other thread writes there: a count can be a load and a store, and a counted reference is nobody else's to count.

use std::ops::Deref;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Lines that belong to one thread each, at most.
const MAX_OWN: usize = 16;

fn own_lines() -> usize {
    static OWN: OnceLock<usize> = OnceLock::new();
    *OWN.get_or_init(|| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        // Beside the runtime's workers there is at least the main thread.
        (cores + 2).min(MAX_OWN)
    })
}

/// What never stands in one cache line with anything else, nor in the one that is fetched together with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[repr(align(128))]
pub(super) struct Apart<T>(pub(super) T);

impl<T> Deref for Apart<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A line for each of the first threads, and one for all others.
#[derive(Debug)]
pub(super) struct Lines<T> {
    lines: Box<[Apart<T>]>,
}

impl<T> Lines<T> {
    pub(super) fn new(make: impl Fn() -> T) -> Self {
        Self { lines: (0..=own_lines()).map(|_| Apart(make())).collect() }
    }

    /// The line of whoever has this [`number`], and whether it is his own.
    #[inline]
    pub(super) fn at(&self, number: Option<usize>) -> (&T, bool) {
        let shared = self.lines.len() - 1;
        match number {
            Some(own) if own < shared => (&self.lines[own].0, true),
            _ => (&self.lines[shared].0, false),
        }
    }

    /// This thread's line.
    #[inline]
    pub(super) fn here(&self) -> &T {
        self.at(number()).0
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.lines.iter().map(|line| &line.0)
    }
}

/// Numbers of threads that have ended, and the first that was never given.
#[derive(Debug)]
pub(super) struct Free {
    returned: Vec<usize>,
    next: usize,
}

static FREE: Mutex<Free> = Mutex::new(Free::new());

struct Number(usize);

thread_local! {
    static NUMBER: Number = Number::take();
}

/// This thread's number, a small one, which is its own for as long as it lives; none while it is being torn down.
#[inline]
pub(super) fn number() -> Option<usize> {
    NUMBER.try_with(|number| number.0).ok()
}

impl Free {
    pub(super) const fn new() -> Self {
        Self { returned: Vec::new(), next: 0 }
    }

    /// The lowest that no living thread has.
    pub(super) fn take(&mut self) -> usize {
        if let Some(lowest) = (0..self.returned.len()).min_by_key(|index| self.returned[*index]) {
            return self.returned.swap_remove(lowest);
        }
        self.next += 1;
        self.next - 1
    }

    pub(super) fn give_back(&mut self, number: usize) {
        self.returned.push(number);
    }
}

impl Number {
    /// The lock hands what an earlier owner wrote to the next (`breaker/interleavings.rs`).
    fn take() -> Self {
        Self(FREE.lock().unwrap_or_else(PoisonError::into_inner).take())
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        FREE.lock().unwrap_or_else(PoisonError::into_inner).give_back(self.0);
    }
}
