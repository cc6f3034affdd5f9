//! What is measured of answers, by many at once and without a lock.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::adaptive::Window;

/// The measurements of a window: how many answers and their sum in microseconds (24 and 40 bits of one word), the
/// largest number under way, the signs of overload.
#[derive(Debug, Default)]
pub(super) struct Measure {
    answers: AtomicU64,
    most: AtomicUsize,
    overloaded: AtomicU32,
    /// When the window may end, in nanoseconds since the bulkhead was made.
    ends: AtomicU64,
}

impl Measure {
    const SUM_BITS: u32 = 40;
    const SUM: u64 = (1 << Self::SUM_BITS) - 1;
    /// Longer than any attempt: 18 minutes. A thousand of them fit the sum.
    const LONGEST: u64 = 1 << 30;

    pub(super) fn answered(&self, took: Duration, under_way: usize) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).min(Self::LONGEST);
        self.answers.fetch_add(1 << Self::SUM_BITS | micros, Ordering::Relaxed);
        if under_way > self.most.load(Ordering::Relaxed) {
            self.most.fetch_max(under_way, Ordering::Relaxed);
        }
    }

    pub(super) fn overloaded(&self) {
        self.overloaded.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the window's time is over.
    pub(super) fn is_over(&self, now: Duration) -> bool {
        nanos(now) >= self.ends.load(Ordering::Relaxed)
    }

    /// The window, if it holds enough; another begins, which ends then.
    pub(super) fn take(&self, min_answers: u32, ends: Duration) -> Option<Window> {
        let count = (self.answers.load(Ordering::Relaxed) >> Self::SUM_BITS) as u32;
        if count.saturating_add(self.overloaded.load(Ordering::Relaxed)) < min_answers {
            return None;
        }
        self.ends.store(nanos(ends), Ordering::Relaxed);
        let answers = self.answers.swap(0, Ordering::Relaxed);
        let (count, sum) = (answers >> Self::SUM_BITS, answers & Self::SUM);
        let mean = if count == 0 { 0.0 } else { sum as f64 / count as f64 / 1e6 };
        let (most, overloaded) =
            (self.most.swap(0, Ordering::Relaxed), self.overloaded.swap(0, Ordering::Relaxed));
        Some(Window { mean, most, answers: count as u32, overloaded })
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
