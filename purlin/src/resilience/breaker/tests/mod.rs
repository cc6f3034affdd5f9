//! What surrounds the decisions of a breaker.

mod calls;
mod config;
mod threads;
mod traces;

use std::time::Duration;

use tokio::time::Instant;

use crate::telemetry::Metrics;

use super::buckets::{Buckets, Counts};
use super::stripes::Successes;
use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn config() -> BreakerConfig {
    let timeout = 5 * SECOND;
    BreakerConfig {
        failure_threshold: 3,
        window: 10,
        success_threshold: 3,
        timeout,
        ..BreakerConfig::default()
    }
}

fn trip(breaker: &Breaker, now: Instant) {
    while let Ok(permit) = breaker.admit(now) {
        permit.failed(now);
    }
}

#[test]
fn refusals_are_counted_and_say_who_and_how_long() {
    let (breaker, now) = (Breaker::new("callee", config()), Instant::now());
    trip(&breaker, now);
    let refused = breaker.admit(now + SECOND).unwrap_err();
    assert_eq!(refused.to_string(), "the circuit breaker for `callee` is open");
    let expected = breaker.config().timeout - SECOND;
    assert!(refused.retry_after >= expected && refused.retry_after <= expected + SECOND / 500);
    let status = breaker.status(now);
    assert_eq!((status.state, status.opened, status.rejected), (BreakerState::Open, 1, 2));
}

#[test]
fn breakers_are_listed_and_shown_in_metrics() {
    let (breakers, metrics) = (Breakers::new(), Metrics::new());
    breakers.observe(&metrics);
    let now = Instant::now();
    breakers.breaker("users", config());
    trip(&breakers.breaker("payments", config()), now);
    breakers.breaker("payments", config());
    let states: Vec<_> = breakers.list(now).into_iter().map(|s| (s.name, s.state)).collect();
    let expected = [("payments", BreakerState::Open), ("users", BreakerState::Closed)];
    assert_eq!(states, expected.map(|(name, state)| (name.to_owned(), state)));
    let text = metrics.render();
    for line in
        ["state{callee=\"payments\"} 2", "opened{callee=\"payments\"} 1", "rejected{callee=\"payments\"} 1"]
    {
        assert!(text.contains(&format!("purlin_breaker_{line}")), "{line} is missing in\n{text}");
    }

    breakers.find("payments").unwrap().force(Some(Forced::Closed));
    assert!(breakers.find("payments").unwrap().admit(now).is_ok());
    assert!(breakers.find("nobody").is_none());
}

#[test]
fn keys_have_breakers_of_their_own_and_never_more_than_there_are_places() {
    let (keyed, now) = (KeyedBreakers::new("hosts", config(), 3), Instant::now());
    trip(&keyed.breaker("a"), now);
    assert!(keyed.breaker("a").admit(now).is_err());
    assert!(keyed.breaker("b").admit(now).is_ok(), "another key's trouble");
    for key in 0..1000 {
        keyed.breaker(&key.to_string()).admit(now).unwrap().succeeded();
        assert!(keyed.len() <= 3);
    }
    let refused = keyed.breaker("a").admit(now).unwrap_err();
    assert_eq!(&*refused.callee, "hosts/a", "one that is open is not forgotten for those that are well");
    for key in ["c", "d", "e"] {
        trip(&keyed.breaker(key), now);
    }
    let shared = keyed.breaker("f").admit(now).unwrap_err();
    assert_eq!(&*shared.callee, "hosts/other", "no key can make room");
}

