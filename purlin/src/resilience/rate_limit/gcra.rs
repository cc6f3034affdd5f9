//! The generic cell rate algorithm, over times in nanoseconds.

use std::time::Duration;

use super::{Limited, Quota, RateLimitConfig};

/// The limit as the algorithm wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gcra {
    pub(super) burst: u32,
    /// What one request costs; rounded up, so that no more than the rate is let through.
    pub(super) interval: u64,
    /// How far ahead the time of the full quota may be.
    tolerance: u64,
}

impl Gcra {
    pub(super) fn new(config: RateLimitConfig) -> Self {
        // From a billion a second to one in thirty years; what is no number is the latter.
        let interval = (1e9 / config.per_second.max(1e-9)).ceil().clamp(1.0, 1e18) as u64;
        Self::of(config.burst.max(1), interval)
    }

    fn of(burst: u32, interval: u64) -> Self {
        Self { burst, interval, tolerance: interval.saturating_mul(u64::from(burst)) }
    }

    /// One of `parts` equal parts of it. The burst is rounded up: no part is nothing.
    pub(super) fn part(&self, parts: u32) -> Self {
        let parts = parts.max(1);
        Self::of(self.burst.div_ceil(parts), self.interval.saturating_mul(u64::from(parts)))
    }

    /// The time at which the quota will be full, as it becomes, and the answer.
    pub(super) fn decide(&self, full_at: u64, now: u64) -> (u64, Result<Quota, Limited>) {
        let full_at = full_at.max(now);
        let next = full_at.saturating_add(self.interval);
        let ahead = next - now;
        if ahead > self.tolerance {
            let limited = Limited {
                limit: self.burst,
                retry_after: Duration::from_nanos(ahead - self.tolerance),
                reset_after: Duration::from_nanos(full_at - now),
            };
            return (full_at, Err(limited));
        }
        (next, Ok(self.quota(next, now)))
    }

    /// What is left of a quota that will be full at `full_at`.
    pub(super) fn quota(&self, full_at: u64, now: u64) -> Quota {
        let ahead = full_at.saturating_sub(now);
        Quota {
            limit: self.burst,
            remaining: (self.tolerance.saturating_sub(ahead) / self.interval) as u32,
            reset_after: Duration::from_nanos(ahead),
        }
    }
}
