//! Whom a failure is held against: the callee, its limit, or nobody.

use crate::resilience::{AdaptiveConfig, Criticality, criticality};

use super::*;

const MS: Duration = Duration::from_millis(1);

/// No retries, and a hang that somebody else gives up is never a failure.
fn plain() -> CallPolicy {
    let breaker = BreakerConfig { abandoned_after: 60 * SECOND, ..policy().breaker };
    CallPolicy { retry: Retry::NEVER, breaker, ..policy() }
}

fn failures(caller: &Caller) -> u32 {
    caller.breaker().status(Instant::now()).failures
}

#[tokio::test(start_paused = true)]
async fn a_callee_that_hangs_opens_the_breaker_also_when_an_attempt_may_last_as_long_as_the_call() {
    let caller = caller(CallPolicy { timeout: 2 * SECOND, ..plain() });
    for _ in 0..5 {
        let answer = caller.call(pending::<Result<(), Said>>).await;
        assert!(matches!(answer, Err(CallError::DeadlineExceeded)));
    }
    assert_eq!(caller.breaker().status(Instant::now()).state, BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn what_fails_because_our_caller_gave_little_time_is_not_held_against_the_callee() {
    use FaultKind::{Timeout, Unavailable};
    let cases = [
        (100 * MS, 98 * MS, Unavailable, 0, "at about the deadline, by whoever else knows it"),
        (100 * MS, 20 * MS, Timeout, 0, "the callee finds it too short"),
        (100 * MS, 20 * MS, Unavailable, 1, "long before it"),
        (60 * SECOND, SECOND, Timeout, 1, "the time was the policy's, not the caller's"),
        (60 * SECOND, 2 * SECOND - MS, Unavailable, 1, "so it was here"),
    ];
    for (given, after, kind, expected, why) in cases {
        let caller = caller(plain());
        let work = async || {
            tokio::time::sleep(after).await;
            Err::<(), _>(Said(kind))
        };
        let answer = deadline::within(Deadline::after(given), caller.call(work)).await;
        assert!(matches!(answer, Err(CallError::Failed(_))), "{why}");
        assert_eq!(failures(&caller), expected, "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_a_call_that_others_used_up_says_nothing() {
    let retry = Retry { max_attempts: 3, ..policy().retry };
    let caller = caller(CallPolicy { timeout: 5 * SECOND, retry, ..plain() });
    assert!(caller.call(pending::<Result<(), Said>>).await.is_err());
    assert_eq!(failures(&caller), 2, "the third attempt had no time of its own");
}

#[tokio::test(start_paused = true)]
async fn who_sheds_load_gets_fewer_calls_at_once_and_no_open_breaker() {
    let adaptive = Some(AdaptiveConfig { first_under_way: 50, ..AdaptiveConfig::default() });
    let concurrency = BulkheadConfig { adaptive, ..BulkheadConfig::default() };
    let caller = caller(CallPolicy { concurrency, ..plain() });
    for (class, shrinks) in [(Criticality::SheddablePlus, false), (Criticality::Critical, true)] {
        for _ in 0..100 {
            let call = caller.call(async || Err::<(), _>(Said(FaultKind::Overloaded)));
            assert!(matches!(criticality::within(class, call).await, Err(CallError::Failed(_))));
            tokio::time::advance(10 * MS).await;
        }
        assert_eq!(failures(&caller), 0);
        assert_eq!(caller.breaker().status(Instant::now()).state, BreakerState::Closed);
        assert_eq!(caller.status().concurrency.limit < 50, shrinks, "{class}");
    }
}

#[tokio::test(start_paused = true)]
async fn neither_bugs_nor_shed_load_close_a_breaker_that_probes() {
    let caller = caller(plain());
    for _ in 0..5 {
        call(&caller, &[Err(DOWN)]).await.0.unwrap_err();
    }
    tokio::time::advance(5 * SECOND).await;
    for kind in [FaultKind::Bug, FaultKind::Overloaded].into_iter().cycle().take(20) {
        let (answer, asked) = call(&caller, &[Err(Said(kind))]).await;
        assert_eq!((answer.unwrap_err().kind(), asked), (kind, 1), "its place is free for the next probe");
        assert_eq!(caller.breaker().status(Instant::now()).state, BreakerState::HalfOpen);
    }
    for _ in 0..2 {
        call(&caller, &[Err(Said(FaultKind::NotFound))]).await.0.unwrap_err();
    }
    assert_eq!(caller.breaker().status(Instant::now()).state, BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn the_loser_of_two_attempts_says_nothing_however_long_it_took() {
    let breaker = BreakerConfig { failure_threshold: 1, ..BreakerConfig::default() };
    let caller = caller(CallPolicy { breaker, ..hedging(SECOND * 3 / 2) });
    let (answer, made, dropped) = timed(&caller, &[(9 * SECOND, Ok(1)), (SECOND / 10, Ok(2))]).await;
    assert_eq!((answer.unwrap(), made, dropped), (2, 2, 1));
    let status = caller.breaker().status(Instant::now());
    assert_eq!((status.state, status.failures), (BreakerState::Closed, 0));
}

/// What a callee says that is there, of somebody whom it asked.
#[derive(Debug, thiserror::Error)]
#[error("the callee's callee says {0}")]
struct PassedOn(FaultKind);

impl Fault for PassedOn {
    fn kind(&self) -> FaultKind {
        self.0
    }

    fn is_passed_on(&self) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn a_callee_that_fails_because_of_another_is_asked_again_and_not_left_alone() {
    for kind in [FaultKind::Unavailable, FaultKind::Timeout, FaultKind::Overloaded] {
        let caller = caller(policy());
        let asked = Cell::new(0);
        for _ in 0..20 {
            let work = || {
                asked.set(asked.get() + 1);
                async { Err::<(), _>(PassedOn(kind)) }
            };
            assert!(matches!(caller.call(work).await, Err(CallError::Failed(_))));
        }
        assert!(asked.get() > 40, "{} attempts of 20 calls", asked.get());
        let status = caller.breaker().status(Instant::now());
        assert_eq!((status.state, status.failures), (BreakerState::Closed, 0), "{kind}");
        let breaker = caller.breaker();
        let called = breaker.call(async || Err::<(), _>(PassedOn(kind))).await;
        assert!(matches!(called, Err(CallError::Failed(_))));
        assert_eq!(breaker.status(Instant::now()).failures, 0, "nor by one that is used alone");
    }
}

#[tokio::test(start_paused = true)]
async fn a_callee_that_fails_because_of_another_is_known_to_be_back_unless_it_is_our_callers_haste_or_shed_load()
 {
    use FaultKind::{Overloaded, Timeout, Unavailable};
    let given = [(None, Unavailable, true), (None, Timeout, true), (None, Overloaded, false)];
    let hurried = [(Some(100 * MS), Timeout, false), (Some(100 * MS), Unavailable, true)];
    for (deadline, kind, closes) in given.into_iter().chain(hurried) {
        let caller = caller(plain());
        for _ in 0..5 {
            call(&caller, &[Err(DOWN)]).await.0.unwrap_err();
        }
        tokio::time::advance(5 * SECOND).await;
        for _ in 0..2 {
            let call = caller.call(async || Err::<(), _>(PassedOn(kind)));
            let answer = match deadline {
                Some(span) => deadline::within(Deadline::after(span), call).await,
                None => call.await,
            };
            assert!(matches!(answer, Err(CallError::Failed(_))));
        }
        let expected = if closes { BreakerState::Closed } else { BreakerState::HalfOpen };
        assert_eq!(caller.breaker().state(), expected, "{kind} within {deadline:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_keeps_a_breaker_closed_by_giving_little_time_to_what_needs_another() {
    let in_a_row = BreakerConfig { window: 5, ..plain().breaker };
    let caller = caller(CallPolicy { breaker: in_a_row, ..plain() });
    for _ in 0..5 {
        assert_eq!(caller.breaker().state(), BreakerState::Closed);
        call(&caller, &[Err(DOWN)]).await.0.unwrap_err();
        let hurried = caller.call(async || Err::<(), _>(PassedOn(FaultKind::Timeout)));
        deadline::within(Deadline::after(20 * MS), hurried).await.unwrap_err();
    }
    assert_eq!(caller.breaker().state(), BreakerState::Open);
}
