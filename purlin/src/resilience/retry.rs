//! When to try again: a plan for one call, and a budget for all calls together.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as friendly;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::message::Uuid;

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
    /// 3 attempts, with pauses of up to 50 and 100 ms, half of each left to chance.
    fn default() -> Self {
        Self {
            max_attempts: 3,
            first_delay: Duration::from_millis(50),
            max_delay: Duration::from_secs(2),
            jitter: 0.5,
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
}

/// A number from 0 to 1, drawn anew each time: for [`Retry::delay`].
pub(crate) fn dice() -> f64 {
    f64::from(Uuid::new_v4().as_u128() as u32) / f64::from(u32::MAX)
}

/// How many retries all calls to one callee may make together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryBudgetConfig {
    /// Retries for each call: 0.2 adds at most a fifth to the callee's load.
    pub ratio: f64,
    /// Retries a second besides, so that few calls have retries too.
    pub per_second: f64,
    /// How many retries can be saved up.
    pub saved: f64,
}

impl Default for RetryBudgetConfig {
    /// A fifth, and 10 a second, of which up to 100 are saved up.
    fn default() -> Self {
        Self { ratio: 0.2, per_second: 10.0, saved: 100.0 }
    }
}

/// The retries that are left: when everything fails, retries must not multiply the load.
#[derive(Debug)]
pub struct RetryBudget {
    config: RetryBudgetConfig,
    account: Mutex<Account>,
}

#[derive(Debug)]
struct Account {
    tokens: f64,
    paid_until: Instant,
}

impl RetryBudget {
    /// With all that can be saved up.
    pub fn new(config: RetryBudgetConfig, now: Instant) -> Self {
        Self { config, account: Mutex::new(Account { tokens: config.saved, paid_until: now }) }
    }

    /// A call is made: that earns a part of a retry.
    pub fn earn(&self) {
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        account.tokens = (account.tokens + self.config.ratio).min(self.config.saved);
    }

    /// Takes one retry, if one is left.
    pub fn spend(&self, now: Instant) -> bool {
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.saturating_duration_since(account.paid_until);
        let income = since.as_secs_f64() * self.config.per_second;
        account.tokens = (account.tokens + income).min(self.config.saved);
        account.paid_until += since;
        let enough = account.tokens >= 1.0;
        if enough {
            account.tokens -= 1.0;
        }
        enough
    }
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
    fn the_first_attempt_is_one_of_them() {
        let retry = Retry { max_attempts: 3, ..Retry::default() };
        assert_eq!([1, 2, 3, 4].map(|failed| retry.allows(failed)), [true, true, false, false]);
        assert!(!Retry::NEVER.allows(1));
        assert!(Retry { max_attempts: u32::MAX, ..retry }.allows(u32::MAX));
    }

    #[test]
    fn retries_stay_a_part_of_the_calls() {
        let start = Instant::now();
        let budget = RetryBudget::new(RetryBudgetConfig { ratio: 0.25, per_second: 0.0, saved: 10.0 }, start);
        let mut retries = 0;
        for _ in 0..1000 {
            budget.earn();
            retries += (0..3).filter(|_| budget.spend(start)).count();
        }
        assert_eq!(
            retries,
            10 + 250 - 1,
            "what was saved up, and a quarter of a thousand, of which the first call finds no room for its part"
        );
    }

    #[test]
    fn time_earns_retries_too_but_only_so_many_are_saved() {
        let start = Instant::now();
        let budget = RetryBudget::new(RetryBudgetConfig { ratio: 0.0, per_second: 10.0, saved: 5.0 }, start);
        let spend_all = |now| (0..100).filter(|_| budget.spend(now)).count();
        assert_eq!(spend_all(start), 5);
        assert_eq!(spend_all(start + 200 * MS), 2);
        assert_eq!(spend_all(start + 100 * MS), 0, "a clock that a caller read earlier earns nothing");
        assert_eq!(spend_all(start + 100_000 * MS), 5);
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
