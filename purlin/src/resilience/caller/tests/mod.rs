//! Calls whose callee answers as it is told, on a clock that only moves when everybody waits.

mod asleep;
mod blame;
mod hedging;

use std::cell::{Cell, RefCell};
use std::future::pending;

use futures_util::poll;

use crate::message::FaultKind;
use crate::resilience::{BreakerState, Forced, deadline};

use std::time::Duration;

use crate::resilience::{
    BreakerConfig, BulkheadConfig, Deadline, HedgeAfter, HedgeConfig, Retry, RetryBudgetConfig,
};

use super::*;
use hedging::{hedging, timed};

const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("the callee says {0}")]
struct Said(FaultKind);

impl Fault for Said {
    fn kind(&self) -> FaultKind {
        self.0
    }
}

const DOWN: Said = Said(FaultKind::Unavailable);

fn policy() -> CallPolicy {
    CallPolicy {
        timeout: 10 * SECOND,
        attempt: 2 * SECOND,
        retry: Retry { max_attempts: 3, first_delay: SECOND / 10, max_delay: SECOND, jitter: 0.0 },
        breaker: BreakerConfig { failure_threshold: 5, timeout: 5 * SECOND, ..BreakerConfig::default() },
        ..CallPolicy::default()
    }
}

fn caller(policy: CallPolicy) -> Caller {
    Caller::new("payments", policy, &Breakers::new())
}

/// Calls with an answer for each attempt; returns the answer and how many attempts there were.
async fn call(caller: &Caller, answers: &[Result<u32, Said>]) -> (Result<u32, CallError<Said>>, usize) {
    let attempts = Cell::new(0);
    let next = || {
        let answer = answers[attempts.replace(attempts.get() + 1)].clone();
        async { answer }
    };
    (caller.call(next).await, attempts.get())
}

