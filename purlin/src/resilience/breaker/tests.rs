//! What holds when many threads share a breaker, and that the summary says what the machine decides.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use crate::telemetry::Metrics;

use super::machine::{Machine, Outcome};
use super::*;

const THREADS: usize = 8;
const SECOND: Duration = Duration::from_secs(1);

fn config() -> BreakerConfig {
    BreakerConfig { failure_threshold: 3, window: 10, success_threshold: 3, ..BreakerConfig::default() }
}

fn trip(breaker: &Breaker, now: Instant) {
    while let Ok(permit) = breaker.admit(now) {
        permit.failed(now);
    }
}

/// Lets all threads do `work` at the same time.
fn at_once(work: impl Fn(usize) + Sync) {
    let barrier = Barrier::new(THREADS);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (barrier, work) = (&barrier, &work);
            scope.spawn(move || {
                barrier.wait();
                work(thread);
            });
        }
    });
}

#[test]
fn however_many_ask_at_once_only_as_many_probe_as_must_succeed() {
    for round in 0..50 {
        let (breaker, now) = (Breaker::new("callee", config()), Instant::now());
        let stale: Vec<_> = (0..THREADS).map(|_| breaker.admit(now).unwrap()).collect();
        trip(&breaker, now);
        let later = now + breaker.config().timeout;
        let stale = std::sync::Mutex::new(stale);
        let asked = Barrier::new(THREADS);
        let probes = AtomicUsize::new(0);
        at_once(|thread| {
            // A late answer from before it opened comes in between, and must not count.
            let late = stale.lock().unwrap().pop().unwrap();
            if thread % 2 == 0 {
                late.succeeded();
            } else {
                late.failed(later);
            }
            let permits: Vec<_> = (0..10).filter_map(|_| breaker.admit(later).ok()).collect();
            probes.fetch_add(permits.len(), Ordering::Relaxed);
            asked.wait();
            assert_eq!(probes.load(Ordering::Relaxed), 3, "round {round}");
            permits.into_iter().for_each(Permit::succeeded);
        });
        assert_eq!(breaker.status(later).state, BreakerState::Closed, "round {round}");
    }
}

#[test]
fn failures_that_happen_at_once_are_all_counted_whatever_succeeds_beside_them() {
    for round in 0..50 {
        let many = BreakerConfig { failure_threshold: 1000, window: 1_000_000, ..config() };
        let (breaker, now) = (Breaker::new("callee", many), Instant::now());
        at_once(|_| {
            for call in 0..100 {
                let permit = breaker.admit(now).unwrap();
                if call % 10 == 0 { permit.failed(now) } else { permit.succeeded() }
            }
        });
        assert_eq!(breaker.status(now).failures as usize, THREADS * 10, "round {round}");
    }
}

#[test]
fn probes_that_are_dropped_everywhere_leave_their_places_free() {
    for round in 0..50 {
        let (breaker, now) = (Breaker::new("callee", config()), Instant::now());
        trip(&breaker, now);
        let later = now + breaker.config().timeout;
        at_once(|_| (0..100).for_each(|_| drop(breaker.admit(later))));
        assert_eq!(breaker.status(later).state, BreakerState::HalfOpen, "round {round}");
        let probes: Vec<_> = (0..10).filter_map(|_| breaker.admit(later).ok()).collect();
        assert_eq!(probes.len(), 3, "round {round}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_given_up_late_is_a_failure_and_early_it_is_nothing() {
    let breaker = Breaker::new("callee", config());
    for waited in [SECOND / 2, SECOND, 3 * SECOND] {
        let _given_up = breaker.admit(Instant::now()).unwrap();
        tokio::time::advance(waited).await;
    }
    assert_eq!(breaker.status(Instant::now()).failures, 2);
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
    assert!(metrics.render().contains("purlin_breaker_state{callee=\"payments\"} 2"));

    breakers.find("payments").unwrap().force(Some(Forced::Closed));
    assert!(breakers.find("payments").unwrap().admit(now).is_ok());
    assert!(breakers.find("nobody").is_none());
}

#[test]
fn a_configuration_is_read_as_it_is_written() {
    let read: BreakerConfig =
        serde_json::from_str(r#"{"failure_threshold": 2, "timeout": "1m 30s"}"#).unwrap();
    assert_eq!(
        read,
        BreakerConfig { failure_threshold: 2, timeout: 90 * SECOND, ..BreakerConfig::default() }
    );
    let written = serde_json::to_string(&read).unwrap();
    assert_eq!(serde_json::from_str::<BreakerConfig>(&written).unwrap(), read);
    assert!(serde_json::from_str::<BreakerConfig>(r#"{"treshold": 2}"#).is_err());
}

proptest! {
    /// The shared breaker, which often decides by its summary alone, does what a machine does that is always
    /// asked.
    #[test]
    fn the_summary_decides_as_the_machine_would(calls in prop::collection::vec((0_u8..5, 0_u64..4000), 0..300)) {
        let breaker = Breaker::new("callee", config());
        let mut machine = Machine::new(config());
        let (start, mut at) = (Instant::now() + SECOND, SECOND);
        for (kind, wait) in calls {
            at += Duration::from_millis(wait);
            let now = start + at;
            let since_origin = breaker.since_origin(now);
            let (shared, alone) = (breaker.admit(now), machine.admit(since_origin));
            prop_assert_eq!(shared.is_ok(), alone.is_ok());
            let (Ok(permit), Ok(generation)) = (shared, alone) else { continue };
            let outcome = if kind < 3 { Outcome::Success } else { Outcome::Failure };
            machine.settle(generation, outcome, since_origin);
            if kind < 3 { permit.succeeded() } else { permit.failed(now) }
            prop_assert_eq!(breaker.status(now).state, machine.state());
        }
    }
}
