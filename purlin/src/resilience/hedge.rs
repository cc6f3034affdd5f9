//! A second attempt beside one that is slow; the first answer wins, and the other is given up. Slow is how long the callee
//! takes: what a call waits for a place of its own before it is made is no reason for a second one.
//!
//! Of a callee whose answers are quick but for a few, that cuts off the slow tail for a few calls more (Jeffrey Dean,
//! Luiz André Barroso, *The Tail at Scale*, CACM 2013). Only what may be repeated is hedged, and only within a budget:
//! when everything is slow, a second attempt of everybody would be twice the load.

use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::SignedDuration;
use jiff::fmt::serde::unsigned_duration::friendly::compact::required as friendly;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::time::Instant;

use super::{RetryBudget, RetryBudgetConfig};

/// When a second attempt is made beside the first.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HedgeConfig {
    /// After how long; see [`HedgeAfter`].
    pub after: HedgeAfter,
    /// Never sooner than this, however quick answers usually are.
    #[serde(with = "friendly")]
    pub at_least: Duration,
    /// Second attempts for each call: 0.05 adds at most a twentieth to the callee's load.
    pub ratio: f64,
    /// How many second attempts can be saved up.
    pub saved: f64,
}

impl Default for HedgeConfig {
    /// When an answer takes longer than 95 of 100 do, and at least 5 ms; at most a twentieth more calls.
    fn default() -> Self {
        let after = HedgeAfter::Quantile(0.95);
        Self { after, at_least: Duration::from_millis(5), ratio: 0.05, saved: 10.0 }
    }
}

impl HedgeConfig {
    fn budget(&self) -> RetryBudgetConfig {
        RetryBudgetConfig { ratio: self.ratio, per_second: 0.0, saved: self.saved }
    }
}

/// After how long a second attempt is made; in files `p95`, or a time such as `50ms`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HedgeAfter {
    /// When an answer takes longer than this part of them do, as was seen of the callee's answers.
    Quantile(f64),
    /// After a fixed time.
    Fixed(Duration),
}

impl fmt::Display for HedgeAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quantile(part) => write!(f, "p{}", (part * 1e5).round() / 1e3),
            Self::Fixed(after) => {
                write!(f, "{:#}", SignedDuration::try_from(*after).unwrap_or(SignedDuration::MAX))
            }
        }
    }
}

impl FromStr for HedgeAfter {
    type Err = MalformedHedgeAfter;

    fn from_str(text: &str) -> Result<Self, MalformedHedgeAfter> {
        if let Some(percent) = text.strip_prefix('p') {
            let percent: f64 = percent.parse().map_err(|_| MalformedHedgeAfter)?;
            let whole = (50.0..100.0).contains(&percent);
            return whole.then_some(Self::Quantile(percent / 100.0)).ok_or(MalformedHedgeAfter);
        }
        let after: SignedDuration = text.parse().map_err(|_| MalformedHedgeAfter)?;
        Duration::try_from(after).map(Self::Fixed).map_err(|_| MalformedHedgeAfter)
    }
}

impl Serialize for HedgeAfter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HedgeAfter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A text says neither a quantile nor a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a second attempt is made after a quantile from `p50` to below `p100`, or after a time such as `50ms`"
)]
pub struct MalformedHedgeAfter;

/// What second attempts to one callee are made by.
#[derive(Debug)]
pub(super) struct Hedging {
    config: HedgeConfig,
    budget: RetryBudget,
    usual: Mutex<Quantile>,
}

impl Hedging {
    pub(super) fn new(config: HedgeConfig, now: Instant) -> Self {
        let budget = RetryBudget::new(config.budget(), now);
        Self { config, budget, usual: Mutex::new(Quantile::default()) }
    }

    /// The same under other terms: what was learned stays, and what is left of the budget.
    pub(super) fn under(&self, config: HedgeConfig, now: Instant) -> Self {
        let usual = match config.after == self.config.after {
            true => *self.usual.lock().unwrap_or_else(PoisonError::into_inner),
            false => Quantile::default(),
        };
        Self { config, budget: self.budget.under(config.budget(), now), usual: Mutex::new(usual) }
    }

    /// After how long a second attempt is due; none while nothing is known.
    pub(super) fn delay(&self) -> Option<Duration> {
        let delay = match self.config.after {
            HedgeAfter::Fixed(after) => after,
            HedgeAfter::Quantile(_) => {
                let usual = self.usual.lock().unwrap_or_else(PoisonError::into_inner);
                Duration::try_from_secs_f64(usual.known()?).ok()?
            }
        };
        Some(delay.max(self.config.at_least))
    }

