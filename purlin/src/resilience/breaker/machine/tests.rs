//! The decisions one by one.

use crate::resilience::{Growth, Operator, Over, RateConfig, SlowCalls};

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const GOOD: Outcome = Outcome::Success { slow: false };
const BAD: Outcome = Outcome::Failure { slow: false };

fn config() -> BreakerConfig {
    BreakerConfig {
        failure_threshold: 3,
        window: 5,
        memory: 60 * SECOND,
        success_threshold: 2,
        timeout: 10 * SECOND,
        abandoned_after: SECOND,
        ..BreakerConfig::default()
    }
}

fn call(machine: &mut Machine, outcome: Outcome, now: Duration) {
    let generation = machine.admit(now).expect("the breaker lets it through");
    machine.settle(generation, outcome, now, None);
}

fn force(machine: &mut Machine, forced: Option<Forced>) {
    machine.force(forced, SECOND, Reason::Operator(Operator::new("ann", "a test")));
}

/// A machine that opened at second 0.
fn open() -> Machine {
    let mut machine = Machine::new(config());
    for _ in 0..3 {
        call(&mut machine, BAD, Duration::ZERO);
    }
    assert_eq!(machine.state(), BreakerState::Open);
    machine
}

#[test]
fn as_many_failures_open_it_after_any_number_of_successes() {
    for successes in [0, 1, 100, 100_000] {
        let mut machine = Machine::new(config());
        for _ in 0..successes {
            call(&mut machine, GOOD, Duration::ZERO);
        }
        for _ in 0..2 {
            call(&mut machine, BAD, Duration::ZERO);
            assert_eq!(machine.state(), BreakerState::Closed);
        }
        call(&mut machine, BAD, Duration::ZERO);
        assert_eq!(machine.state(), BreakerState::Open);
    }
}

