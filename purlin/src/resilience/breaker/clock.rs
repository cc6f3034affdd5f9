//! What time it is for a breaker.

use std::time::Duration;

use tokio::time::Instant;

/// What a breaker reads the time from, where nobody tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BreakerClock {
    /// tokio's clock, which a test may stop.
    #[default]
    Tokio,
    /// The kernel's coarse monotonic clock: a few milliseconds behind, and several times as fast to read. A test's
    /// stopped clock does not stop it. Where there is none, the usual one.
    Coarse,
}

/// The time since a breaker was made.
#[derive(Debug)]
pub(super) struct Time {
    origin: Instant,
    /// In nanoseconds.
    coarse: Option<u64>,
}

impl Time {
    pub(super) fn start(clock: BreakerClock) -> Self {
        let coarse = match clock {
            BreakerClock::Tokio => None,
            BreakerClock::Coarse => coarse_now(),
        };
        Self { origin: Instant::now(), coarse }
    }

    #[inline]
    pub(super) fn now(&self) -> Duration {
        match self.coarse {
            Some(origin) => Duration::from_nanos(coarse_now().unwrap_or_default().saturating_sub(origin)),
            None => self.since(Instant::now()),
        }
    }

    #[inline]
    pub(super) fn since(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.origin)
    }

    pub(super) fn instant(&self, since: Duration) -> Instant {
        self.origin + since
    }
}

/// A span in nanoseconds; those that have more than fit are centuries.
#[inline]
pub(super) fn nanos(span: Duration) -> u64 {
    span.as_secs().wrapping_mul(1_000_000_000).wrapping_add(span.subsec_nanos().into())
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[inline]
fn coarse_now() -> Option<u64> {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    // The monotonic clock begins at the start of the machine, and its nanoseconds are below a second.
    Some(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn coarse_now() -> Option<u64> {
    None
}
