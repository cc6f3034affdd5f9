//! When a breaker opens and closes.

use std::time::Duration;

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as friendly;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// When a breaker opens and closes. In files, durations are written as `30s` or `1m 30s`; what [`validate`]
/// refuses is refused when it is read.
///
/// *The plain form* says `failure_threshold`, `success_threshold` and `timeout`, and is nothing but that: so many failures
/// open it, for so long each time, and so many successful probes close it. `rates` and `growth` hold beside it where they
/// are said.
///
/// *Where no `failure_threshold` is said* the share of failures decides, and the time that it stays open grows from
/// `timeout` on: by default to twice as long each time, up to 2 s (a `timeout` that is longer stays as it is). If nothing at all is said of when it opens, it opens
/// when half of the last 100 calls failed, of at least 20, or 10 in a row. [`in_force`] says it in full.
///
/// ```
/// # use std::time::Duration;
/// use purlin::resilience::{BreakerConfig, Growth, RateConfig};
///
/// let usual = BreakerConfig::default().in_force();
/// assert_eq!((usual.failure_threshold, usual.window), (10, 10));
/// assert_eq!(usual.rates, Some(RateConfig::default()));
/// assert_eq!((usual.timeout, usual.growth), (Duration::from_millis(500), Some(Growth::default())));
///
/// let plain = BreakerConfig { failure_threshold: 5, timeout: Duration::from_secs(30), ..BreakerConfig::default() };
/// assert_eq!(plain.in_force(), plain);
/// ```
///
/// [`validate`]: Self::validate
/// [`in_force`]: Self::in_force
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, remote = "Self")]
pub struct BreakerConfig {
    /// How many failures open it; at least 1. [`NEVER`](Self::NEVER) leaves it to `rates`. In files that is `false`, with
    /// which `rates` are what [`RateConfig::default`] says unless they are said.
    #[serde(with = "threshold")]
    pub failure_threshold: u32,
    /// Among how many of the last calls they are counted; at most [`MAX_WINDOW`](Self::MAX_WINDOW). As many as
    /// `failure_threshold` (or fewer) means: in a row.
    pub window: u32,
    /// How old a failure may be to be counted, so that those of yesterday do not add up with one of today. Of a share of
    /// calls what came before one that is too old is no part, good or bad.
    #[serde(with = "friendly")]
    pub memory: Duration,
    /// Opens it on a share of failures or of slow calls, too. None: on no share, unless `failure_threshold` is not said
    /// either.
    pub rates: Option<RateConfig>,
    /// How many successful probes close it; at least 1.
    pub success_threshold: u32,
    /// How many probes may be under way at a time; never more than are still needed to close it, and as many
    /// as those unless said.
    pub probes: Option<u32>,
    /// A probe without a result for so long is not waited for: others take the places of all, and what they
    /// still say counts for nothing.
    #[serde(with = "friendly")]
    pub probe_timeout: Duration,
    /// How long it stays open before it lets a probe through; the first time, if that grows.
    #[serde(with = "friendly")]
    pub timeout: Duration,
    /// How that time grows while it opens again and again. None: not at all if `failure_threshold` is said, else as
    /// [`Growth::default`] says.
    pub growth: Option<Growth>,
    /// A call that is given up without a result is a failure if it took at least this long, otherwise it says
    /// nothing: who waits for an answer that never comes must not keep the breaker closed. (The end of a policy's own
    /// time is no giving up: a [`Caller`](crate::resilience::Caller) counts that as a failure however short it is.)
    #[serde(with = "friendly")]
    pub abandoned_after: Duration,
}

/// Opens a breaker on a share of the calls. It is looked at when a call failed or was slow: a good call never
/// opens anything.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateConfig {
    /// Of which calls.
    pub over: Over,
    /// Among fewer calls than these no share says anything; at least 1.
    pub minimum_calls: u32,
    /// The share of failures that opens it, 0 to 1.
    pub failures: Option<f64>,
    /// The share of slow calls that opens it.
    pub slow: Option<SlowCalls>,
}

