//! Calls, on a clock that only moves when everybody waits, and who hears of them.

use crate::message::{Fault, FaultKind, Refusal};
use crate::resilience::CallError;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_call_that_is_given_up_late_is_a_failure_and_early_it_is_nothing() {
    let breaker = Breaker::new("callee", config());
    for waited in [SECOND / 2, SECOND, 3 * SECOND] {
        let _given_up = breaker.admit(Instant::now()).unwrap();
        tokio::time::advance(waited).await;
    }
    assert_eq!(breaker.status(Instant::now()).failures, 2);
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
    for kind in [Rejected, NotFound, Conflict, Bug, Overloaded].into_iter().cycle().take(20) {
        let answer = breaker.call(async || Err::<(), _>(Refusal::new(kind, "no", "no"))).await;
        assert!(matches!(answer, Err(CallError::Failed(refusal)) if refusal.kind() == kind));
    }
    assert_eq!(breaker.status(Instant::now()).failures, 0);
    for kind in [FaultKind::Unavailable, Timeout, Timeout] {
        let answer = breaker.call(async || Err::<(), _>(Refusal::new(kind, "no", "no"))).await;
        assert!(matches!(answer, Err(CallError::Failed(_))));
    }
    let refused = breaker.call(async || Ok::<_, Refusal>(())).await.unwrap_err();
    assert!(matches!(&refused, CallError::Open(open) if open.retry_after > SECOND), "{refused:?}");
    assert_eq!(refused.kind(), FaultKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn neither_bugs_nor_shed_load_close_or_open_a_breaker_that_probes() {
    let breaker = Breaker::new("callee", config());
    trip(&breaker, Instant::now());
    tokio::time::advance(breaker.config().timeout).await;
    for kind in [FaultKind::Bug, FaultKind::Overloaded].into_iter().cycle().take(10) {
        call(&breaker, 9 * SECOND, Err(Refusal::new(kind, "no", "no"))).await.unwrap_err();
        assert_eq!(breaker.status(Instant::now()).state, BreakerState::HalfOpen);
    }
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
    let CallError::Open(open) = call(&breaker, Duration::ZERO, Ok(())).await.unwrap_err() else { panic!() };
    assert!(open.is_held() && open.to_string().contains("held open by an operator"), "{open}");
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
