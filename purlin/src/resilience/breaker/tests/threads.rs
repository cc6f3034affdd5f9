//! What holds when many threads share a breaker.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::*;

const THREADS: usize = 8;

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
    let growth = Growth { max: 300 * SECOND, ..Growth::default() };
    for round in 0..10 {
        let config = BreakerConfig { probes: Some(2), rates: Some(rates), growth: Some(growth), ..config() };
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