/// Of which calls a share is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Over {
    /// Of the last so many.
    Calls(u32),
    /// Of those of the last so long, which is counted in ten parts: the oldest leaves as a whole, so that it is
    /// between nine tenths and all of this.
    Time(#[serde(with = "friendly")] Duration),
}

/// Which calls are slow, and how many of them are too many. A slow probe is a failed one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlowCalls {
    /// A call that took at least so long is slow, whatever came of it.
    #[serde(with = "friendly")]
    pub after: Duration,
    /// The share of them that opens it, 0 to 1.
    pub rate: f64,
}

/// How the time that a breaker stays open grows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Growth {
    /// By what it is multiplied when it opens again; 1 leaves it as it is.
    pub factor: f64,
    /// The longest that it becomes; no shorter than the breaker's `timeout`, if growth is said.
    #[serde(with = "friendly")]
    pub max: Duration,
    /// After having been closed for so long it begins with `timeout` again.
    #[serde(with = "friendly")]
    pub calm: Duration,
}

impl BreakerConfig {
    /// A `failure_threshold` that is not said, and never reached.
    pub const NEVER: u32 = u32::MAX;
    /// How many failures in a row open it if nothing is said of when it opens: a callee that is away is left alone after
    /// so many, although the hundred calls before were good.
    const IN_A_ROW: u32 = 10;
    /// What `false` is read as, for a moment: never, and somebody said so.
    const OFF: u32 = Self::NEVER - 1;
    /// What `window` is unless it is said.
    const WINDOW: u32 = 20;
    /// The longest window of calls.
    pub const MAX_WINDOW: u32 = 1 << 16;
    /// The longest window of time.
    pub const MAX_TIME: Duration = Duration::from_secs(3600);
    /// The shortest window of time.
    pub const MIN_TIME: Duration = Duration::from_millis(100);

    /// Opens by `rates` alone, and is otherwise the default.
    pub fn by_rate(rates: RateConfig) -> Self {
        Self { rates: Some(rates), ..Self::default() }
    }

    /// The same with all that was not said filled in: what a breaker that is made of it goes by, and what
    /// [`Breaker::config`](super::Breaker::config) and `purlin calls show` say.
    #[must_use]
    pub fn in_force(mut self) -> Self {
        if self.failure_threshold != Self::NEVER {
            return self;
        }
        let usual = Growth::default();
        self.growth.get_or_insert(Growth { max: usual.max.max(self.timeout), ..usual });
        if self.rates.is_none() {
            self.rates = Some(RateConfig::default());
            (self.failure_threshold, self.window) = (Self::IN_A_ROW, Self::IN_A_ROW);
        }
        self
    }

    /// Says what makes no sense. A breaker that is made of such a configuration all the same takes the nearest
    /// that does: 1 for a threshold of 0, the longest window for one that is longer.
    pub fn validate(&self) -> Result<(), BreakerConfigError> {
        let least_one = [
            ("failure_threshold", self.failure_threshold),
            ("success_threshold", self.success_threshold),
            ("probes", self.probes.unwrap_or(1)),
        ];
        check(least_one.into_iter().all(|(_, n)| n > 0), || {
            let (name, _) = least_one.into_iter().find(|(_, n)| *n == 0).expect("one of them is 0");
            (name, "must be at least 1".to_owned())
        })?;
        let too_large = |n: u32| n > Self::MAX_WINDOW && n != Self::NEVER;
        let at_most = || format!("must be at most {}", Self::MAX_WINDOW);
        check(!too_large(self.failure_threshold), || ("failure_threshold", at_most()))?;
        check(self.window <= Self::MAX_WINDOW, || ("window", at_most()))?;
        let counts = self.failure_threshold != Self::NEVER || self.rates.is_some();
        check(counts || self.window == Self::WINDOW, || {
            (
                "window",
                "says among how many calls failures are counted, and `failure_threshold` not how many"
                    .to_owned(),
            )
        })?;
        check(!self.probe_timeout.is_zero(), || ("probe_timeout", "must be longer than nothing".to_owned()))?;
        if let Some(growth) = self.growth {
            check(growth.factor >= 1.0 && growth.factor.is_finite(), || {
                ("growth.factor", format!("must be 1 or more, is {}", growth.factor))
            })?;
            check(growth.factor == 1.0 || growth.max >= self.timeout, || {
                ("growth.max", "must not be shorter than timeout".to_owned())
            })?;
        }
        self.rates.map_or(Ok(()), |rates| rates.validate())
    }