#[tokio::test(start_paused = true)]
async fn a_key_is_not_forgotten_while_its_failures_count_or_its_time_open_grows() {
    let rates = RateConfig { over: Over::Time(10 * SECOND), minimum_calls: 3, ..RateConfig::default() };
    let growth = Some(Growth { factor: 2.0, calm: 60 * SECOND, ..Growth::default() });
    let config = BreakerConfig { success_threshold: 1, growth, ..BreakerConfig::by_rate(rates) };
    let keyed = KeyedBreakers::new("hosts", config, 1);
    let is_kept = || {
        keyed.breaker("b");
        keyed.find("a").is_some()
    };
    keyed.breaker("a").admit(Instant::now()).unwrap().failed(Instant::now());
    tokio::time::advance(8 * SECOND).await;
    assert!(is_kept(), "one more in its window would count with it");
    trip(&keyed.breaker("a"), Instant::now());
    tokio::time::advance(config.timeout).await;
    keyed.breaker("a").admit(Instant::now()).unwrap().succeeded();
    tokio::time::advance(30 * SECOND).await;
    assert!(is_kept(), "its next time open is twice as long");
    tokio::time::advance(30 * SECOND).await;
    assert!(!is_kept(), "all is forgotten anyway");
}

#[test]
fn no_failure_is_shown_that_is_too_old_to_count() {
    let (both, now) = (BreakerConfig { rates: Some(RateConfig::default()), ..config() }, Instant::now());
    for config in [config(), BreakerConfig::by_rate(RateConfig::default()), both] {
        let breaker = Breaker::new("callee", config);
        for _ in 0..2 {
            breaker.admit(now).unwrap().failed(now);
        }
        assert_eq!(breaker.status(now + config.memory).failures, 2);
        assert_eq!(breaker.status(now + config.memory + SECOND).failures, 0);
    }
}