#[test]
fn failures_that_are_far_apart_do_not_add_up() {
    let mut machine = Machine::new(config());
    for second in 0..50 {
        let outcome = if second % 3 == 0 { BAD } else { GOOD };
        call(&mut machine, outcome, SECOND * second);
    }
    assert_eq!(machine.state(), BreakerState::Closed, "never 3 among 5");
    let mut machine = Machine::new(config());
    for hour in 0..50 {
        call(&mut machine, BAD, 3600 * SECOND * hour);
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
    machine.settle(first, GOOD, 11 * SECOND, None);
    assert!(machine.admit(11 * SECOND).is_err(), "one has succeeded, one is under way: enough for two");
    machine.settle(second, GOOD, 11 * SECOND, None);
    assert_eq!(machine.state(), BreakerState::Closed);
}

#[test]
fn a_probe_that_fails_opens_it_again_for_the_whole_time() {
    let mut machine = open();
    call(&mut machine, GOOD, 10 * SECOND);
    call(&mut machine, BAD, 12 * SECOND);
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
    call(&mut machine, GOOD, 10 * SECOND);
    call(&mut machine, GOOD, 10 * SECOND);
    assert_eq!(machine.state(), BreakerState::Closed);
}

#[test]
fn probes_that_never_end_are_not_waited_for() {
    let mut machine = open();
    let hung: Vec<_> = (0..2).map(|_| machine.admit(10 * SECOND).unwrap()).collect();
    assert!(machine.admit(69 * SECOND).is_err());
    call(&mut machine, GOOD, 70 * SECOND);
    machine.settle(hung[0], BAD, 71 * SECOND, None);
    call(&mut machine, GOOD, 72 * SECOND);
    assert_eq!(machine.state(), BreakerState::Closed);
}

#[test]
fn results_from_before_it_opened_count_for_nothing() {
    for outcome in [GOOD, BAD, Outcome::Abandoned] {
        let mut machine = Machine::new(config());
        let stale: Vec<_> = (0..9).map(|_| machine.admit(Duration::ZERO).unwrap()).collect();
        for generation in &stale[..3] {
            machine.settle(*generation, BAD, Duration::ZERO, None);
        }
        machine.settle(stale[3], outcome, SECOND, None);
        assert_eq!(machine.admit(SECOND), Err(9 * SECOND));
        let probe = machine.admit(10 * SECOND).unwrap();
        for generation in &stale[4..] {
            machine.settle(*generation, outcome, 10 * SECOND, None);
        }
        assert_eq!(machine.state(), BreakerState::HalfOpen, "{outcome:?}");
        machine.settle(probe, GOOD, 10 * SECOND, None);
        call(&mut machine, GOOD, 10 * SECOND);
        assert_eq!(machine.state(), BreakerState::Closed, "{outcome:?}");
    }
}

#[test]
fn a_forced_state_holds_until_it_is_given_up() {
    let mut machine = open();
    force(&mut machine, Some(Forced::Closed));
    for _ in 0..100 {
        call(&mut machine, BAD, SECOND);
    }
    force(&mut machine, Some(Forced::Open));
    assert!(machine.admit(1000 * SECOND).is_err());
    force(&mut machine, None);
    call(&mut machine, GOOD, 1000 * SECOND);
    assert_eq!(machine.state(), BreakerState::Closed);
}

#[test]
fn thresholds_of_zero_are_taken_as_one() {
    let config = BreakerConfig { failure_threshold: 0, window: 0, success_threshold: 0, ..config() };
    let mut machine = Machine::new(config.sane());
    call(&mut machine, GOOD, Duration::ZERO);
    assert_eq!(machine.state(), BreakerState::Closed);
    call(&mut machine, BAD, Duration::ZERO);
    assert_eq!(machine.state(), BreakerState::Open);
    call(&mut machine, GOOD, 10 * SECOND);
    assert_eq!(machine.state(), BreakerState::Closed);
}

fn rates(over: Over, minimum_calls: u32, failures: f64) -> BreakerConfig {
    BreakerConfig::by_rate(RateConfig { over, minimum_calls, failures: Some(failures), slow: None })
}

/// After how many failures in a row it opens.
fn failures_until_open(machine: &mut Machine, now: Duration) -> u32 {
    (1..1_000_000)
        .find(|_| {
            call(machine, BAD, now);
            machine.state() == BreakerState::Open
        })
        .expect("it opens")
}

#[test]
fn a_share_of_the_last_calls_opens_it_however_well_the_morning_was() {
    for successes in [100, 1000, 100_000] {
        let mut machine = Machine::new(rates(Over::Calls(100), 20, 0.5));
        for _ in 0..successes {
            call(&mut machine, GOOD, Duration::ZERO);
        }
        assert_eq!(failures_until_open(&mut machine, Duration::ZERO), 50);
    }
}

#[test]
fn failures_of_yesterday_add_up_in_no_share_of_calls_with_one_of_today() {
    let mut machine = Machine::new(BreakerConfig { memory: 60 * SECOND, ..rates(Over::Calls(100), 20, 0.5) });
    for n in 0..99 {
        call(&mut machine, if n < 50 { GOOD } else { BAD }, Duration::ZERO);
    }
    let mut today = machine.clone();
    call(&mut machine, BAD, 60 * SECOND);
    assert_eq!(machine.state(), BreakerState::Open, "half of a hundred within a minute");
    assert_eq!(
        failures_until_open(&mut today, 61 * SECOND),
        20,
        "the minimum: what was before is no part of it"
    );
}

#[test]
fn of_a_callee_that_is_seldom_asked_the_share_is_that_of_the_last_minute() {
    // The bad one before it has just become too old, and of the thousand good ones before that none counts any more.
    for (pause, opened_by) in [(1, 62), (2, 32)] {
        let mut machine =
            Machine::new(BreakerConfig { memory: 60 * SECOND, ..rates(Over::Calls(100), 20, 0.5) });
        for _ in 0..1000 {
            call(&mut machine, GOOD, Duration::ZERO);
        }
        let opens = (0..1000).find(|n| {
            call(&mut machine, if n % 2 == 0 { BAD } else { GOOD }, SECOND * (pause * n));
            machine.state() == BreakerState::Open
        });
        assert_eq!(opens, Some(opened_by), "a call each {pause} s");
        let expected = Reason::FailureRate { rate: 0.5, calls: opened_by.into() };
        assert_eq!(machine.take_transition().map(|transition| transition.reason), Some(expected));
    }
    let mut machine = Machine::new(BreakerConfig { memory: 60 * SECOND, ..rates(Over::Calls(100), 20, 0.5) });
    for n in 0..1000 {
        call(&mut machine, if n % 3 == 0 { BAD } else { GOOD }, n * SECOND);
    }
    assert_eq!(machine.state(), BreakerState::Closed, "a third is not half");
}

#[test]
fn a_share_of_few_calls_says_nothing() {
    let mut machine = Machine::new(rates(Over::Calls(100), 20, 0.5));
    assert_eq!(failures_until_open(&mut machine, Duration::ZERO), 20);
    let mut machine = Machine::new(rates(Over::Time(10 * SECOND), 20, 0.5));
    assert_eq!(failures_until_open(&mut machine, Duration::ZERO), 20);
}

#[test]
fn a_share_of_the_last_seconds_forgets_the_ones_before() {
    let mut machine = Machine::new(rates(Over::Time(10 * SECOND), 4, 0.5));
    for second in 0..100 {
        // At most four in any ten seconds.
        let outcome = if second % 3 == 2 { BAD } else { GOOD };
        call(&mut machine, outcome, SECOND * second);
    }
    assert_eq!(machine.state(), BreakerState::Closed);
    let quiet = 111 * SECOND;
    assert_eq!(failures_until_open(&mut machine, quiet), 4, "the minimum, and none of what was before");
}

#[test]
fn a_slow_probe_is_a_failed_one() {
    let slow = SlowCalls { after: SECOND, rate: 1.0 };
    let rates = RateConfig { slow: Some(slow), ..RateConfig::default() };
    let mut machine = Machine::new(BreakerConfig { rates: Some(rates), ..config() });
    for _ in 0..3 {
        call(&mut machine, BAD, Duration::ZERO);
    }
    call(&mut machine, Outcome::Success { slow: true }, 10 * SECOND);
    assert_eq!(machine.state(), BreakerState::Open);
    assert_eq!(machine.take_transition().map(|transition| transition.reason), Some(Reason::ProbeSlow));
}

#[test]
fn the_time_that_it_is_open_grows_to_the_longest_and_begins_anew_after_quiet() {
    let growth = Some(Growth { factor: 2.0, max: 35 * SECOND, calm: 100 * SECOND });
    let mut machine = Machine::new(BreakerConfig { growth, ..config() });
    let mut now = Duration::ZERO;
    let waits = |machine: &mut Machine, now: &mut Duration| {
        let wait = machine.admit(*now).unwrap_err();
        *now += wait;
        wait
    };
    for _ in 0..3 {
        call(&mut machine, BAD, now);
    }
    for expected in [10, 20, 35, 35] {
        assert_eq!(waits(&mut machine, &mut now), expected * SECOND);
        call(&mut machine, BAD, now);
    }
    // It closes, and opens again before it was quiet for long enough; then after.
    for (quiet, expected) in [(99, 35), (100, 10)] {
        waits(&mut machine, &mut now);
        for _ in 0..2 {
            call(&mut machine, GOOD, now);
        }
        assert_eq!(machine.state(), BreakerState::Closed);
        now += SECOND * quiet;
        for _ in 0..3 {
            call(&mut machine, BAD, now);
        }
        assert_eq!(machine.clone().admit(now), Err(expected * SECOND));
    }
}

#[test]
fn no_more_probe_at_once_than_the_configuration_says() {
    let mut machine = Machine::new(BreakerConfig { probes: Some(1), ..config() });
    for _ in 0..3 {
        call(&mut machine, BAD, Duration::ZERO);
    }
    for _ in 0..2 {
        let probe = machine.admit(10 * SECOND).unwrap();
        assert!(machine.admit(10 * SECOND).is_err());
        machine.settle(probe, GOOD, 10 * SECOND, None);
    }
    assert_eq!(machine.state(), BreakerState::Closed);
}
