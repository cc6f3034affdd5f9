//! How the number of places is found: the decisions, over times and measurements that are given.
//!
//! The algorithm is the *gradient controller* of Envoy's adaptive concurrency filter, which comes from Netflix's
//! `concurrency-limits`. A callee that is given more than it can do at once lets the rest wait, and so takes longer;
//! the time that it takes without a queue, its *base*, is what it is measured against:
//!
//! ```text
//! gradient = tolerance x base / mean         between 1/2 and 1
//! limit    = limit x gradient + sqrt(limit)  the root is the queue that is allowed, and the room to grow
//! ```
//!
//! A callee of capacity c so gets about `tolerance` x c + sqrt. Timeouts and answers of overload have no time to be
//! measured by: when they are more than a few of a hundred in a window, the limit is cut by their share instead, at most
//! by half (additive increase, multiplicative decrease). Fewer are what any callee has, and steer nothing.
//!
//! The base is measured again every `remeasure`. Envoy goes down to three places for that, and Netflix's Gradient2
//! takes a long average instead, which follows a lasting queue upwards until there is no limit left. Here the limit is
//! halved for a window, and halved again for as long as that makes answers quicker: most often one window at half
//! speed, and no queue that once got into the base stays in it.

use std::time::Duration;

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as friendly;
use serde::{Deserialize, Serialize};

/// How the number of places is found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdaptiveConfig {
    /// There are never fewer places; at least 1.
    pub min_under_way: usize,
    /// How many there are at first; at most `max_under_way` if it is more.
    pub first_under_way: usize,
    /// How many times its base a callee may take before there are fewer places; more than 1. What answers vary by
    /// anyway must fit in.
    pub tolerance: f64,
    /// How long measurements are collected for a decision.
    #[serde(with = "friendly")]
    pub window: Duration,
    /// How many answers a decision needs; with fewer the window goes on.
    pub min_answers: u32,
    /// How often the base is measured again.
    #[serde(with = "friendly")]
    pub remeasure: Duration,
}

impl Default for AdaptiveConfig {
    /// 20 places at first, never fewer than 4; half as slow again is tolerated; a decision every 100 ms from at least
    /// 20 answers; the base is measured every 30 s.
    fn default() -> Self {
        Self {
            min_under_way: 4,
            first_under_way: 20,
            tolerance: 1.5,
            window: Duration::from_millis(100),
            min_answers: 20,
            remeasure: Duration::from_secs(30),
        }
    }
}

/// What was seen of the callee for a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Window {
    /// How long its answers took, on average, in seconds; 0 if there was none.
    pub(super) mean: f64,
    /// How many calls were under way at most.
    pub(super) most: usize,
    /// How many answers there were.
    pub(super) answers: u32,
    /// How many calls it did not answer in time, or said that it has too much to do.
    pub(super) overloaded: u32,
}

impl Window {
    fn overloaded_part(&self) -> f64 {
        let overloaded = f64::from(self.overloaded);
        overloaded / (overloaded + f64::from(self.answers)).max(1.0)
    }
}

/// Decides how many places there are.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    config: AdaptiveConfig,
    max: f64,
    limit: f64,
    /// How long the callee takes without a queue, in seconds.
    base: Option<f64>,
    phase: Phase,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// The base is known since then.
    Steady { measured: Duration },
    /// The base is being measured.
    Measuring {
        /// The limit to go back to if there was no queue.
        from: f64,
        /// How long answers took under the limit before this one; none at the very first.
        before: Option<f64>,
        /// The first window after a change holds answers to calls from before it.
        settling: bool,
    },
}

impl Machine {
    /// A halving has made answers quicker if they take less than this part of the time.
    const QUICKER: f64 = 0.9;
    /// Signs of overload are more than any callee has from this part of all calls on.
    const FEW: f64 = 0.03;
    /// The largest part of the limit that one window takes.
    const CUT: f64 = 0.5;
    /// How much of a better measurement is taken into the base at once: a part, for some of it is luck.
    const LUCK: f64 = 0.25;

