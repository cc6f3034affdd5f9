//! The decisions of a breaker, over times that are given as spans since it was made.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::BreakerConfig;
use super::window::Window;

/// What a breaker does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// It lets calls through and counts failures.
    Closed,
    /// It refuses calls.
    Open,
    /// It lets a few calls through, to see how they end.
    HalfOpen,
}

/// A state that an operator chose, until he gives it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Forced {
    /// Calls are refused, however healthy the callee is.
    Open,
    /// Calls go through, however sick the callee is.
    Closed,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Success,
    Failure,
    /// It was given up before it could tell.
    Abandoned,
}

/// A stretch between two changes of state; only results of its own calls count in it.
pub(super) type Generation = u32;

/// Generations are counted modulo this, so that one fits the summary that is read without a lock.
pub(super) const GENERATIONS: Generation = 1 << 22;

#[derive(Debug, Clone)]
pub(super) struct Machine {
    config: BreakerConfig,
    generation: Generation,
    phase: Phase,
    opened: u64,
}

#[derive(Debug, Clone)]
pub(super) enum Phase {
    Closed(Window),
    Open {
        until: Duration,
    },
    HalfOpen {
        under_way: u32,
        succeeded: u32,
        /// When the last probe was let through.
        last: Duration,
    },
    Forced(Forced),
}

impl Machine {
    /// The longest that a refused caller is told to wait while others probe.
    const PROBING: Duration = Duration::from_secs(1);
    /// A probe that has no result after so long is not waited for: who calls without a deadline may never have one.
    const PROBE: Duration = Duration::from_secs(60);

    pub(super) fn new(config: BreakerConfig) -> Self {
        Self { config, generation: 0, phase: Phase::Closed(Window::default()), opened: 0 }
    }

    /// Lets a call through, or says after how long to ask again.
    pub(super) fn admit(&mut self, now: Duration) -> Result<Generation, Duration> {
        match &mut self.phase {
            Phase::Closed(_) | Phase::Forced(Forced::Closed) => Ok(self.generation),
            Phase::Forced(Forced::Open) => Err(self.config.timeout),
            Phase::Open { until } if now < *until => Err(*until - now),
            Phase::Open { .. } => Ok(self.probe(now)),
            Phase::HalfOpen { under_way, succeeded, last } => {
                if *under_way + *succeeded >= self.config.success_threshold.max(1) {
                    if now.saturating_sub(*last) >= Self::PROBE {
                        return Ok(self.probe(now));
                    }
                    return Err(self.config.timeout.min(Self::PROBING));
                }
                *under_way += 1;
                *last = now;
                Ok(self.generation)
            }
        }
    }

    /// Takes the result of a call that was let through in `generation`.
    pub(super) fn settle(&mut self, generation: Generation, outcome: Outcome, now: Duration) {
        if generation != self.generation {
            return;
        }
        let config = &self.config;
        match (&mut self.phase, outcome) {
            (Phase::Closed(window), Outcome::Success) => window.success(config),
            (Phase::Closed(window), Outcome::Failure) => {
                if window.failure(config, now) >= config.failure_threshold {
                    self.open(now);
                }
            }
            (Phase::HalfOpen { .. }, Outcome::Failure) => self.open(now),
            (Phase::HalfOpen { under_way, succeeded, .. }, Outcome::Success) => {
                *under_way -= 1;
                *succeeded += 1;
                if *succeeded >= config.success_threshold {
                    self.enter(Phase::Closed(Window::default()));
                }
            }
            (Phase::HalfOpen { under_way, .. }, Outcome::Abandoned) => *under_way -= 1,
            (Phase::Closed(_), Outcome::Abandoned) | (Phase::Open { .. } | Phase::Forced(_), _) => {}
        }
    }

    /// Holds a state, or goes back to deciding itself, beginning closed.
    pub(super) fn force(&mut self, forced: Option<Forced>) {
        match forced {
            Some(forced) => self.enter(Phase::Forced(forced)),
            None => self.enter(Phase::Closed(Window::default())),
        };
    }

    fn open(&mut self, now: Duration) {
        self.opened += 1;
        self.enter(Phase::Open { until: now.saturating_add(self.config.timeout) });
    }

    /// Begins to probe; the results of earlier probes count for nothing.
    fn probe(&mut self, now: Duration) -> Generation {
        self.enter(Phase::HalfOpen { under_way: 1, succeeded: 0, last: now })
    }

    fn enter(&mut self, phase: Phase) -> Generation {
        self.phase = phase;
        self.generation = (self.generation + 1) % GENERATIONS;
        self.generation
    }

