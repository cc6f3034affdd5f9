//! A window of time, counted in ten parts.

use std::time::Duration;

use super::clock::nanos;

/// How many parts a window of time has.
pub(super) const PARTS: usize = 10;

/// How many calls there were, and how many of them were bad.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) calls: u64,
    pub(super) failed: u64,
    pub(super) slow: u64,
}

/// Which part of time an instant belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticks {
    /// What to multiply nanoseconds with, for the number of the part in the upper 64 bits: dividing takes longer than all
    /// else that counting a call takes.
    parts: u64,
}

impl Ticks {
    /// The parts of a window of this length, which is no longer than [`BreakerConfig::MAX_TIME`].
    ///
    /// [`BreakerConfig::MAX_TIME`]: super::BreakerConfig::MAX_TIME
    pub(super) fn of(window: Duration) -> Self {
        let part = (nanos(window) / PARTS as u64).max(2);
        // Rounded up: a part begins with its first nanosecond.
        Self { parts: u64::MAX / part + 1 }
    }

    #[inline]
    pub(super) fn at(self, now: Duration) -> u64 {
        ((u128::from(nanos(now)) * u128::from(self.parts)) >> u64::BITS) as u64
    }
}

/// The counts of the last ten parts, each in the place that its number modulo ten gives.
#[derive(Debug, Clone)]
pub(super) struct Buckets {
    ticks: Ticks,
    parts: [(u64, Counts); PARTS],
}

impl Buckets {
    pub(super) fn new(window: Duration) -> Self {
        Self { ticks: Ticks::of(window), parts: Default::default() }
    }

    pub(super) fn add(&mut self, now: Duration, counts: Counts) {
        self.add_at(self.ticks.at(now), counts);
    }

    /// Adds to a part, unless its place is a newer one's already: then it is older than the window.
    pub(super) fn add_at(&mut self, tick: u64, counts: Counts) {
        let (held, sum) = &mut self.parts[tick as usize % PARTS];
        if *held < tick {
            (*held, *sum) = (tick, Counts::default());
        }
        if *held == tick {
            sum.calls += counts.calls;
            sum.failed += counts.failed;
            sum.slow += counts.slow;
        }
    }

    /// The counts of the window that ends with the newest part that anybody has seen, at the earliest `now`.
    pub(super) fn counts(&self, now: Duration, elsewhere: Option<&Buckets>) -> Counts {
        let all = || self.parts.iter().chain(elsewhere.into_iter().flat_map(|other| &other.parts));
        let newest = all().map(|(tick, _)| *tick).fold(self.ticks.at(now), u64::max);
        let inside = all().filter(|(tick, _)| tick + PARTS as u64 > newest);
        inside.fold(Counts::default(), |sum, (_, part)| Counts {
            calls: sum.calls + part.calls,
            failed: sum.failed + part.failed,
            slow: sum.slow + part.slow,
        })
    }
}