#[test]
fn a_failure_that_is_too_old_to_count_keeps_no_key() {
    let keyed = KeyedBreakers::new("hosts", BreakerConfig { memory: Duration::ZERO, ..config() }, 1);
    keyed.breaker("a").admit(Instant::now()).unwrap().failed(Instant::now());
    std::iter::repeat_with(|| keyed.breaker("b")).take(1000).find(|_| keyed.find("a").is_none()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_key_that_nobody_calls_any_more_makes_room_however_ill_it_was() {
    let growing = BreakerConfig { growth: Some(Growth { max: 5 * SECOND, ..Growth::default() }), ..config() };
    for config in [config(), growing, BreakerConfig { memory: 90 * SECOND, ..config() }] {
        let keyed = KeyedBreakers::new("hosts", config, 2);
        let is_kept = |key: &str| {
            // One of the next few makes room, if it can.
            keyed.breaker("new");
            keyed.find(key).is_some()
        };
        trip(&keyed.breaker("open"), Instant::now());
        trip(&keyed.breaker("on probation"), Instant::now());
        tokio::time::advance(config.timeout).await;
        keyed.breaker("on probation").admit(Instant::now()).unwrap().told_nothing();
        assert_eq!(keyed.breaker("on probation").status(Instant::now()).state, BreakerState::HalfOpen);
        let quiet = if config.growth.is_some() { 60 * SECOND } else { config.memory };
        tokio::time::advance(quiet - SECOND).await;
        assert!(is_kept("open") && is_kept("on probation"));
        tokio::time::advance(SECOND).await;
        assert!(!is_kept("open"), "it would begin anew");
        keyed.breaker("newer");
        assert!(keyed.find("on probation").is_some(), "a probe may still be under way");
        tokio::time::advance(config.probe_timeout).await;
        keyed.breaker("newest");
        assert!(keyed.find("on probation").is_none());
    }
    let held = KeyedBreakers::new("hosts", config(), 1);
    held.breaker("a").force(Some(Forced::Open));
    tokio::time::advance(3600 * SECOND).await;
    held.breaker("b");
    assert!(held.find("a").is_some(), "what an operator holds is kept");
}

#[test]
fn a_breaker_under_other_terms_is_held_as_before_and_counts_on() {
    let (breakers, now) = (Breakers::new(), Instant::now());
    let old = breakers.breaker("payments", config());
    trip(&old, now);
    old.force_by(Some(Forced::Open), Operator::new("ann", "they deploy"));
    assert!(old.admit(now).is_err());
    let mut changes = breakers.changes();
    let new = breakers.replace(old.name(), BreakerConfig { failure_threshold: 9, ..config() });
    assert!(changes.waiting().is_none(), "nothing changed for those who call");
    assert!(breakers.find("payments").unwrap().admit(now).is_err());
    let status = new.status(now);
    assert_eq!(
        (status.forced, status.forced_by.as_deref(), status.forced_why.as_deref()),
        (Some(Forced::Open), Some("ann"), Some("they deploy"))
    );
    assert_eq!((status.opened, status.rejected, new.config().failure_threshold), (1, 3, 9));
    new.reset(Operator::new("bob", "it is over"));
    let status = new.status(now);
    assert_eq!((status.state, status.forced_by), (BreakerState::Closed, None));
}

#[test]
fn a_registry_lists_of_many_keys_those_that_are_not_well() {
    let (breakers, now) = (Breakers::new(), Instant::now());
    let keyed = breakers.keyed("hosts", config(), 100);
    for key in ["a", "b", "c"] {
        keyed.breaker(key).admit(now).unwrap().succeeded();
    }
    trip(&breakers.keyed("hosts", config(), 100).breaker("b"), now);
    let listed: Vec<_> = breakers.list(now).into_iter().map(|status| (status.name, status.state)).collect();
    assert_eq!(listed, [("hosts/b".to_owned(), BreakerState::Open)]);
    assert!(breakers.find("hosts/b").unwrap().admit(now).is_err());
    assert!(breakers.find("hosts/nobody").is_none());
}

#[test]
fn the_coarse_clock_tells_the_time() {
    let coarse = Breaker::with_clock("callee", config(), BreakerClock::Coarse);
    let before = Instant::now();
    trip(&coarse, before);
    let refused = coarse.enter().unwrap_err().retry_after;
    let timeout = coarse.config().timeout;
    assert!(refused <= timeout + SECOND && refused + before.elapsed() + SECOND >= timeout, "{refused:?}");
}

#[test]
fn a_long_name_is_told_as_well_as_a_short_one() {
    for name in ["", "a", "thirty bytes are short, are so!", &"x".repeat(300)] {
        let (breaker, now) = (Breaker::new(name, config()), Instant::now());
        trip(&breaker, now);
        let refused = breaker.admit(now).unwrap_err();
        assert_eq!(&*refused.callee, name);
        assert_eq!(format!("{:?}", refused.callee), format!("{name:?}"));
    }
}

#[test]
fn a_window_of_time_ends_with_the_newest_call_though_the_clock_goes_back() {
    let (mut window, one) = (Buckets::new(10 * SECOND), Counts { calls: 1, ..Counts::default() });
    for second in [20, 11, 10, 9] {
        window.add(SECOND * second, one);
    }
    assert_eq!(window.counts(12 * SECOND, None).calls, 2, "of 20 and 11");
    assert_eq!(window.counts(21 * SECOND, None).calls, 1, "of 20");
}

#[test]
fn a_late_good_call_of_an_older_generation_replaces_no_newer_one() {
    for newer in [7, 600, 1023, 1024, 1025, 5000, (1 << 21) - 1] {
        let (successes, older) = (Successes::new(10 * SECOND), newer - 1);
        let count = |generation| successes.of(generation, 5 * SECOND).counts(5 * SECOND, None).calls;
        successes.add(older, 5 * SECOND);
        assert_eq!(count(older), 1);
        successes.add(newer, 5 * SECOND);
        // In the same place, ten parts later.
        for second in [5, 15] {
            successes.add(older, SECOND * second);
            assert_eq!((count(newer), count(older)), (1, 0), "generation {newer}");
        }
    }
}

#[test]
fn a_thread_that_counted_nothing_for_long_counts_again() {
    for (generation, later) in [(0, 1), (0, 1 << 22), (0, 3 << 22), (600, 1), (1500, 1 << 24), (1 << 20, 1)] {
        let successes = Successes::new(10 * SECOND);
        successes.add(0, 5 * SECOND);
        let now = (5 + 10 * later) * SECOND;
        successes.add(generation, now);
        let counts = successes.of(generation, now).counts(now, None);
        assert_eq!(counts.calls, 1, "generation {generation}, {later} windows later");
    }
}