    pub(super) fn new(config: AdaptiveConfig, max: usize) -> Self {
        let limit = config.first_under_way as f64;
        let phase = Phase::Measuring { from: limit, before: None, settling: false };
        Self { config, max: max as f64, limit, base: None, phase }.bounded()
    }

    /// The same under other terms: what was learned stays.
    pub(super) fn under(&self, config: AdaptiveConfig, max: usize) -> Self {
        Self { config, max: max as f64, ..self.clone() }.bounded()
    }

    pub(super) fn config(&self) -> &AdaptiveConfig {
        &self.config
    }

    pub(super) fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Takes a window's measurements.
    pub(super) fn learn(&mut self, now: Duration, window: Window) {
        let overloaded = window.overloaded_part();
        if overloaded > Self::FEW {
            self.set(self.limit * (1.0 - overloaded.min(Self::CUT)));
            if let Phase::Measuring { from, .. } = &mut self.phase {
                // The end of the measurement must not give back what was cut.
                *from = from.min(self.limit);
            }
        } else if window.mean > 0.0 {
            match self.phase {
                Phase::Steady { measured } => self.steer(now, measured, window),
                Phase::Measuring { settling: true, from, before } => {
                    self.phase = Phase::Measuring { settling: false, from, before };
                }
                Phase::Measuring { from, before, .. } => self.measure(now, window.mean, from, before),
            }
        }
    }

    /// How long an answer may take without a sign of overload, once that is known.
    pub(super) fn tolerated(&self) -> Option<Duration> {
        Duration::try_from_secs_f64(self.base? * self.config.tolerance).ok()
    }

    fn steer(&mut self, now: Duration, measured: Duration, window: Window) {
        let base = self.base.get_or_insert(window.mean);
        if window.mean < *base {
            *base += (window.mean - *base) * Self::LUCK;
        }
        let gradient = (self.config.tolerance * *base / window.mean).clamp(0.5, 1.0);
        // Who does not use the places that he has shows nothing about more of them.
        let used = window.most as f64 >= self.limit / 2.0;
        if gradient < 1.0 || used {
            self.set(self.limit * gradient + self.limit.sqrt());
        }
        if now.saturating_sub(measured) >= self.config.remeasure {
            self.halve(self.limit, Some(window.mean));
        }
    }

    fn halve(&mut self, from: f64, before: Option<f64>) {
        self.phase = Phase::Measuring { from, before, settling: true };
        self.set(self.limit / 2.0);
    }

    fn measure(&mut self, now: Duration, mean: f64, from: f64, before: Option<f64>) {
        let as_ever = self.base.is_some_and(|base| (mean / base - 1.0).abs() < 1.0 - Self::QUICKER);
        let quicker = before.is_none_or(|before| mean < before * Self::QUICKER);
        if !as_ever && quicker && self.limit > self.min() {
            return self.halve(from, Some(mean));
        }
        self.base = Some(before.map_or(mean, |before| before.min(mean)));
        self.phase = Phase::Steady { measured: now };
        self.set(if as_ever { from } else { (self.limit * 2.0).min(from) });
    }

    fn min(&self) -> f64 {
        (self.config.min_under_way as f64).clamp(1.0, self.max.max(1.0))
    }

    fn set(&mut self, limit: f64) {
        self.limit = limit.clamp(self.min(), self.max.max(1.0));
    }