    pub(super) fn budget(&self) -> &RetryBudget {
        &self.budget
    }

    /// The callee was asked.
    pub(super) fn asked(&self) {
        self.budget.earn();
    }

    /// An answer took so long.
    pub(super) fn answered(&self, took: Duration) {
        self.learn(took, |_| true);
    }

    /// There was none in so long: that says something if it is longer than answers usually take, and nothing if whoever
    /// asked gave less time.
    pub(super) fn unanswered(&self, took: Duration) {
        self.learn(took, |usual| usual.known().is_some_and(|known| took.as_secs_f64() > known));
    }

    fn learn(&self, took: Duration, says_something: impl FnOnce(&Quantile) -> bool) {
        let HedgeAfter::Quantile(part) = self.config.after else { return };
        // Of two at once one is enough to learn from.
        let Ok(mut usual) = self.usual.try_lock() else { return };
        if says_something(&usual) {
            usual.push(part, took.as_secs_f64());
        }
    }
}

/// An estimate of a quantile that remembers one number: it steps up when a value is above it and down when one is
/// below, by parts of itself that balance where the quantile is (Robbins and Monro 1951, on a logarithmic scale; the
/// idea of Ma, Muthukrishnan and Sandler, *Frugal Streaming*, 2013).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Quantile {
    estimate: f64,
    seen: u32,
}

impl Quantile {
    /// So many values are needed before the estimate says anything.
    const FEW: u32 = 50;

    fn push(&mut self, part: f64, value: f64) {
        let value = value.max(1e-6);
        self.seen = self.seen.saturating_add(1);
        if self.seen == 1 {
            self.estimate = value;
            return;
        }
        // Large steps at first, to get there; small ones later, to stay there.
        let step = (4.0 / f64::from(self.seen)).clamp(0.05, 1.0);
        let direction = if value > self.estimate { part } else { part - 1.0 };
        self.estimate *= (step * direction).exp();
    }

    fn known(&self) -> Option<f64> {
        (self.seen >= Self::FEW).then_some(self.estimate)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn when_to_hedge_is_read_as_it_is_written() {
        for text in ["p95", "p99.9", "p50", "50ms", "1s 500ms"] {
            let read: HedgeAfter = text.parse().unwrap();
            assert_eq!(read.to_string().parse(), Ok(read), "{text}");
        }
        assert_eq!("p95".parse(), Ok(HedgeAfter::Quantile(0.95)));
        assert_eq!("50ms".parse(), Ok(HedgeAfter::Fixed(Duration::from_millis(50))));
        for text in ["", "p", "p100", "p12", "95", "-1s", "soon"] {
            assert_eq!(text.parse::<HedgeAfter>(), Err(MalformedHedgeAfter), "{text}");
        }
    }

    #[test]
    fn nothing_is_hedged_before_something_is_known() {
        let now = Instant::now();
        let hedging = Hedging::new(HedgeConfig::default(), now);
        assert_eq!(hedging.delay(), None);
        (0..50).for_each(|_| hedging.answered(Duration::from_millis(20)));
        assert!(hedging.delay().is_some());
        let quick = Hedging::new(HedgeConfig::default(), now);
        (0..50).for_each(|_| quick.answered(Duration::from_micros(20)));
        assert_eq!(quick.delay(), Some(HedgeConfig::default().at_least));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn about_as_many_answers_as_wanted_take_longer_than_the_estimate(
            seed: u64, scale in 1e-4..1.0_f64, part in prop_oneof![Just(0.5), Just(0.9), Just(0.95)],
        ) {
            let mut dice = seed;
            let mut roll = || {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (dice >> 11) as f64 / (1_u64 << 53) as f64
            };
            let (mut quantile, mut above) = (Quantile::default(), 0_u32);
            // Exponentially distributed, and after a while five times as slow.
            for n in 0..20_000_u32 {
                let slower = if n < 10_000 { 1.0 } else { 5.0 };
                let value = -scale * slower * (1.0 - roll()).ln();
                let settled = n % 10_000 >= 2_000;
                above += u32::from(settled && quantile.known().is_some_and(|usual| value > usual));
                quantile.push(part, value);
            }
            let share = f64::from(above) / 16_000.0;
            prop_assert!((share - (1.0 - part)).abs() < 0.03, "{share} above p{}", part * 100.0);
        }
    }
}
