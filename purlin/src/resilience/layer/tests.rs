//! Layers around a service that answers as it is told.

use std::convert::Infallible;

use tokio::time::Instant;
use tower::{ServiceExt, service_fn};

use crate::message::{Fault as _, FaultKind, Refusal};
use crate::resilience::{
    Breaker, BreakerConfig, BreakerState, DeadlineExceeded, KeyedBreakers, Verdict, deadline,
};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn answers_that_are_judged_failures_open_the_breaker() {
    let echo = service_fn(async |status: u16| Ok::<_, Infallible>(status));
    let breaker = Breaker::new("echo", BreakerConfig { failure_threshold: 2, ..BreakerConfig::default() });
    let judge = |answer: &Result<u16, Infallible>| matches!(answer, Ok(500..));
    let mut client = BreakerLayer::new(breaker.clone(), judge).layer(echo);
    for status in [404, 503, 404, 503] {
        assert_eq!(client.ready().await.unwrap().call(status).await.unwrap(), status);
    }
    let refused = client.ready().await.unwrap().call(200).await;
    assert!(matches!(refused, Err(CallError::Open(_))), "{refused:?}");
    tokio::time::advance(breaker.config().timeout).await;
    assert_eq!(client.ready().await.unwrap().call(200).await.unwrap(), 200);
}

#[tokio::test(start_paused = true)]
async fn each_key_has_a_breaker_of_its_own() {
    let echo =
        service_fn(async |(_, up): (&'static str, bool)| if up { Ok(()) } else { Err(DeadlineExceeded) });
    let config = BreakerConfig { failure_threshold: 1, ..BreakerConfig::default() };
    let hosts = KeyedBreakers::new("hosts", config, 10);
    let judge = |answer: &Result<(), DeadlineExceeded>| answer.is_err();
    let client = BreakerLayer::per_key(hosts, |request: &(&'static str, bool)| request.0, judge).layer(echo);
    assert!(matches!(client.clone().oneshot(("a", false)).await, Err(CallError::Failed(_))));
    assert!(matches!(client.clone().oneshot(("a", true)).await, Err(CallError::Open(_))));
    assert!(client.oneshot(("b", true)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_gives_its_place_back_or_fails_if_it_took_long() {
    let down = service_fn(
        async |hangs: bool| {
            if hangs { std::future::pending().await } else { Err::<(), _>(DeadlineExceeded) }
        },
    );
    let config = BreakerConfig { failure_threshold: 1, success_threshold: 1, ..BreakerConfig::default() };
    let breaker = Breaker::new("down", config);
    let client = BreakerLayer::by_kind(breaker.clone()).layer(down);
    assert!(client.clone().oneshot(false).await.is_err());
    tokio::time::advance(config.timeout).await;
    for (waits, expected) in [(SECOND / 2, BreakerState::HalfOpen), (SECOND, BreakerState::Open)] {
        assert!(tokio::time::timeout(waits, client.clone().oneshot(true)).await.is_err());
        assert_eq!(breaker.status(Instant::now()).state, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_at_its_own_deadline_or_that_of_its_task() {
    let hang = service_fn(async |()| std::future::pending::<Result<(), Infallible>>().await);
    let client = DeadlineLayer::new(3 * SECOND).layer(hang);
    for (outer, expected) in [(10 * SECOND, 3 * SECOND), (SECOND, SECOND)] {
        let start = Instant::now();
        let call = deadline::within(Deadline::after(outer), client.clone().oneshot(()));
        assert!(matches!(call.await, Err(CallError::DeadlineExceeded)));
        assert_eq!(start.elapsed(), expected);
    }
}

/// A service that answers with the kind of error that it is asked for.
macro_rules! refusing {
    () => {
        service_fn(async |kind: Option<FaultKind>| match kind {
            Some(kind) => Err(Refusal::new(kind, "no", "no")),
            None => Ok(()),
        })
    };
}

#[tokio::test(start_paused = true)]
async fn by_kind_says_what_all_breakers_take_an_error_for() {
    use FaultKind::{Bug, Conflict, NotFound, Overloaded, Rejected, Timeout, Unavailable};
    let config = BreakerConfig { failure_threshold: 1, success_threshold: 1, ..BreakerConfig::default() };
    let cases = [
        (Rejected, BreakerState::Closed),
        (NotFound, BreakerState::Closed),
        (Conflict, BreakerState::Closed),
        (Overloaded, BreakerState::HalfOpen),
        (Bug, BreakerState::HalfOpen),
        (Unavailable, BreakerState::Open),
        (Timeout, BreakerState::Open),
    ];
    for (kind, as_a_probe) in cases {
        let breaker = Breaker::new("callee", config);
        let client = BreakerLayer::by_kind(breaker.clone()).layer(refusing!());
        let state = || breaker.status(Instant::now()).state;
        assert!(client.clone().oneshot(Some(kind)).await.is_err());
        let opens = [Unavailable, Timeout].contains(&kind);
        assert_eq!(state() == BreakerState::Open, opens, "{kind}");
        while let Ok(permit) = breaker.admit(Instant::now()) {
            permit.failed(Instant::now());
        }
        tokio::time::advance(SECOND).await;
        let answer = client.oneshot(Some(kind)).await;
        assert!(matches!(answer, Err(CallError::Failed(refusal)) if refusal.kind() == kind));
        assert_eq!(state(), as_a_probe, "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_judges_may_say_that_an_answer_tells_nothing() {
    let config = BreakerConfig { failure_threshold: 1, success_threshold: 1, ..BreakerConfig::default() };
    let breaker = Breaker::new("callee", config);
    let judge = |answer: &Result<u16, Infallible>| match answer {
        Ok(500) => Verdict::Refused(FaultKind::Bug),
        Ok(503) => Verdict::Failed { kind: FaultKind::Unavailable, retry_after: None },
        _ => Verdict::Good,
    };
    let client = BreakerLayer::new(breaker.clone(), judge)
        .layer(service_fn(async |status: u16| Ok::<_, Infallible>(status)));
    client.clone().oneshot(503).await.unwrap();
    tokio::time::advance(config.timeout).await;
    for (status, state) in
        [(500, BreakerState::HalfOpen), (500, BreakerState::HalfOpen), (200, BreakerState::Closed)]
    {
        assert_eq!(client.clone().oneshot(status).await.unwrap(), status);
        assert_eq!(breaker.status(Instant::now()).state, state);
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_dropped_before_it_begins_gives_its_place_back() {
    let config = BreakerConfig { failure_threshold: 1, success_threshold: 1, ..BreakerConfig::default() };
    let breaker = Breaker::new("callee", config);
    let mut client = BreakerLayer::by_kind(breaker.clone()).layer(refusing!());
    assert!(client.ready().await.unwrap().call(Some(FaultKind::Unavailable)).await.is_err());
    tokio::time::advance(config.timeout).await;
    for _ in 0..1000 {
        drop(client.ready().await.unwrap().call(None));
        assert_eq!(breaker.status(Instant::now()).state, BreakerState::HalfOpen);
    }
    client.ready().await.unwrap().call(None).await.unwrap();
    assert_eq!(breaker.status(Instant::now()).state, BreakerState::Closed);
}
