//! What happens with every call allocates nothing.

use std::pin::pin;
use std::task::{Context, Waker};

use assert_no_alloc::{assert_no_alloc, violation_count};
use purlin::message::Refusal;
use purlin::resilience::layer::BreakerLayer;
use purlin::resilience::{
    AdaptiveConfig, Breaker, BreakerClock, BreakerConfig, Breakers, BulkheadConfig, CallPolicy, Caller,
    HedgeConfig, Over, RateConfig,
};
use purlin::telemetry::Metrics;
use tokio::time::Instant;
use tower::{Layer as _, Service as _, service_fn};

/// How often `work` allocates, or gives memory back, on this thread.
fn allocations(work: impl FnOnce()) -> u32 {
    let before = violation_count();
    assert_no_alloc(work);
    violation_count() - before
}

#[test]
fn the_allocator_of_these_tests_counts() {
    assert!(allocations(|| drop(std::hint::black_box(Box::new(1)))) > 0);
}

#[tokio::test]
async fn a_call_through_a_breaker_allocates_nothing_closed_or_open() {
    let by_time = RateConfig { over: Over::Time(BreakerConfig::MAX_TIME), ..RateConfig::default() };
    let configs =
        [BreakerConfig::default(), BreakerConfig { rates: Some(by_time), ..BreakerConfig::default() }];
    for (config, clock) in configs.into_iter().zip([BreakerClock::Tokio, BreakerClock::Coarse]) {
        let breaker = Breaker::with_clock("callee", config, clock);
        let call = async || breaker.call(async || Ok::<_, Refusal>(7)).await.is_ok();
        // A thread's first call gives it a place to count in.
        assert!(call().await);
        let mut closed = pin!(async {
            for _ in 0..100 {
                assert!(call().await);
                breaker.admit(Instant::now()).unwrap().succeeded();
            }
        });
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(allocations(|| assert!(closed.as_mut().poll(&mut cx).is_ready())), 0, "closed");
        while let Ok(permit) = breaker.admit(Instant::now()) {
            permit.failed(Instant::now());
        }
        assert!(!call().await);
        let refuse = || (0..100).for_each(|_| assert!(breaker.enter().is_err()));
        assert_eq!(allocations(refuse), 0, "open");
    }
}

#[tokio::test]
async fn a_call_through_a_layer_or_a_whole_caller_that_is_observed_allocates_nothing() {
    let metrics = Metrics::new();
    let breakers = Breakers::with_clock(BreakerClock::Coarse);
    breakers.observe(&metrics);
    let _changes = breakers.changes();
    let concurrency =
        BulkheadConfig { adaptive: Some(AdaptiveConfig::default()), ..BulkheadConfig::default() };
    let policy = CallPolicy { concurrency, hedge: Some(HedgeConfig::default()), ..CallPolicy::default() };
    let callers = [("as built in", CallPolicy::default()), ("with all there is", policy)]
        .map(|(name, policy)| Caller::observed(name, policy, &breakers, &metrics));
    let breaker = breakers.breaker("a layer", BreakerConfig::default());
    let mut layered = BreakerLayer::by_kind(breaker).layer(service_fn(async |()| Ok::<_, Refusal>(7)));
    // A thread's first call gives it a place to count in.
    let mut all = async |calls: u32| {
        for _ in 0..calls {
            for caller in &callers {
                assert_eq!(caller.call(async || Ok::<_, Refusal>(7)).await.unwrap(), 7);
            }
            assert_eq!(layered.call(()).await.unwrap(), 7);
        }
    };
    all(1).await;
    let (mut calls, mut cx) = (pin!(all(100)), Context::from_waker(Waker::noop()));
    assert_eq!(allocations(|| assert!(calls.as_mut().poll(&mut cx).is_ready())), 0);
}
