//! The pause between attempts.

use std::time::Duration;

/// How often, and with which pauses, something is tried again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    /// Attempts in all; `u32::MAX` is for ever.
    pub max_attempts: u32,
    /// The pause after the first attempt; each later one is twice as long.
    pub first_delay: Duration,
    /// The longest pause.
    pub max_delay: Duration,
    /// Which part of a pause is left to the dice, from 0 to 1.
    pub jitter: f64,
}

impl Retry {
    /// The pause after `attempt` (from 1); `dice` is from 0 to 1.
    pub fn delay(&self, attempt: u32, dice: f64) -> Duration {
        let factor = 2f64.powi(attempt.saturating_sub(1).min(60) as i32);
        let full = self.first_delay.as_secs_f64() * factor;
        let full = full.min(self.max_delay.as_secs_f64());
        Duration::from_secs_f64(full * (1.0 - self.jitter * dice))
    }
}

impl Retry {
    /// A step is tried until its saga's deadline.
    pub(super) fn of_steps() -> Self {
        let (first_delay, max_delay) = (Duration::from_millis(100), Duration::from_secs(10));
        Self { max_attempts: u32::MAX, first_delay, max_delay, jitter: 0.2 }
    }

    /// A compensation is tried for ever.
    pub(super) fn of_compensations() -> Self {
        let (first_delay, max_delay) = (Duration::from_millis(100), Duration::from_secs(60));
        Self { max_attempts: u32::MAX, first_delay, max_delay, jitter: 0.2 }
    }
}

/// A number from 0 to 1, drawn anew each time.
pub(super) fn dice() -> f64 {
    (uuid::Uuid::new_v4().as_u128() >> 75) as f64 / (1u64 << 53) as f64
}
