//! Counters that many threads add to without meeting, in a line for each of the first threads of a process.

use std::time::Duration;

use crate::resilience::per_thread::Lines;

use super::buckets::{Buckets, Counts, PARTS, Ticks};
use super::sync::{AtomicU64, Ordering, number};

/// A number that only grows.
#[derive(Debug)]
pub(super) struct Tally {
    lines: Lines<AtomicU64>,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self { lines: Lines::new(|| AtomicU64::new(0)) }
    }

    #[inline]
    pub(super) fn add(&self) {
        match self.lines.at(number()) {
            (own, true) => own.store(own.load(Ordering::Relaxed) + 1, Ordering::Relaxed),
            (shared, false) => {
                shared.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn sum(&self) -> u64 {
        self.lines.iter().map(|line| line.load(Ordering::Relaxed)).sum()
    }
}

/// The good calls of a window of time, by the generation and the part of time in which they ended.
#[derive(Debug)]
pub(super) struct Successes {
    window: Duration,
    ticks: Ticks,
    lines: Lines<[AtomicU64; PARTS]>,
}

/// A part's count in one word: generation (10 bits), number of the part (26), calls (28). Of the first two only the lower
/// bits are kept, so that whether one is behind another can be said only where they are near.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Part(u64);

impl Part {
    const CALLS_BITS: u32 = 28;
    const TICK_BITS: u32 = 26;
    const CALLS: u64 = (1 << Self::CALLS_BITS) - 1;
    /// A call that comes so many generations late, or fewer, is late; one that seems to be later was very long ago what
    /// stands in its place.
    const LATE_GENERATIONS: i32 = 64;
    /// The same for parts of time.
    const LATE_TICKS: i32 = 1 << 20;

    fn new(generation: u32, tick: u64) -> Self {
        let tick = tick & ((1 << Self::TICK_BITS) - 1);
        Self(u64::from(generation) << (Self::TICK_BITS + Self::CALLS_BITS) | tick << Self::CALLS_BITS)
    }

    fn calls(self) -> u64 {
        self.0 & Self::CALLS
    }

    fn tag(self) -> u64 {
        self.0 >> Self::CALLS_BITS
    }

    /// How many parts of time this is ahead of another, or behind it.
    fn ahead_of(self, other: Self) -> i32 {
        let unused = u32::BITS - Self::TICK_BITS;
        ((self.tag() as u32) << unused).wrapping_sub((other.tag() as u32) << unused) as i32 >> unused
    }

    /// How many generations.
    fn generations_ahead_of(self, other: Self) -> i32 {
        let generation = |part: Self| (part.0 >> u32::BITS) as u32 & (u32::MAX << (u32::BITS - 10));
        generation(self).wrapping_sub(generation(other)) as i32 >> (u32::BITS - 10)
    }

    /// What stands in the place of this part after one more call in `new`; none if that one came too late.
    #[inline]
    fn with_one_of(self, new: Self) -> Option<u64> {
        if self.tag() == new.tag() {
            return Some(self.0 + u64::from(self.calls() < Self::CALLS));
        }
        let late = match self.generations_ahead_of(new) {
            0 => (1..=Self::LATE_TICKS).contains(&self.ahead_of(new)),
            generations => (1..=Self::LATE_GENERATIONS).contains(&generations),
        };
        // Where nothing was counted nobody can be late.
        (!late || self.calls() == 0).then_some(new.0 + 1)
    }
}

impl Successes {
    pub(super) fn new(window: Duration) -> Self {
        let empty = || std::array::from_fn(|_| AtomicU64::new(0));
        Self { window, ticks: Ticks::of(window), lines: Lines::new(empty) }
    }

    #[inline]
    pub(super) fn add(&self, generation: u32, now: Duration) {
        let tick = self.ticks.at(now);
        let (parts, own) = self.lines.at(number());
        let place = &parts[tick as usize % PARTS];
        let new = Part::new(generation, tick);
        let mut held = place.load(Ordering::Relaxed);
        while let Some(next) = Part(held).with_one_of(new) {
            if own {
                return place.store(next, Ordering::Relaxed);
            }
            match place.compare_exchange_weak(held, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(other) => held = other,
            }
        }
    }

    /// The counts of a generation; `now` only says which million of parts is meant.
    pub(super) fn of(&self, generation: u32, now: Duration) -> Buckets {
        let (tick, mut sum) = (self.ticks.at(now), Buckets::new(self.window));
        let present = Part::new(generation, tick);
        for place in self.lines.iter().flatten() {
            let part = Part(place.load(Ordering::Relaxed));
            let held = tick.checked_add_signed(part.ahead_of(present).into());
            if let Some(held) = held.filter(|_| part.calls() > 0 && part.generations_ahead_of(present) == 0) {
                sum.add_at(held, Counts { calls: part.calls(), ..Counts::default() });
            }
        }
        sum
    }
}
