//! How many retries all calls to one callee may make together.
//!
//! Without it, three attempts of everybody are three times the load just when the callee can bear it least. A call
//! that is made earns a part of a retry, a retry takes a whole one (Twitter's Finagle, `RetryBudget`). So, over any
//! interleaving of any threads, retries <= `ratio` x calls + `per_second` x seconds + `saved`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

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
    /// What is left, in millionths of a retry.
    left: AtomicU64,
    paid_until: Mutex<Instant>,
}

/// A retry, in the millionths that are counted.
const WHOLE: u64 = 1_000_000;

impl RetryBudget {
    /// With all that can be saved up.
    pub fn new(config: RetryBudgetConfig, now: Instant) -> Self {
        Self { left: AtomicU64::new(millionths(config.saved)), config, paid_until: Mutex::new(now) }
    }

    /// What is left, under other terms; nothing is left of this one, for those who still have it in hand.
    pub(super) fn under(&self, config: RetryBudgetConfig, now: Instant) -> Self {
        self.collect(now);
        let left = self.left.swap(0, Ordering::Relaxed).min(millionths(config.saved));
        Self { config, left: AtomicU64::new(left), paid_until: Mutex::new(now) }
    }

    /// A call is made: that earns a part of a retry.
    pub fn earn(&self) {
        let most = millionths(self.config.saved);
        // While all is saved up that can be, as in good times, nothing is written.
        if self.left.load(Ordering::Relaxed) < most {
            self.add(millionths(self.config.ratio));
        }
    }

    /// Takes one retry, if one is left.
    pub fn spend(&self, now: Instant) -> bool {
        self.collect(now);
        let take = |left: u64| left.checked_sub(WHOLE);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// How many retries are left; what time has earned since the last one is not counted yet.
    pub fn left(&self) -> f64 {
        self.left.load(Ordering::Relaxed) as f64 / WHOLE as f64
    }

    /// Takes one retry that is given back unless it is made.
    pub(super) fn reserve(&self, now: Instant) -> Option<Reserved<'_>> {
        self.spend(now).then(|| Reserved(self))
    }

    fn add(&self, millionths_more: u64) {
        let most = millionths(self.config.saved);
        let more = |left: u64| Some(left.saturating_add(millionths_more).min(most));
        let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Takes in what time has earned.
    fn collect(&self, now: Instant) {
        if self.config.per_second <= 0.0 {
            return;
        }
        let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        let income =
            millionths(now.saturating_duration_since(*paid_until).as_secs_f64() * self.config.per_second);
        if income > 0 {
            *paid_until = now;
            self.add(income);
        }
    }
}

/// A retry that was taken and not made yet; dropped, it is given back.
#[derive(Debug)]
pub(super) struct Reserved<'a>(&'a RetryBudget);

impl Reserved<'_> {
    /// It is made now.
    pub(super) fn made(self) {
        std::mem::forget(self);
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.0.add(WHOLE);
    }
}

/// Rounded down, so that no rounding ever adds a retry. What is no number, or less than nothing, is nothing.
fn millionths(retries: f64) -> u64 {
    (retries * WHOLE as f64) as u64
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

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

    #[test]
    fn a_retry_that_is_not_made_is_given_back() {
        let now = Instant::now();
        let budget = RetryBudget::new(RetryBudgetConfig { ratio: 0.0, per_second: 0.0, saved: 1.0 }, now);
        drop(budget.reserve(now).unwrap());
        budget.reserve(now).unwrap().made();
        assert!(budget.reserve(now).is_none());
    }

    #[test]
    fn other_terms_keep_what_is_left_and_give_nothing_twice() {
        let now = Instant::now();
        let terms = |saved| RetryBudgetConfig { ratio: 0.5, per_second: 0.0, saved };
        let old = RetryBudget::new(terms(4.0), now);
        assert!(old.spend(now));
        let new = old.under(terms(100.0), now);
        assert!((new.left() - 3.0).abs() < 1e-9);
        assert!(!old.spend(now), "whoever has the old one in hand finds it empty");
        assert!((new.under(terms(2.0), now).left() - 2.0).abs() < 1e-9);
    }

    /// What may happen to a budget.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Call,
        Retry,
        GiveBack,
        Wait(u64),
    }

    proptest! {
        #[test]
        fn retries_never_exceed_what_calls_time_and_savings_allow(
            ratio in 0.0..2.0_f64, per_second in 0.0..50.0_f64, saved in 0.0..20.0_f64,
            steps in prop::collection::vec(prop_oneof![
                3 => Just(Step::Call), 4 => Just(Step::Retry), 1 => Just(Step::GiveBack),
                1 => (0_u64..300).prop_map(Step::Wait),
            ], 0..400),
        ) {
            let start = Instant::now();
            let budget = RetryBudget::new(RetryBudgetConfig { ratio, per_second, saved }, start);
            let (mut now, mut calls, mut retries) = (start, 0_u32, 0_u32);
            for step in steps {
                match step {
                    Step::Call => { budget.earn(); calls += 1; }
                    Step::Retry => retries += u32::from(budget.spend(now)),
                    Step::GiveBack => drop(budget.reserve(now)),
                    Step::Wait(ms) => now += MS * u32::try_from(ms).unwrap(),
                }
                let earned = ratio * f64::from(calls) + per_second * (now - start).as_secs_f64();
                prop_assert!(f64::from(retries) <= earned + saved + 1e-6);
            }
        }
    }

    #[test]
    fn threads_together_never_exceed_it() {
        const THREADS: usize = 8;
        const CALLS: usize = 2_000;
        let start = Instant::now();
        let config = RetryBudgetConfig { ratio: 0.1, per_second: 0.0, saved: 5.0 };
        let (budget, retries) = (RetryBudget::new(config, start), AtomicUsize::new(0));
        let caller = || {
            for _ in 0..CALLS {
                budget.earn();
                let made = (0..3).filter(|_| budget.spend(start)).count();
                retries.fetch_add(made, Ordering::Relaxed);
            }
        };
        std::thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(caller))));
        let (made, calls) = (retries.into_inner(), THREADS * CALLS);
        assert!(made <= calls / 10 + 5, "{made} retries of {calls} calls");
        assert!(made + 2 >= calls / 10, "{made} retries of {calls} calls: what was earned can be spent");
    }
}
