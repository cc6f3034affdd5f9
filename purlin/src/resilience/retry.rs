//! When one call is tried again.
//!
//! Pauses double, and by default all of each is left to chance ("full jitter", Marc Brooker, *Exponential Backoff And
//! Jitter*, AWS Architecture Blog 2015): of those who failed together, few then come back together.

use std::time::Duration;

use crate::message::Uuid;
use jiff::fmt::serde::unsigned_duration::friendly::compact::required as friendly;
use serde::{Deserialize, Serialize};

/// How often, and after which pauses, something that failed is tried again. In files, pauses are written
/// `50ms`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// All attempts together, the first one included; `u32::MAX` is for ever.
    pub max_attempts: u32,
    /// The pause behind the first failure; it doubles with each further one.
    #[serde(with = "friendly")]
    pub first_delay: Duration,
    /// No pause is longer.
    #[serde(with = "friendly")]
    pub max_delay: Duration,
    /// Which part of a pause is left to chance, from 0 (none) to 1 (all of it), so that many who failed
    /// together do not come back together.
    pub jitter: f64,
}

impl Default for Retry {
    /// 3 attempts, with pauses of up to 50 and 100 ms, all of each left to chance.
    fn default() -> Self {
        Self {
            max_attempts: 3,
            first_delay: Duration::from_millis(50),
            max_delay: Duration::from_secs(2),
            jitter: 1.0,
        }
    }
}

impl Retry {
    /// One attempt only.
    pub const NEVER: Self =
        Self { max_attempts: 1, first_delay: Duration::ZERO, max_delay: Duration::ZERO, jitter: 0.0 };

    /// Whether, after `failed` attempts, there may be another one.
    pub fn allows(&self, failed: u32) -> bool {
        failed < self.max_attempts || self.max_attempts == u32::MAX
    }

    /// The pause behind the `attempt`th failure, counted from 1; `dice` is a number from 0 to 1.
    pub fn delay(&self, attempt: u32, dice: f64) -> Duration {
        let doublings = attempt.saturating_sub(1).min(63);
        let nanos = self.first_delay.as_nanos().saturating_mul(1 << doublings).min(self.max_delay.as_nanos());
        let left_to_chance = self.jitter.clamp(0.0, 1.0) * dice.clamp(0.0, 1.0);
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        Duration::from_nanos((nanos as f64 * (1.0 - left_to_chance)) as u64)
    }

    /// The pause behind the `failed`th failure, when whoever failed asked to be left alone for so long: a pause of our own
    /// comes on top of that, so that of all who were told the same few come at once. None: he said never
    /// ([`Duration::MAX`]). Of anything else a day at the most is believed, as it comes from outside.
    pub fn pause(&self, failed: u32, told: Option<Duration>, dice: f64) -> Option<Duration> {
        const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
        let told = told.unwrap_or_default();
        (told < Duration::MAX).then(|| told.min(LONGEST).saturating_add(self.delay(failed, dice)))
    }

    /// The same, with chance drawn here.
    pub fn random_pause(&self, failed: u32, told: Option<Duration>) -> Option<Duration> {
        self.pause(failed, told, dice())
    }
}

/// A number from 0 to 1, drawn anew each time: for [`Retry::delay`] and [`Retry::pause`].
pub(crate) fn dice() -> f64 {
    f64::from(Uuid::new_v4().as_u128() as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn pauses_double_up_to_the_longest() {
        let retry = Retry { max_attempts: 9, first_delay: 50 * MS, max_delay: 300 * MS, jitter: 0.5 };
        let pauses: Vec<_> = (1..6).map(|attempt| retry.delay(attempt, 0.0)).collect();
        assert_eq!(pauses, [50 * MS, 100 * MS, 200 * MS, 300 * MS, 300 * MS]);
        assert_eq!(retry.delay(2, 1.0), 50 * MS);
        assert_eq!(retry.delay(u32::MAX, 0.0), 300 * MS);
    }

    #[test]
    fn whoever_asks_to_be_left_alone_is_for_a_day_at_the_most_unless_he_says_never() {
        let retry = Retry { first_delay: 50 * MS, jitter: 0.0, ..Retry::default() };
        let pause = |told| retry.pause(1, told, 0.0);
        assert_eq!(pause(None), Some(50 * MS));
        assert_eq!(pause(Some(7 * MS)), Some(57 * MS));
        let day = Duration::from_secs(86_400);
        for odd in [2 * day, Duration::from_secs(u64::MAX)] {
            assert_eq!(pause(Some(odd)), Some(day + 50 * MS));
        }
        assert_eq!(pause(Some(Duration::MAX)), None);
    }

    #[test]
    fn the_first_attempt_is_one_of_them() {
        let retry = Retry { max_attempts: 3, ..Retry::default() };
        assert_eq!([1, 2, 3, 4].map(|failed| retry.allows(failed)), [true, true, false, false]);
        assert!(!Retry::NEVER.allows(1));
        assert!(Retry { max_attempts: u32::MAX, ..retry }.allows(u32::MAX));
    }

    proptest! {
        #[test]
        fn a_pause_is_never_longer_than_the_longest_nor_shorter_than_chance_allows(
            attempt: u32, first in 0_u64..u64::MAX, max in 0_u64..u64::MAX, jitter: f64, dice: f64,
        ) {
            let (first_delay, max_delay) = (Duration::from_nanos(first), Duration::from_nanos(max));
            let retry = Retry { max_attempts: 3, first_delay, max_delay, jitter };
            // A float has 53 bits, the longest spans of nanoseconds have 64.
            let rounding = Duration::from_nanos(4096);
            prop_assert!(retry.delay(attempt, dice) <= max_delay + rounding);
            let fixed = Retry { jitter: 0.25, ..retry };
            prop_assert!(fixed.delay(1, dice) + rounding >= first_delay.min(max_delay).mul_f64(0.75));
        }
    }
}
