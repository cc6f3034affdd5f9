//! What holds when many threads share a breaker, and what surrounds the decisions.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use crate::message::{Fault, FaultKind, Refusal};
use crate::resilience::CallError;
use crate::telemetry::Metrics;

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
        let many = BreakerConfig { failure_threshold: 1000, window: 50_000, ..config() };
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

/// Numbers that look random, the same in each run.
fn scatter(seed: usize) -> impl FnMut(u64) -> u64 {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed as u64 + 1);
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    }
}

#[test]
fn never_more_probe_at_once_than_may_however_they_end() {
    let many = BreakerConfig { success_threshold: 1_000_000, probes: Some(3), ..config() };
    let (breaker, now) = (Breaker::new("callee", many), Instant::now());
    trip(&breaker, now);
    let later = now + breaker.config().timeout;
    let (inside, probed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    at_once(|thread| {
        let mut random = scatter(thread);
        for _ in 0..3000 {
            let Ok(permit) = breaker.admit(later) else { continue };
            assert!(inside.fetch_add(1, Ordering::SeqCst) < 3, "a fourth probe");
            probed.fetch_add(1, Ordering::Relaxed);
            // Whoever comes in between must find the place taken.
            std::hint::spin_loop();
            inside.fetch_sub(1, Ordering::SeqCst);
            if random(2) == 0 { permit.succeeded() } else { permit.abandoned(later) }
        }
    });
    assert!(probed.load(Ordering::Relaxed) > 1000);
    assert_eq!(breaker.status(later).state, BreakerState::HalfOpen);
    let probes: Vec<_> = (0..10).filter_map(|_| breaker.admit(later).ok()).collect();
    assert_eq!(probes.len(), 3, "places were lost, or came from nowhere");
}

#[test]
fn whatever_many_threads_do_it_never_sticks() {
    let rates = RateConfig { over: Over::Time(SECOND), minimum_calls: 5, ..RateConfig::default() };
    let growth = Growth { factor: 2.0, ..Growth::default() };
    for round in 0..10 {
        let config = BreakerConfig { probes: Some(2), rates: Some(rates), growth, ..config() };
        let (breaker, start) = (Breaker::new("callee", config), Instant::now());
        let millis = std::sync::atomic::AtomicU64::new(0);
        at_once(|thread| {
            let mut random = scatter(100 * round + thread);
            for _ in 0..2000 {
                let now = start + Duration::from_millis(millis.fetch_add(random(20), Ordering::Relaxed));
                match (random(1000), breaker.admit(now)) {
                    (0, _) => breaker.force(Some(Forced::Open)),
                    (1, _) => breaker.force(Some(Forced::Closed)),
                    (2..10, _) => breaker.reset(Operator::new("ann", "a test")),
                    (_, Err(open)) => assert!(open.retry_after <= growth.max),
                    (10..400, Ok(permit)) => permit.failed(now),
                    (400..450, Ok(permit)) => drop(permit),
                    (_, Ok(permit)) => permit.succeeded_at(now),
                }
            }
        });
        let end = start + Duration::from_millis(millis.load(Ordering::Relaxed));
        if breaker.status(end).forced.is_some() {
            breaker.force(None);
        }
        let much_later = end + growth.max + config.probe_timeout;
        for call in 0..3 {
            let permit = breaker.admit(much_later);
            permit
                .unwrap_or_else(|open| panic!("round {round}, call {call}: {open}"))
                .succeeded_at(much_later);
        }
        assert_eq!(breaker.status(much_later).state, BreakerState::Closed, "round {round}");
    }
}

#[test]
fn the_calls_of_a_window_of_time_are_counted_on_more_threads_than_have_lines() {
    const CALLS: usize = 500;
    let count = (20 * CALLS + 1) as u32;
    let rates = RateConfig { over: Over::Time(3600 * SECOND), minimum_calls: count, ..RateConfig::default() };
    let config = BreakerConfig::by_rate(RateConfig { failures: Some(0.0), ..rates });
    let (breaker, now) = (Breaker::new("callee", config), Instant::now());
    let barrier = Barrier::new(20);
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                barrier.wait();
                (0..CALLS).for_each(|_| breaker.admit(now).unwrap().succeeded_at(now));
                // None gives its place back before all have one.
                barrier.wait();
            });
        }
    });
    assert_eq!(breaker.status(now).state, BreakerState::Closed);
    breaker.admit(now).unwrap().failed(now);
    assert_eq!(breaker.status(now).state, BreakerState::Open, "with this one they are enough");
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

/// Calls that last so long and then end so.
async fn call(
    breaker: &Breaker,
    lasts: Duration,
    answer: Result<(), Refusal>,
) -> Result<(), CallError<Refusal>> {
    let work = async || {
        tokio::time::sleep(lasts).await;
        answer
    };
    breaker.call(work).await
}