#[tokio::test(start_paused = true)]
async fn what_failed_for_a_while_is_tried_again_after_growing_pauses() {
    let (caller, start) = (caller(policy()), Instant::now());
    let (answer, attempts) = call(&caller, &[Err(DOWN), Err(Said(FaultKind::Overloaded)), Ok(7)]).await;
    assert_eq!((answer.unwrap(), attempts), (7, 3));
    assert_eq!(start.elapsed(), SECOND * 3 / 10);
    let (answer, attempts) = call(&caller, &[Err(DOWN), Err(DOWN), Err(DOWN)]).await;
    assert!(matches!(answer, Err(CallError::Failed(DOWN))));
    assert_eq!(attempts, 3);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_an_answer_neither_repeated_nor_held_against_the_callee() {
    use FaultKind::{Bug, Conflict, NotFound, Rejected};
    let caller = caller(policy());
    for kind in [Rejected, NotFound, Conflict, Bug].into_iter().cycle().take(100) {
        let (answer, attempts) = call(&caller, &[Err(Said(kind))]).await;
        assert_eq!((answer.unwrap_err().kind(), attempts), (kind, 1));
    }
    let status = caller.breaker().status(Instant::now());
    assert_eq!((status.state, status.failures), (BreakerState::Closed, 0));
}

#[tokio::test(start_paused = true)]
async fn after_enough_failures_calls_get_an_error_of_their_own_until_a_probe_succeeds() {
    let caller = caller(CallPolicy { retry: Retry::NEVER, ..policy() });
    for _ in 0..5 {
        assert!(matches!(call(&caller, &[Err(DOWN)]).await.0, Err(CallError::Failed(_))));
    }
    let (answer, attempts) = call(&caller, &[]).await;
    let error = answer.unwrap_err();
    assert!(matches!(&error, CallError::Open(open) if open.retry_after > 4 * SECOND), "{error}");
    assert_eq!((error.kind(), error.code(), attempts), (FaultKind::Unavailable, "circuit-open", 0));

    tokio::time::advance(5 * SECOND).await;
    for _ in 0..2 {
        assert_eq!(call(&caller, &[Ok(7)]).await.0.unwrap(), 7);
    }
    assert_eq!(caller.breaker().status(Instant::now()).state, BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_opens_between_attempts_leaves_the_reason() {
    let breaker = BreakerConfig { failure_threshold: 2, ..BreakerConfig::default() };
    let (answer, attempts) = call(&caller(CallPolicy { breaker, ..policy() }), &[Err(DOWN), Err(DOWN)]).await;
    assert!(matches!(answer, Err(CallError::Failed(DOWN))));
    assert_eq!(attempts, 2);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_hangs_is_cut_off_and_counts_against_the_callee() {
    let (caller, start) = (caller(policy()), Instant::now());
    let answer = caller.call(pending::<Result<(), Said>>).await;
    assert!(matches!(answer, Err(CallError::DeadlineExceeded)));
    assert_eq!(start.elapsed(), 3 * 2 * SECOND + SECOND * 3 / 10, "three attempts and two pauses");
    assert_eq!(caller.breaker().status(Instant::now()).failures, 3);
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_with_the_deadline_of_its_caller_who_passes_on_what_is_left() {
    let (caller, start) = (caller(policy()), Instant::now());
    let outer = Deadline::after(SECOND / 2);
    let seen = Cell::new(None);
    let work = || {
        seen.set(deadline::current());
        pending::<Result<(), Said>>()
    };
    let answer = deadline::within(outer, caller.call(work)).await;
    assert!(matches!(answer, Err(CallError::DeadlineExceeded)));
    assert_eq!((start.elapsed(), seen.get()), (SECOND / 2, Some(outer)));
    assert_eq!(caller.breaker().status(Instant::now()).failures, 0, "half a second was not enough to tell");

    let over = deadline::within(outer, caller.call(|| async { Ok::<_, Said>(()) })).await;
    assert!(matches!(over, Err(CallError::DeadlineExceeded)));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_is_told_its_own_deadline() {
    let (caller, start) = (caller(policy()), Instant::now());
    let work = || {
        let told = deadline::current();
        async move { Ok::<_, Said>(told) }
    };
    let told = caller.call(work).await.unwrap();
    assert_eq!(told, Some(Deadline::from(start, caller.policy().attempt)));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_an_attempt_that_would_be_too_late() {
    let (caller, start) = (caller(policy()), Instant::now());
    let call = call(&caller, &[Err(DOWN), Err(DOWN)]);
    let (answer, attempts) = deadline::within(Deadline::after(SECOND / 5), call).await;
    assert!(matches!(answer, Err(CallError::Failed(DOWN))));
    assert_eq!((attempts, start.elapsed()), (2, SECOND / 10));
}

#[tokio::test(start_paused = true)]
async fn without_a_budget_there_is_no_retry() {
    let budget = RetryBudgetConfig { ratio: 0.0, per_second: 0.0, saved: 2.0 };
    let breaker = BreakerConfig { failure_threshold: 1000, window: 1000, ..BreakerConfig::default() };
    let caller = caller(CallPolicy { budget, breaker, ..policy() });
    let mut attempts = Vec::new();
    for _ in 0..3 {
        attempts.push(call(&caller, &[Err(DOWN), Err(DOWN), Err(DOWN)]).await.1);
    }
    assert_eq!(attempts, [3, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn call_once_repeats_nothing() {
    let caller = caller(policy());
    let answer = caller.call_once(|| async { Err::<(), _>(DOWN) }).await;
    assert!(matches!(answer, Err(CallError::Failed(DOWN))));
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_call_is_dropped_tells_with_its_ticket_what_comes_of_it() {
    let breaker = BreakerConfig { abandoned_after: 60 * SECOND, ..policy().breaker };
    for good in [true, false] {
        let caller = caller(CallPolicy { retry: Retry::NEVER, breaker, ..policy() });
        let tickets = RefCell::new(Vec::new());
        let hangs = || {
            caller.call_ticketed(|ticket| {
                tickets.borrow_mut().extend(ticket);
                pending::<Result<(), Said>>()
            })
        };
        let given_up = async || assert!(tokio::time::timeout(SECOND, hangs()).await.is_err());
        given_up().await;
        assert!(tickets.borrow().is_empty(), "it is no probe");
        for _ in 0..5 {
            call(&caller, &[Err(DOWN)]).await.0.unwrap_err();
        }
        tokio::time::advance(5 * SECOND).await;
        for count in 1..=3 {
            given_up().await;
            assert_eq!((tickets.borrow().len(), caller.breaker().state()), (count, BreakerState::HalfOpen));
        }
        let late = tickets.take();
        // Others have both places by now.
        let (mut one, mut other) = (Box::pin(hangs()), Box::pin(hangs()));
        assert!(poll!(&mut one).is_pending() && poll!(&mut other).is_pending());
        assert!(matches!(call(&caller, &[]).await.0, Err(CallError::Open(_))));
        let counted = late.into_iter().map(|ticket| {
            let counts = ticket.counts();
            match good {
                true => ticket.succeeded(Instant::now()),
                false => ticket.failed(Instant::now()),
            }
            counts
        });
        assert_eq!(counted.collect::<Vec<_>>(), [true, good, false]);
        let status = caller.breaker().status(Instant::now());
        let expected = if good { (BreakerState::Closed, 1) } else { (BreakerState::Open, 2) };
        assert_eq!((status.state, status.opened), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_given_up_from_outside_open_the_breaker_if_they_took_long() {
    let caller = caller(policy());
    for _ in 0..5 {
        let call = caller.call(pending::<Result<(), Said>>);
        assert!(tokio::time::timeout(SECOND * 3 / 2, call).await.is_err());
    }
    assert_eq!(caller.breaker().status(Instant::now()).state, BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn calls_are_counted_by_callee_and_outcome() {
    let metrics = Metrics::new();
    let caller = Caller::observed("payments", policy(), &Breakers::new(), &metrics);
    call(&caller, &[Err(DOWN), Ok(7)]).await.0.unwrap();
    call(&caller, &[Err(Said(FaultKind::Conflict))]).await.0.unwrap_err();
    caller.breaker().force(Some(Forced::Open));
    call(&caller, &[]).await.0.unwrap_err();
    let text = metrics.render();
    for line in [
        "purlin_calls_total{callee=\"payments\",outcome=\"ok\"} 1",
        "purlin_calls_total{callee=\"payments\",outcome=\"conflict\"} 1",
        "purlin_calls_total{callee=\"payments\",outcome=\"open\"} 1",
        "purlin_call_retries_total{callee=\"payments\"} 1",
        "purlin_call_seconds_count{callee=\"payments\"} 3",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}

#[test]
fn a_call_can_be_made_by_a_task_that_moves_between_threads() {
    fn is_send<T: Send>(_: &T) {}
    let caller = caller(policy());
    is_send(&caller.call(|| async { Ok::<_, Said>(()) }));
}

#[tokio::test(start_paused = true)]
async fn only_calls_that_are_made_earn_retries() {
    let budget = RetryBudgetConfig { ratio: 0.5, per_second: 0.0, saved: 1.0 };
    let caller = caller(CallPolicy { budget, ..policy() });
    assert_eq!(call(&caller, &[Err(DOWN), Err(DOWN)]).await.1, 2, "what was saved up is spent");
    caller.breaker().force(Some(Forced::Open));
    for _ in 0..10 {
        assert!(matches!(call(&caller, &[]).await.0, Err(CallError::Open(_))));
    }
    caller.breaker().force(None);
    assert_eq!(call(&caller, &[Err(DOWN)]).await.1, 1, "half a retry is none");
}

/// A callee that says when to come again.
#[derive(Debug, thiserror::Error)]
#[error("come again after {0:?}")]
struct Later(Duration);

impl Fault for Later {
    fn kind(&self) -> FaultKind {
        FaultKind::Overloaded
    }

    fn retry_after(&self) -> Option<Duration> {
        Some(self.0)
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_as_long_as_the_callee_asks_for_but_never_beyond_the_deadline() {
    let (caller, start) = (caller(policy()), Instant::now());
    let mut attempts = 0;
    let work = || {
        attempts += 1;
        let answer = if attempts == 1 { Err(Later(4 * SECOND)) } else { Ok(()) };
        async { answer }
    };
    caller.call(work).await.unwrap();
    assert_eq!(start.elapsed(), 4 * SECOND + SECOND / 10, "what was asked for, and the own pause behind it");
    let start = Instant::now();
    for after in [10 * SECOND, Duration::MAX] {
        let answer = caller.call(async || Err::<(), _>(Later(after))).await;
        assert!(matches!(answer, Err(CallError::Failed(_))));
        assert_eq!(start.elapsed(), Duration::ZERO, "there is no use in waiting for what comes too late");
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_are_under_way_than_there_are_places_and_a_full_house_is_not_asked_again() {
    let concurrency = BulkheadConfig { max_under_way: 1, max_waiting: 1, max_wait: SECOND, adaptive: None };
    let caller = caller(CallPolicy { concurrency, ..policy() });
    let slow = || async {
        tokio::time::sleep(SECOND / 2).await;
        Ok::<_, Said>(Instant::now())
    };
    let start = Instant::now();
    let (one, two, three) = tokio::join!(caller.call(slow), caller.call(slow), caller.call(slow));
    assert_eq!((one.unwrap() - start, two.unwrap() - start), (SECOND / 2, SECOND));
    let full = three.unwrap_err();
    assert!(matches!(full, CallError::Full(_)));
    assert_eq!((full.kind(), caller.status().retries_left), (FaultKind::Overloaded, 100.0));
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_place_when_the_breaker_opens_is_told_so_at_once() {
    let concurrency =
        BulkheadConfig { max_under_way: 1, max_waiting: 9, max_wait: 9 * SECOND, adaptive: None };
    let breaker = BreakerConfig { failure_threshold: 1, ..BreakerConfig::default() };
    let caller = caller(CallPolicy { concurrency, breaker, retry: Retry::NEVER, ..policy() });
    let fails = || async {
        tokio::time::sleep(SECOND).await;
        Err::<(), _>(DOWN)
    };
    let start = Instant::now();
    let (first, second) = tokio::join!(caller.call(fails), caller.call(fails));
    assert!(matches!((first, second), (Err(CallError::Failed(_)), Err(CallError::Open(_)))));
    assert_eq!(start.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn whoever_hears_of_his_place_when_it_is_too_late_begins_nothing() {
    let concurrency = BulkheadConfig { max_under_way: 1, max_waiting: 1, ..BulkheadConfig::default() };
    let caller = caller(CallPolicy { concurrency, ..policy() });
    let mut inside = Box::pin(caller.call(async || pending::<Result<u32, Said>>().await));
    assert!(poll!(inside.as_mut()).is_pending());
    let begun = Cell::new(0);
    let late = caller.call(async || {
        begun.set(begun.get() + 1);
        Ok::<u32, Said>(7)
    });
    let mut late = Box::pin(deadline::within(Deadline::after(SECOND), late));
    assert!(poll!(late.as_mut()).is_pending());
    drop(inside);
    tokio::time::advance(2 * SECOND).await;
    assert!(matches!(late.await, Err(CallError::DeadlineExceeded)));
    assert_eq!((begun.get(), caller.status().concurrency.under_way), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_the_callee_cannot_do_the_fallback_does_and_what_it_refuses_stays_refused() {
    let caller = caller(policy());
    let stale = async |error: CallError<Said>| {
        assert_eq!(error.kind(), FaultKind::Unavailable);
        Ok(7)
    };
    assert_eq!(caller.call_or(async || Err(DOWN), stale).await.unwrap(), 7);
    let refused = async || Err::<u32, _>(Said(FaultKind::NotFound));
    assert!(matches!(
        caller.call_or(refused, stale).await,
        Err(CallError::Failed(Said(FaultKind::NotFound)))
    ));
}

/// Drops a call after each span in turn: whatever it was doing, it gives back all that it had taken.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_anywhere_gives_everything_back() {
    let concurrency = BulkheadConfig { max_under_way: 1, max_waiting: 1, max_wait: SECOND, adaptive: None };
    let budget = RetryBudgetConfig { ratio: 0.0, per_second: 0.0, saved: 10.0 };
    let retry = Retry { max_attempts: 3, first_delay: SECOND / 10, max_delay: SECOND / 10, jitter: 0.0 };
    let breaker = BreakerConfig { failure_threshold: 1000, window: 1000, ..BreakerConfig::default() };
    for millis in (0..700).step_by(10) {
        let hedge = hedging(SECOND / 20).hedge.map(|hedge| HedgeConfig { ratio: 0.0, ..hedge });
        let policy = CallPolicy { concurrency, budget, retry, breaker, hedge, ..policy() };
        let caller = caller(policy);
        let made = Cell::new(0_u32);
        let fails = || {
            made.set(made.get() + 1);
            async {
                tokio::time::sleep(SECOND / 10).await;
                Err::<(), _>(DOWN)
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(millis), caller.call(fails)).await;
        let status = caller.status();
        assert_eq!((status.concurrency.under_way, status.concurrency.waiting), (0, 0), "after {millis} ms");
        let hedges = 2.0 - status.hedges_left.unwrap();
        let retries = 10.0 - status.retries_left;
        assert_eq!(f64::from(made.get().saturating_sub(1)), retries + hedges, "after {millis} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_callee_gets_fewer_calls_at_once() {
    let adaptive = Some(crate::resilience::AdaptiveConfig::default());
    let concurrency = BulkheadConfig { max_under_way: 100, max_waiting: 100, max_wait: SECOND, adaptive };
    let caller = caller(CallPolicy { concurrency, ..policy() });
    let busy = async |time: Duration, rounds: u32| {
        let one = || async {
            for _ in 0..rounds {
                let work = || async {
                    tokio::time::sleep(time).await;
                    Ok::<_, Said>(())
                };
                let _ = caller.call(work).await;
            }
        };
        futures_util::future::join_all((0..50).map(|_| one())).await;
    };
    busy(SECOND / 50, 100).await;
    let healthy = caller.status().concurrency.limit;
    assert!(healthy >= 50, "{healthy}");
    busy(SECOND / 2, 5).await;
    let slow = caller.status().concurrency.limit;
    assert!(slow <= healthy / 2, "{slow} of {healthy}");
}

/// Prints what the usual stack adds to a call whose answer is there at once. Run it alone, optimized:
/// `cargo test --release -p purlin --lib -- --ignored --nocapture the_usual_stack_costs`.
#[tokio::test]
#[ignore = "it measures, and decides nothing"]
async fn the_usual_stack_costs() {
    const CALLS: u32 = 200_000;
    let adaptive = Some(crate::resilience::AdaptiveConfig::default());
    let whole = CallPolicy {
        concurrency: BulkheadConfig { adaptive, ..BulkheadConfig::default() },
        hedge: Some(HedgeConfig::default()),
        ..CallPolicy::default()
    };
    for (name, policy) in [("as built in", CallPolicy::default()), ("with adaptive limit and hedging", whole)]
    {
        let caller = Caller::observed("payments", policy, &Breakers::new(), &Metrics::new());
        let mut best = Duration::MAX;
        for _ in 0..5 {
            let start = std::time::Instant::now();
            for _ in 0..CALLS {
                std::hint::black_box(caller.call(async || Ok::<_, Said>(7)).await).unwrap();
            }
            best = best.min(start.elapsed() / CALLS);
        }
        println!("{name}: {best:?} a call");
    }
}