    pub(super) fn state(&self) -> BreakerState {
        match self.phase {
            Phase::Closed(_) | Phase::Forced(Forced::Closed) => BreakerState::Closed,
            Phase::Open { .. } | Phase::Forced(Forced::Open) => BreakerState::Open,
            Phase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    pub(super) fn phase(&self) -> &Phase {
        &self.phase
    }

    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    /// How often it has opened by itself.
    pub(super) fn opened(&self) -> u64 {
        self.opened
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn config() -> BreakerConfig {
        BreakerConfig {
            failure_threshold: 3,
            window: 5,
            memory: 60 * SECOND,
            success_threshold: 2,
            timeout: 10 * SECOND,
            abandoned_after: SECOND,
        }
    }

    fn call(machine: &mut Machine, outcome: Outcome, now: Duration) {
        let generation = machine.admit(now).expect("the breaker lets it through");
        machine.settle(generation, outcome, now);
    }

    /// A machine that opened at second 0.
    fn open() -> Machine {
        let mut machine = Machine::new(config());
        for _ in 0..3 {
            call(&mut machine, Outcome::Failure, Duration::ZERO);
        }
        assert_eq!(machine.state(), BreakerState::Open);
        machine
    }

    #[test]
    fn as_many_failures_open_it_after_any_number_of_successes() {
        for successes in [0, 1, 100, 100_000] {
            let mut machine = Machine::new(config());
            for _ in 0..successes {
                call(&mut machine, Outcome::Success, Duration::ZERO);
            }
            for _ in 0..2 {
                call(&mut machine, Outcome::Failure, Duration::ZERO);
                assert_eq!(machine.state(), BreakerState::Closed);
            }
            call(&mut machine, Outcome::Failure, Duration::ZERO);
            assert_eq!(machine.state(), BreakerState::Open);
        }
    }

    #[test]
    fn failures_that_are_far_apart_do_not_add_up() {
        let mut machine = Machine::new(config());
        for second in 0..50 {
            let outcome = if second % 3 == 0 { Outcome::Failure } else { Outcome::Success };
            call(&mut machine, outcome, SECOND * second);
        }
        assert_eq!(machine.state(), BreakerState::Closed, "never 3 among 5");
        let mut machine = Machine::new(config());
        for hour in 0..50 {
            call(&mut machine, Outcome::Failure, 3600 * SECOND * hour);
        }
        assert_eq!(machine.state(), BreakerState::Closed, "never 3 within a minute");
    }

    #[test]
    fn it_refuses_until_its_time_is_over_and_then_lets_only_probes_through() {
        let mut machine = open();
        assert_eq!(machine.admit(4 * SECOND), Err(6 * SECOND));
        let nearly = 10 * SECOND - Duration::from_nanos(1);
        assert_eq!(machine.admit(nearly), Err(Duration::from_nanos(1)));
        let first = machine.admit(10 * SECOND).unwrap();
        assert_eq!(machine.state(), BreakerState::HalfOpen);
        let second = machine.admit(10 * SECOND).unwrap();
        for _ in 0..1000 {
            assert!(machine.admit(10 * SECOND).is_err());
        }
        machine.settle(first, Outcome::Success, 11 * SECOND);
        assert!(machine.admit(11 * SECOND).is_err(), "one has succeeded, one is under way: enough for two");
        machine.settle(second, Outcome::Success, 11 * SECOND);
        assert_eq!(machine.state(), BreakerState::Closed);
    }

    #[test]
    fn a_probe_that_fails_opens_it_again_for_the_whole_time() {
        let mut machine = open();
        call(&mut machine, Outcome::Success, 10 * SECOND);
        call(&mut machine, Outcome::Failure, 12 * SECOND);
        assert_eq!(machine.admit(13 * SECOND), Err(9 * SECOND));
        assert_eq!(machine.opened(), 2);
    }

    #[test]
    fn a_probe_that_is_given_up_gives_its_place_back() {
        let mut machine = open();
        for _ in 0..1000 {
            call(&mut machine, Outcome::Abandoned, 10 * SECOND);
        }
        assert_eq!(machine.state(), BreakerState::HalfOpen);
        call(&mut machine, Outcome::Success, 10 * SECOND);
        call(&mut machine, Outcome::Success, 10 * SECOND);
        assert_eq!(machine.state(), BreakerState::Closed);
    }

    #[test]
    fn probes_that_never_end_are_not_waited_for() {
        let mut machine = open();
        let hung: Vec<_> = (0..2).map(|_| machine.admit(10 * SECOND).unwrap()).collect();
        assert!(machine.admit(69 * SECOND).is_err());
        call(&mut machine, Outcome::Success, 70 * SECOND);
        machine.settle(hung[0], Outcome::Failure, 71 * SECOND);
        call(&mut machine, Outcome::Success, 72 * SECOND);
        assert_eq!(machine.state(), BreakerState::Closed);
    }

    #[test]
    fn results_from_before_it_opened_count_for_nothing() {
        for outcome in [Outcome::Success, Outcome::Failure, Outcome::Abandoned] {
            let mut machine = Machine::new(config());
            let stale: Vec<_> = (0..9).map(|_| machine.admit(Duration::ZERO).unwrap()).collect();
            for generation in &stale[..3] {
                machine.settle(*generation, Outcome::Failure, Duration::ZERO);
            }
            machine.settle(stale[3], outcome, SECOND);
            assert_eq!(machine.admit(SECOND), Err(9 * SECOND));
            let probe = machine.admit(10 * SECOND).unwrap();
            for generation in &stale[4..] {
                machine.settle(*generation, outcome, 10 * SECOND);
            }
            assert_eq!(machine.state(), BreakerState::HalfOpen, "{outcome:?}");
            machine.settle(probe, Outcome::Success, 10 * SECOND);
            call(&mut machine, Outcome::Success, 10 * SECOND);
            assert_eq!(machine.state(), BreakerState::Closed, "{outcome:?}");
        }
    }

    #[test]
    fn a_forced_state_holds_until_it_is_given_up() {
        let mut machine = open();
        machine.force(Some(Forced::Closed));
        for _ in 0..100 {
            call(&mut machine, Outcome::Failure, SECOND);
        }
        machine.force(Some(Forced::Open));
        assert!(machine.admit(1000 * SECOND).is_err());
        machine.force(None);
        call(&mut machine, Outcome::Success, 1000 * SECOND);
        assert_eq!(machine.state(), BreakerState::Closed);
    }

    #[test]
    fn thresholds_of_zero_are_taken_as_one() {
        let config = BreakerConfig { failure_threshold: 0, window: 0, success_threshold: 0, ..config() };
        let mut machine = Machine::new(config);
        call(&mut machine, Outcome::Success, Duration::ZERO);
        assert_eq!(machine.state(), BreakerState::Closed);
        call(&mut machine, Outcome::Failure, Duration::ZERO);
        assert_eq!(machine.state(), BreakerState::Open);
        call(&mut machine, Outcome::Success, 10 * SECOND);
        assert_eq!(machine.state(), BreakerState::Closed);
    }

    /// What may happen to a machine.
    #[derive(Debug, Clone)]
    enum Step {
        Admit,
        /// The result of one of the calls that are under way.
        Settle(prop::sample::Index, Outcome),
        Wait(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let outcome = prop_oneof![
            4 => Just(Outcome::Failure), 3 => Just(Outcome::Success), 1 => Just(Outcome::Abandoned)
        ];
        let step = prop_oneof![
            4 => Just(Step::Admit),
            4 => (any::<prop::sample::Index>(), outcome).prop_map(|(which, outcome)| Step::Settle(which, outcome)),
            1 => (0_u64..15).prop_map(Step::Wait),
        ];
        prop::collection::vec(step, 0..400)
    }

    proptest! {
        /// Against a model that remembers everything: whatever the order of results, no more probes than
        /// `success_threshold` are under way, and it opens and closes for exactly the reasons it should.
        #[test]
        fn it_changes_only_for_a_reason(steps in steps()) {
            let config = config();
            let mut machine = Machine::new(config);
            let (mut now, mut under_way) = (Duration::ZERO, Vec::new());
            // Results of the present generation: (failed, at).
            let mut results: Vec<(bool, Duration)> = Vec::new();
            for step in steps {
                let (before, generation) = (machine.state(), machine.generation());
                match step {
                    Step::Wait(seconds) => now += SECOND * seconds as u32,
                    Step::Admit => {
                        if let Ok(admitted) = machine.admit(now) {
                            under_way.push(admitted);
                        } else {
                            prop_assert_ne!(machine.state(), BreakerState::Closed);
                        }
                    }
                    Step::Settle(which, outcome) if !under_way.is_empty() => {
                        let admitted = under_way.swap_remove(which.index(under_way.len()));
                        machine.settle(admitted, outcome, now);
                        if admitted == generation && outcome != Outcome::Abandoned {
                            results.push((outcome == Outcome::Failure, now));
                        }
                    }
                    Step::Settle(..) => {}
                }
                let probes = under_way.iter().filter(|admitted| **admitted == machine.generation()).count();
                let recent = results.iter().rev().take(config.window as usize);
                let failures = recent.filter(|(failed, at)| *failed && now - *at <= config.memory).count();
                let successes = results.iter().filter(|(failed, _)| !failed).count();
                let failed_now = results.last().is_some_and(|(failed, _)| *failed);
                match (before, machine.state()) {
                    (BreakerState::Closed, BreakerState::Closed) => {
                        prop_assert!(failures < 3 || !failed_now, "{results:?}");
                    }
                    (BreakerState::Closed, BreakerState::Open) => prop_assert!(failures >= 3 && failed_now),
                    (BreakerState::HalfOpen, BreakerState::Open) => prop_assert!(failed_now),
                    (BreakerState::HalfOpen, BreakerState::Closed) => prop_assert!(successes == 2),
                    (BreakerState::HalfOpen, BreakerState::HalfOpen) => {
                        prop_assert!(successes < 2 && !failed_now);
                        prop_assert!(probes + successes <= 2);
                    }
                    (BreakerState::Open, BreakerState::Open | BreakerState::HalfOpen) => {}
                    (from, to) => prop_assert!(false, "{from:?} became {to:?}"),
                }
                if generation != machine.generation() {
                    results.clear();
                }
            }
        }
    }
}
