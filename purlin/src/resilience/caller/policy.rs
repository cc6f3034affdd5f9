//! How a callee is called.

use std::time::Duration;

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as friendly;
use serde::{Deserialize, Serialize};

use crate::resilience::{BreakerConfig, BulkheadConfig, HedgeConfig, Retry, RetryBudgetConfig};

/// How a callee is called.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CallPolicy {
    /// How long a call may take, retries and pauses included; less if the caller's own deadline is earlier.
    #[serde(with = "friendly")]
    pub timeout: Duration,
    /// How long one attempt may take.
    #[serde(with = "friendly")]
    pub attempt: Duration,
    /// When a failed attempt is repeated.
    pub retry: Retry,
    /// How many repetitions all calls to this callee have together.
    pub budget: RetryBudgetConfig,
    /// How many attempts may be under way at once, and how many may wait.
    pub concurrency: BulkheadConfig,
    /// When the callee is left alone.
    pub breaker: BreakerConfig,
    /// When a second attempt is made beside a slow one; none: never.
    pub hedge: Option<HedgeConfig>,
}

impl Default for CallPolicy {
    /// 5 s for a call, 2 s for an attempt, no hedging, and the defaults of the other parts.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            attempt: Duration::from_secs(2),
            retry: Retry::default(),
            budget: RetryBudgetConfig::default(),
            concurrency: BulkheadConfig::default(),
            breaker: BreakerConfig::default(),
            hedge: None,
        }
    }
}

impl CallPolicy {
    /// Whether its numbers make sense together; otherwise the key that does not, and what is allowed.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        self.check_times()?;
        self.check_retries()?;
        self.check_concurrency()?;
        let counts = [
            ("breaker.failure_threshold", self.breaker.failure_threshold),
            ("breaker.success_threshold", self.breaker.success_threshold),
        ];
        counts.into_iter().try_for_each(|(key, count)| allowed(count >= 1, key, "at least 1"))
    }

    fn check_times(&self) -> Result<(), (&'static str, String)> {
        allowed(!self.timeout.is_zero(), "timeout", "longer than 0")?;
        let fits = !self.attempt.is_zero() && self.attempt <= self.timeout;
        allowed(
            fits,
            "attempt",
            format_args!("longer than 0 and no longer than `timeout`, {:?}", self.timeout),
        )?;
        // Else probes would be replaced before they have their answer, for ever.
        let awaited = self.breaker.probe_timeout >= self.attempt;
        let key = "breaker.probe_timeout";
        allowed(awaited, key, format_args!("no shorter than `attempt`, {:?}", self.attempt))
    }

    fn check_retries(&self) -> Result<(), (&'static str, String)> {
        let (retry, budget) = (&self.retry, &self.budget);
        allowed(retry.max_attempts >= 1, "retry.max_attempts", "at least 1, the first attempt")?;
        allowed((0.0..=1.0).contains(&retry.jitter), "retry.jitter", "from 0 to 1")?;
        let (ratio, saved) = ("a number from 0 to 10", "a number from 0 to 1000000");
        allowed((0.0..=10.0).contains(&budget.ratio), "budget.ratio", ratio)?;
        allowed((0.0..=1e6).contains(&budget.per_second), "budget.per_second", saved)?;
        allowed((0.0..=1e6).contains(&budget.saved), "budget.saved", saved)?;
        let Some(hedge) = &self.hedge else { return Ok(()) };
        allowed((0.0..=1.0).contains(&hedge.ratio), "hedge.ratio", "from 0 to 1")?;
        allowed(
            (1.0..=1e6).contains(&hedge.saved),
            "hedge.saved",
            "at least 1, or there is no second attempt",
        )
    }

    fn check_concurrency(&self) -> Result<(), (&'static str, String)> {
        let concurrency = &self.concurrency;
        allowed(concurrency.max_under_way >= 1, "concurrency.max_under_way", "at least 1")?;
        let Some(adaptive) = &concurrency.adaptive else { return Ok(()) };
        let max = concurrency.max_under_way;
        let (min, first) = (adaptive.min_under_way, adaptive.first_under_way);
        let key = "concurrency.adaptive.min_under_way";
        allowed((1..=max).contains(&min), key, format_args!("from 1 to `max_under_way`, {max}"))?;
        let key = "concurrency.adaptive.first_under_way";
        // More than `max_under_way` is held to that: who lowers it need not know with how many places others would begin.
        allowed(first >= min, key, format_args!("at least `min_under_way`, {min}"))?;
        let sensible = adaptive.tolerance > 1.0 && adaptive.tolerance <= 100.0;
        allowed(sensible, "concurrency.adaptive.tolerance", "more than 1, and at most 100")?;
        let sensible = !adaptive.window.is_zero() && adaptive.window <= Duration::from_secs(60);
        allowed(sensible, "concurrency.adaptive.window", "longer than 0, and at most a minute")?;
        // Half of the places are taken away for each measurement: it must not be always going on.
        let seldom = adaptive.remeasure >= adaptive.window * 10;
        let range = format_args!("at least ten times `window`, {:?}", adaptive.window).to_string();
        allowed(seldom, "concurrency.adaptive.remeasure", range)?;
        let sensible = (1..=1_000_000).contains(&adaptive.min_answers);
        allowed(sensible, "concurrency.adaptive.min_answers", "from 1 to a million")
    }
}

fn allowed(
    is_allowed: bool,
    key: &'static str,
    what: impl std::fmt::Display,
) -> Result<(), (&'static str, String)> {
    if is_allowed { Ok(()) } else { Err((key, what.to_string())) }
}