    /// The nearest configuration that makes sense.
    pub(super) fn sane(mut self) -> Self {
        if self.failure_threshold != Self::NEVER {
            self.failure_threshold = self.failure_threshold.clamp(1, Self::MAX_WINDOW);
        }
        self.window = self.window.min(Self::MAX_WINDOW);
        self.success_threshold = self.success_threshold.max(1);
        self.probes = self.probes.map(|probes| probes.max(1));
        self.probe_timeout = self.probe_timeout.max(Duration::from_millis(1));
        if let Some(growth) = &mut self.growth {
            // `max` and `clamp` leave a factor that is no number as it is.
            growth.factor = if growth.factor >= 1.0 { growth.factor } else { 1.0 };
            if growth.factor > 1.0 {
                growth.max = growth.max.max(self.timeout);
            }
        }
        self.rates = self.rates.map(RateConfig::sane);
        self
    }

    /// After how many good calls in a row none of the bad ones before them is in a window of calls.
    pub(super) fn reach(&self) -> u32 {
        let by_count = match self.failure_threshold {
            Self::NEVER => 0,
            threshold => threshold.max(self.window),
        };
        let by_rate = self.rates.map_or(0, |rates| match rates.over {
            Over::Calls(calls) => calls,
            Over::Time(_) => 0,
        });
        by_count.max(by_rate)
    }

    /// How the time that it stays open grows, if it does.
    pub(super) fn grows(&self) -> Option<Growth> {
        self.growth.filter(|growth| growth.factor > 1.0)
    }

    pub(super) fn slow_after(&self) -> Option<Duration> {
        Some(self.rates?.slow?.after)
    }
}

impl RateConfig {
    fn validate(&self) -> Result<(), BreakerConfigError> {
        let share = |rate: f64| (0.0..=1.0).contains(&rate);
        let outside = |rate: f64| format!("must be between 0 and 1, is {rate}");
        check(self.failures.is_some() || self.slow.is_some(), || {
            ("rates", "names neither failures nor slow calls".to_owned())
        })?;
        if let Some(rate) = self.failures {
            check(share(rate), || ("rates.failures", outside(rate)))?;
        }
        if let Some(slow) = self.slow {
            check(share(slow.rate), || ("rates.slow.rate", outside(slow.rate)))?;
            check(!slow.after.is_zero(), || ("rates.slow.after", "must be longer than nothing".to_owned()))?;
        }
        check(self.minimum_calls > 0, || ("rates.minimum_calls", "must be at least 1".to_owned()))?;
        match self.over {
            Over::Calls(calls) => {
                check((1..=BreakerConfig::MAX_WINDOW).contains(&calls), || {
                    ("rates.over.calls", format!("must be 1 to {}, is {calls}", BreakerConfig::MAX_WINDOW))
                })?;
                check(self.minimum_calls <= calls, || {
                    ("rates.minimum_calls", format!("are never seen in a window of {calls} calls"))
                })
            }
            Over::Time(time) => {
                let (min, max) = (BreakerConfig::MIN_TIME, BreakerConfig::MAX_TIME);
                check((min..=max).contains(&time), || {
                    ("rates.over.time", format!("must be {min:?} to {max:?}, is {time:?}"))
                })
            }
        }
    }

