//! What happens with every call allocates nothing.

use assert_no_alloc::{assert_no_alloc, violation_count};
use purlin::message::Refusal;
use purlin::resilience::{Breaker, BreakerClock, BreakerConfig, Over, RateConfig};
use tokio::time::Instant;

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
        let mut closed = std::pin::pin!(async {
            for _ in 0..100 {
                assert!(call().await);
                breaker.admit(Instant::now()).unwrap().succeeded();
            }
        });
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert_eq!(allocations(|| assert!(closed.as_mut().poll(&mut cx).is_ready())), 0, "closed");
        while let Ok(permit) = breaker.admit(Instant::now()) {
            permit.failed(Instant::now());
        }
        assert!(!call().await);
        let refuse = || (0..100).for_each(|_| assert!(breaker.enter().is_err()));
        assert_eq!(allocations(refuse), 0, "open");
    }
}