    fn bounded(mut self) -> Self {
        self.set(self.limit);
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn window(mean: f64, most: usize) -> Window {
        Window { mean, most, answers: 20, overloaded: 0 }
    }

    /// A machine that has measured its base, 10 ms, with so many places.
    fn measured(limit: usize) -> Machine {
        let config = AdaptiveConfig { first_under_way: limit, ..AdaptiveConfig::default() };
        let mut machine = Machine::new(config, 1000);
        let mut now = Duration::ZERO;
        while !matches!(machine.phase, Phase::Steady { .. }) {
            machine.learn(now, window(0.01, limit));
            now += 100 * MS;
        }
        machine.set(limit as f64);
        machine
    }

    #[test]
    fn it_grows_while_answers_are_quick_and_all_places_are_used() {
        let mut machine = measured(100);
        machine.learn(Duration::ZERO, window(0.011, 49));
        assert_eq!(machine.limit(), 100, "half of the places show nothing about more of them");
        machine.learn(Duration::ZERO, window(0.011, 100));
        assert_eq!(machine.limit(), 110);
    }

    #[test]
    fn it_shrinks_when_answers_become_slow_whether_all_places_are_used_or_not() {
        let mut machine = measured(100);
        machine.learn(Duration::ZERO, window(0.1, 10));
        assert_eq!(machine.limit(), 60, "by half at most, and the root of it stays allowed");
    }

    #[test]
    fn signs_of_overload_cut_it_by_their_share_unless_they_are_few() {
        for (overloaded, limit) in [(1, 110), (2, 110), (10, 90), (40, 60), (100, 50)] {
            let mut machine = measured(100);
            let answers = 100 - overloaded;
            machine.learn(Duration::ZERO, Window { mean: 0.01, most: 100, answers, overloaded });
            assert_eq!(machine.limit(), limit, "{overloaded} of 100");
        }
    }

    #[test]
    fn a_base_that_is_as_ever_costs_two_windows_at_half_speed() {
        let mut machine = measured(100);
        machine.learn(60_000 * MS, window(0.014, 100));
        assert_eq!(machine.limit(), 55);
        machine.learn(60_100 * MS, window(0.014, 100));
        machine.learn(60_200 * MS, window(0.0101, 55));
        assert_eq!(machine.limit(), 110);
    }

    #[test]
    fn what_overload_cut_during_a_measurement_stays_cut_when_that_ends() {
        let mut machine = measured(100);
        machine.learn(60_000 * MS, window(0.014, 100));
        machine.learn(60_100 * MS, Window { mean: 0.01, most: 55, answers: 50, overloaded: 50 });
        let cut = machine.limit();
        assert!(cut < 55, "{cut}");
        machine.learn(60_200 * MS, window(0.01, cut));
        machine.learn(60_300 * MS, window(0.0101, cut));
        assert_eq!(machine.limit(), cut);
    }

    #[test]
    fn a_queue_that_got_into_the_base_is_found_and_removed() {
        let mut machine = measured(100);
        // A callee of capacity 10, whose answers at 100 take ten times as long; the base was measured so.
        machine.base = Some(0.1);
        let mut now = 60_000 * MS;
        for _ in 0..30 {
            machine.learn(now, window(0.01_f64.max(machine.limit / 10.0 * 0.01), machine.limit()));
            now += 100 * MS;
        }
        let base = machine.base.unwrap();
        assert!((0.009..0.012).contains(&base), "{base}");
        assert!((10..=30).contains(&machine.limit()), "{}", machine.limit());
    }

    proptest! {
        #[test]
        fn whatever_is_measured_the_limit_keeps_its_bounds(
            min in 0_usize..50, first in 0_usize..500, max in 0_usize..200, tolerance in -1.0..5.0_f64,
            windows in prop::collection::vec(
                (0.0..10.0_f64, 0_usize..300, prop_oneof![4 => Just(0_u32), 1 => 1_u32..9], 0_u64..40_000), 0..200
            ),
        ) {
            let config = AdaptiveConfig {
                min_under_way: min, first_under_way: first, tolerance, ..AdaptiveConfig::default()
            };
            let mut machine = Machine::new(config, max);
            let mut now = Duration::ZERO;
            for (mean, most, overloaded, ms) in windows {
                now += MS * u32::try_from(ms).unwrap();
                machine.learn(now, Window { mean, most, answers: 9, overloaded });
                prop_assert!(machine.limit() >= min.clamp(1, max.max(1)));
                prop_assert!(machine.limit() <= max.max(1));
            }
        }

        #[test]
        fn slower_answers_never_give_more_places(
            limit in 4_usize..500, quick in 0.001..1.0_f64, factor in 1.0..20.0_f64,
        ) {
            let (mut one, mut other) = (measured(limit), measured(limit));
            one.learn(Duration::ZERO, window(quick, limit));
            other.learn(Duration::ZERO, window(quick * factor, limit));
            prop_assert!(other.limit() <= one.limit());
        }
    }
}