    fn sane(mut self) -> Self {
        let share = |rate: f64| if rate >= 0.0 { rate.min(1.0) } else { 1.0 };
        self.failures = self.failures.map(share);
        self.slow = self.slow.map(|slow| SlowCalls { rate: share(slow.rate), ..slow });
        self.over = match self.over {
            Over::Calls(calls) => Over::Calls(calls.clamp(1, BreakerConfig::MAX_WINDOW)),
            Over::Time(time) => Over::Time(time.clamp(BreakerConfig::MIN_TIME, BreakerConfig::MAX_TIME)),
        };
        self.minimum_calls = match self.over {
            Over::Calls(calls) => self.minimum_calls.clamp(1, calls),
            Over::Time(_) => self.minimum_calls.max(1),
        };
        self
    }
}

impl Default for BreakerConfig {
    /// Nothing is said of when it opens, so it does when half of the last 100 calls failed, of at least 20, or 10 in a
    /// row, all of them within a minute. It stays open for 0.5 s, then 1 s, then 2 s; 2 successful probes close it. A call
    /// given up after a second is a failure, a probe that says nothing for a minute is replaced.
    fn default() -> Self {
        Self {
            failure_threshold: Self::NEVER,
            window: Self::WINDOW,
            memory: Duration::from_secs(60),
            rates: None,
            success_threshold: 2,
            probes: None,
            probe_timeout: Duration::from_secs(60),
            timeout: Duration::from_millis(500),
            growth: None,
            abandoned_after: Duration::from_secs(1),
        }
    }
}

impl Default for RateConfig {
    /// Half of the last 100 calls, of which there must have been 20.
    fn default() -> Self {
        Self { over: Over::Calls(100), minimum_calls: 20, failures: Some(0.5), slow: None }
    }
}

impl Default for Growth {
    /// It doubles, up to 2 s, and begins anew after a minute of quiet.
    fn default() -> Self {
        Self { factor: 2.0, max: Duration::from_secs(2), calm: Duration::from_secs(60) }
    }
}

impl Serialize for BreakerConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for BreakerConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut config = Self::deserialize(deserializer)?;
        if config.failure_threshold == Self::OFF {
            config.failure_threshold = Self::NEVER;
            config.rates.get_or_insert_default();
        }
        config.validate().map_err(serde::de::Error::custom)?;
        Ok(config)
    }
}

/// A configuration makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a breaker's `{field}` {problem}")]
pub struct BreakerConfigError {
    /// Which field, as it is written in a file.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

fn check(holds: bool, otherwise: impl FnOnce() -> (&'static str, String)) -> Result<(), BreakerConfigError> {
    if holds {
        return Ok(());
    }
    let (field, problem) = otherwise();
    Err(BreakerConfigError { field, problem })
}

/// A number of failures, or `false`: [`BreakerConfig::NEVER`].
mod threshold {
    use std::fmt;

    use serde::de::{Error, Unexpected, Visitor};
    use serde::{Deserializer, Serializer};

    use super::BreakerConfig;

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
    pub(super) fn serialize<S: Serializer>(threshold: &u32, serializer: S) -> Result<S::Ok, S::Error> {
        match *threshold {
            BreakerConfig::NEVER => serializer.serialize_none(),
            threshold => serializer.serialize_u32(threshold),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
        deserializer.deserialize_any(Threshold)
    }

    struct Threshold;

    impl Visitor<'_> for Threshold {
        type Value = u32;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number of failures, or `false`")
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<u32, E> {
            let threshold = u32::try_from(number).ok().filter(|number| *number < BreakerConfig::OFF);
            threshold.ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<u32, E> {
            match u64::try_from(number) {
                Ok(number) => self.visit_u64(number),
                Err(_) => Err(E::invalid_value(Unexpected::Signed(number), &self)),
            }
        }

        fn visit_bool<E: Error>(self, on: bool) -> Result<u32, E> {
            match on {
                false => Ok(BreakerConfig::OFF),
                true => Err(E::invalid_value(Unexpected::Bool(on), &self)),
            }
        }

        fn visit_unit<E: Error>(self) -> Result<u32, E> {
            Ok(BreakerConfig::NEVER)
        }
    }
}