#[tokio::test(start_paused = true)]
async fn a_call_fails_by_the_kind_of_its_error() {
    use FaultKind::{Bug, Conflict, NotFound, Overloaded, Rejected, Timeout};
    let breaker = Breaker::new("callee", config());
    for kind in [Rejected, NotFound, Conflict, Bug].into_iter().cycle().take(20) {
        let answer = breaker.call(async || Err::<(), _>(Refusal::new(kind, "no", "no"))).await;
        assert!(matches!(answer, Err(CallError::Failed(refusal)) if refusal.kind() == kind));
    }
    assert_eq!(breaker.status(Instant::now()).failures, 0);
    for kind in [FaultKind::Unavailable, Overloaded, Timeout] {
        let answer = breaker.call(async || Err::<(), _>(Refusal::new(kind, "no", "no"))).await;
        assert!(matches!(answer, Err(CallError::Failed(_))));
    }
    let refused = breaker.call(async || Ok::<_, Refusal>(())).await.unwrap_err();
    assert!(matches!(&refused, CallError::Open(open) if open.retry_after > SECOND), "{refused:?}");
    assert_eq!(refused.kind(), FaultKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn what_counts_as_a_failure_is_the_callers_choice() {
    let breaker = Breaker::new("callee", config());
    for status in [404, 503, 404, 503, 503] {
        assert_eq!(breaker.call_judged(|status| *status >= 500, async || status).await, Ok(status));
    }
    let refused = breaker.call_judged(|_| false, async || 200).await;
    assert_eq!(refused.unwrap_err().callee.to_string(), "callee");
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_dropped_at_any_point_leaves_no_trace_or_a_failure() {
    for waited in [0, 1, 500, 999, 1000, 5000] {
        let breaker = Breaker::new("callee", config());
        trip(&breaker, Instant::now());
        tokio::time::advance(breaker.config().timeout).await;
        let given_up = Duration::from_millis(waited);
        let probe = tokio::time::timeout(given_up, call(&breaker, 9 * SECOND, Ok(())));
        assert!(probe.await.is_err());
        let expected = if waited >= 1000 { BreakerState::Open } else { BreakerState::HalfOpen };
        assert_eq!(breaker.status(Instant::now()).state, expected, "{waited} ms");
        if expected == BreakerState::HalfOpen {
            for _ in 0..3 {
                call(&breaker, Duration::ZERO, Ok(())).await.unwrap();
            }
            assert_eq!(breaker.status(Instant::now()).state, BreakerState::Closed);
        }
    }
}

fn panics() {
    panic!("on purpose");
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_call_gives_its_place_back() {
    let breaker = Breaker::new("callee", config());
    trip(&breaker, Instant::now());
    tokio::time::advance(breaker.config().timeout).await;
    for _ in 0..20 {
        let panics =
            std::panic::AssertUnwindSafe(async { breaker.call_judged(|()| false, async || panics()).await });
        assert!(futures_util::FutureExt::catch_unwind(panics).await.is_err());
    }
    assert_eq!(breaker.status(Instant::now()).state, BreakerState::HalfOpen);
    assert!(call(&breaker, SECOND, Ok(())).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_too_long_are_slow_and_those_that_answer_at_once_never() {
    let slow = SlowCalls { after: SECOND, rate: 0.5 };
    let rates = RateConfig { over: Over::Calls(10), minimum_calls: 4, failures: None, slow: Some(slow) };
    let breaker = Breaker::new("callee", BreakerConfig::by_rate(rates));
    let mut changes = breaker.changes();
    for lasts in [SECOND / 2, SECOND, SECOND / 2] {
        call(&breaker, lasts, Ok(())).await.unwrap();
    }
    breaker.call(async || Ok::<_, Refusal>(())).await.unwrap();
    assert_eq!(breaker.status(Instant::now()).state, BreakerState::Closed, "one of four");
    for _ in 0..2 {
        call(&breaker, 2 * SECOND, Ok(())).await.unwrap();
    }
    let change = changes.next().await.unwrap();
    assert_eq!(change.reason, Reason::SlowRate { rate: 0.5, calls: 6 });
    assert_eq!(change.reason.to_string(), "50.0 % of 6 calls were slow");
}

#[tokio::test(start_paused = true)]
async fn subscribers_hear_of_each_change_who_made_it_and_why() {
    let breakers = Breakers::new();
    let (mut all, breaker) = (breakers.changes(), breakers.breaker("callee", config()));
    let (mut changes, start) = (breaker.changes(), Instant::now());
    trip(&breaker, start);
    tokio::time::advance(breaker.config().timeout).await;
    for _ in 0..3 {
        call(&breaker, Duration::ZERO, Ok(())).await.unwrap();
    }
    breaker.force_by(Some(Forced::Open), Operator::new("ann", "they are moving house"));
    breaker.reset(Operator::new("bob", "they have moved"));
    use BreakerState::{Closed, HalfOpen, Open};
    let by = |who: &str, why: &str| Reason::Operator(Operator::new(who, why));
    let expected = [
        (Closed, Open, Reason::Failures { failures: 3 }),
        (Open, HalfOpen, Reason::TimedOut),
        (HalfOpen, Closed, Reason::ProbesSucceeded),
        (Closed, Open, by("ann", "they are moving house")),
        (Open, Closed, by("bob", "they have moved")),
    ];
    for (from, to, reason) in expected {
        let change = changes.next().await.unwrap();
        assert_eq!(all.next().await.as_ref(), Some(&change));
        assert_eq!((&*change.breaker, change.from, change.to, change.reason), ("callee", from, to, reason));
        assert!(change.at >= start && change.at <= Instant::now());
    }
    drop((breaker, breakers));
    assert_eq!(changes.next().await, None);
    assert_eq!(changes.missed(), 0);
}

#[tokio::test]
async fn who_does_not_listen_misses_the_oldest_changes_and_knows_how_many() {
    let breaker = Breaker::new("callee", config());
    let mut changes = breaker.changes();
    for _ in 0..100 {
        breaker.force(Some(Forced::Open));
    }
    drop(breaker);
    let mut heard = 0;
    while changes.next().await.is_some() {
        heard += 1;
    }
    assert_eq!((heard, changes.missed()), (64, 36));
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
fn a_configuration_that_makes_no_sense_says_why() {
    let usual = BreakerConfig::default();
    let rates = |rates| BreakerConfig { rates: Some(rates), ..usual };
    let share = |failures| RateConfig { failures: Some(failures), ..RateConfig::default() };
    let slow = |after, rate| RateConfig { slow: Some(SlowCalls { after, rate }), ..RateConfig::default() };
    let over = |over| RateConfig { over, ..RateConfig::default() };
    let growth = |factor, max| BreakerConfig { growth: Growth { factor, max, ..Growth::default() }, ..usual };
    let wrong = [
        ("failure_threshold", BreakerConfig { failure_threshold: 0, ..usual }),
        ("failure_threshold", BreakerConfig { failure_threshold: 65_537, ..usual }),
        ("failure_threshold", BreakerConfig { failure_threshold: BreakerConfig::NEVER, ..usual }),
        ("window", BreakerConfig { window: 65_537, ..usual }),
        ("success_threshold", BreakerConfig { success_threshold: 0, ..usual }),
        ("probes", BreakerConfig { probes: Some(0), ..usual }),
        ("probe_timeout", BreakerConfig { probe_timeout: Duration::ZERO, ..usual }),
        ("growth.factor", growth(0.5, SECOND)),
        ("growth.factor", growth(f64::NAN, SECOND)),
        ("growth.max", growth(2.0, SECOND)),
        ("rates", rates(RateConfig { failures: None, ..RateConfig::default() })),
        ("rates.failures", rates(share(1.01))),
        ("rates.failures", rates(share(-0.1))),
        ("rates.failures", rates(share(f64::NAN))),
        ("rates.slow.rate", rates(slow(SECOND, 2.0))),
        ("rates.slow.after", rates(slow(Duration::ZERO, 0.5))),
        ("rates.minimum_calls", rates(RateConfig { minimum_calls: 0, ..RateConfig::default() })),
        ("rates.minimum_calls", rates(RateConfig { minimum_calls: 101, ..RateConfig::default() })),
        ("rates.over.calls", rates(RateConfig { minimum_calls: 1, ..over(Over::Calls(0)) })),
        ("rates.over.calls", rates(over(Over::Calls(65_537)))),
        ("rates.over.time", rates(over(Over::Time(Duration::from_millis(99))))),
        ("rates.over.time", rates(over(Over::Time(3601 * SECOND)))),
    ];
    for (field, config) in wrong {
        let error = config.validate().expect_err(field);
        assert_eq!(error.field, field, "{error}");
        let written = serde_json::to_string(&config).unwrap();
        let read = serde_json::from_str::<BreakerConfig>(&written);
        assert!(read.is_err(), "{written}");
    }
    let error = BreakerConfig { window: 70_000, ..usual }.validate().unwrap_err();
    assert_eq!(error.to_string(), "a breaker's `window` must be at most 65536");
    assert!(rates(share(0.0)).validate().and(rates(share(1.0)).validate()).is_ok());
}

#[test]
fn a_configuration_with_everything_is_read_as_it_is_written() {
    let text = r#"{"failure_threshold": 3, "probes": 1, "growth": {"factor": 2.0, "max": "1m"},
        "rates": {"over": {"time": "10s"}, "minimum_calls": 10, "slow": {"after": "500ms", "rate": 0.8}}}"#;
    let read: BreakerConfig = serde_json::from_str(text).unwrap();
    let rates = read.rates.unwrap();
    assert_eq!((rates.over, rates.failures), (Over::Time(10 * SECOND), Some(0.5)));
    assert_eq!((read.growth.factor, read.growth.max, read.probes), (2.0, 60 * SECOND, Some(1)));
    let written = serde_json::to_string(&read).unwrap();
    assert_eq!(serde_json::from_str::<BreakerConfig>(&written).unwrap(), read);
    assert!(
        serde_json::from_str::<BreakerConfig>(r#"{"rates": {"over": {"calls": 10}, "sloow": 1}}"#).is_err()
    );
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
