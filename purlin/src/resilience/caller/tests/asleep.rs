//! A process that is held, and goes on: its clock has gone on, its timers are all due at once, and answers lie in its
//! sockets that it has not read. A jump of the test's clock is just that.

use futures_util::{StreamExt, poll};
use tokio::sync::oneshot;

use crate::resilience::{AdaptiveConfig, RateConfig, SlowCalls};

use super::*;

fn adaptive() -> CallPolicy {
    let concurrency =
        BulkheadConfig { adaptive: Some(AdaptiveConfig::default()), ..BulkheadConfig::default() };
    CallPolicy { concurrency, retry: Retry::NEVER, ..policy() }
}

fn is_unharmed(caller: &Caller) {
    let status = caller.breaker().status(Instant::now());
    assert_eq!((status.state, status.failures, status.opened), (BreakerState::Closed, 0, 0));
    assert_eq!(caller.status().concurrency.limit, AdaptiveConfig::default().first_under_way);
}

/// Calls that are all under way at the same time, each as `call` makes it; the process is held for so long meanwhile.
async fn held_during<T>(span: Duration, call: impl AsyncFn() -> T) -> Vec<T> {
    let mut calls: Vec<_> = (0..20).map(|_| Box::pin(call())).collect();
    for call in &mut calls {
        assert!(poll!(call).is_pending());
    }
    tokio::time::advance(span).await;
    futures_util::future::join_all(calls).await
}

#[tokio::test(start_paused = true)]
async fn attempts_whose_time_was_up_while_we_were_held_are_held_against_nobody() {
    for span in [3, 30, 3000] {
        let caller = caller(adaptive());
        let answers =
            held_during(span * SECOND, async || caller.call(pending::<Result<(), Said>>).await).await;
        assert!(answers.iter().all(|answer| matches!(answer, Err(CallError::DeadlineExceeded))));
        is_unharmed(&caller);
    }
}

#[tokio::test(start_paused = true)]
async fn connections_that_others_gave_up_while_we_were_held_are_held_against_nobody() {
    let slow = CallPolicy { timeout: 60 * SECOND, attempt: 60 * SECOND, ..adaptive() };
    let caller = caller(slow);
    // They would have had half a minute more: it is not the end of their time that tells that we slept.
    let broken = async || {
        let work = async || {
            let start = Instant::now();
            std::future::poll_fn(|_| match start.elapsed() {
                Duration::ZERO => std::task::Poll::Pending,
                _ => std::task::Poll::Ready(()),
            })
            .await;
            Err::<(), _>(DOWN)
        };
        caller.call(work).await
    };
    let answers = held_during(30 * SECOND, broken).await;
    assert!(answers.iter().all(|answer| matches!(answer, Err(CallError::Failed(DOWN)))));
    is_unharmed(&caller);
}

#[tokio::test(start_paused = true)]
async fn calls_that_our_own_callers_gave_up_as_soon_as_we_went_on_are_held_against_nobody() {
    let caller = caller(CallPolicy { timeout: 60 * SECOND, attempt: 60 * SECOND, ..adaptive() });
    let given_up = async || {
        let call = caller.call(pending::<Result<(), Said>>);
        tokio::time::timeout(2 * SECOND, call).await.is_err()
    };
    assert!(held_during(30 * SECOND, given_up).await.into_iter().all(|given_up| given_up));
    is_unharmed(&caller);
}

#[tokio::test(start_paused = true)]
async fn answers_that_came_while_we_were_held_are_answers_and_their_time_is_no_measurement() {
    let caller = caller(CallPolicy { attempt: 10 * SECOND, ..adaptive() });
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..20).map(|_| oneshot::channel()).unzip();
    let receivers = Mutex::new(receivers);
    let answered = async || {
        let answer = receivers.lock().unwrap().pop().unwrap();
        caller.call_once(async || Ok::<u32, Said>(answer.await.unwrap())).await
    };
    let mut calls: Vec<_> = (0..20).map(|_| Box::pin(answered())).collect();
    for call in &mut calls {
        assert!(poll!(call).is_pending());
    }
    tokio::time::advance(8 * SECOND).await;
    senders.into_iter().for_each(|sender| sender.send(7).unwrap());
    for call in calls {
        assert_eq!(call.await.unwrap(), 7);
    }
    is_unharmed(&caller);
    tokio::time::advance(SECOND).await;
    assert_eq!(call(&caller, &[Ok(1)]).await.0.unwrap(), 1);
    is_unharmed(&caller);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_was_under_way_while_we_were_held_gives_its_place_to_another() {
    let caller = caller(adaptive());
    for _ in 0..5 {
        call(&caller, &[Err(DOWN)]).await.0.unwrap_err();
    }
    tokio::time::advance(5 * SECOND).await;
    let mut probe = Box::pin(caller.call(pending::<Result<(), Said>>));
    assert!(poll!(&mut probe).is_pending());
    tokio::time::advance(30 * SECOND).await;
    assert!(matches!(probe.await, Err(CallError::DeadlineExceeded)));
    assert_eq!(caller.breaker().status(Instant::now()).state, BreakerState::HalfOpen);
    for _ in 0..2 {
        call(&caller, &[Ok(1)]).await.0.unwrap();
    }
    assert_eq!(caller.breaker().status(Instant::now()).state, BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn whoever_was_held_for_half_of_an_attempts_time_knows_it() {
    for attempt in [20, 50, 100, 200, 500, 2000, 8000].map(Duration::from_millis) {
        let caller = caller(CallPolicy { attempt, timeout: 10 * SECOND, ..adaptive() });
        let held = attempt / 2 + Duration::from_millis(20);
        let answers = held_during(held, async || caller.call(pending::<Result<(), Said>>).await).await;
        assert!(answers.iter().all(|answer| matches!(answer, Err(CallError::DeadlineExceeded))));
        is_unharmed(&caller);
    }
}

/// A callee that breaks down, and whose next calls are probes.
async fn on_probation(policy: CallPolicy) -> Caller {
    let caller = caller(policy);
    for _ in 0..5 {
        call(&caller, &[Err(DOWN)]).await.0.unwrap_err();
    }
    tokio::time::advance(5 * SECOND).await;
    caller
}

#[tokio::test(start_paused = true)]
async fn good_answers_that_came_while_we_were_held_show_that_a_callee_is_well_again() {
    let caller = on_probation(adaptive()).await;
    for _ in 0..2 {
        let (sender, answer) = oneshot::channel();
        let mut probe = Box::pin(caller.call_once(async || Ok::<u32, Said>(answer.await.unwrap())));
        assert!(poll!(&mut probe).is_pending());
        tokio::time::advance(30 * SECOND).await;
        sender.send(7).unwrap();
        assert_eq!(probe.await.unwrap(), 7);
    }
    assert_eq!(caller.breaker().status(Instant::now()).state, BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn whoever_was_held_while_he_began_knows_it_and_an_answer_that_is_there_at_once_counts() {
    for (attempt, span) in [(2, 30), (8, 4)] {
        let caller = caller(CallPolicy { attempt: SECOND * attempt, ..adaptive() });
        let held = async || {
            tokio::time::advance(SECOND * span).await;
            pending::<Result<(), Said>>().await
        };
        assert!(matches!(caller.call(held).await, Err(CallError::DeadlineExceeded)));
        is_unharmed(&caller);
    }
    let caller = caller(adaptive());
    let fails = async || {
        assert!(futures_util::FutureExt::now_or_never(tokio::time::advance(30 * SECOND)).is_none());
        Err::<(), _>(DOWN)
    };
    assert!(matches!(caller.call(fails).await, Err(CallError::Failed(DOWN))));
    assert_eq!(caller.breaker().status(Instant::now()).failures, 1);
}

/// A call whose task does something else for three seconds as soon as it waits; nobody is held.
async fn heard_late<T>(call: impl Future<Output = T>) -> T {
    let mut call = Box::pin(call);
    assert!(poll!(&mut call).is_pending());
    tokio::time::sleep(3 * SECOND).await;
    call.await
}

/// A callee that says this soon.
async fn soon<T>(answer: T) -> T {
    tokio::time::sleep(SECOND / 100).await;
    answer
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_heard_late_is_one() {
    let caller = on_probation(adaptive()).await;
    let limit = caller.status().concurrency.limit;
    for _ in 0..2 {
        heard_late(caller.call(async || soon(Ok::<_, Said>(7)).await)).await.unwrap();
    }
    assert_eq!(caller.breaker().status(Instant::now()).state, BreakerState::Closed);
    for _ in 0..5 {
        heard_late(caller.call(async || soon(Err::<(), _>(DOWN)).await)).await.unwrap_err();
    }
    assert_eq!(caller.breaker().status(Instant::now()).state, BreakerState::Open);
    assert_eq!(caller.status().concurrency.limit, limit, "how long they took is no measurement");
}

#[tokio::test(start_paused = true)]
async fn a_time_that_was_up_before_we_looked_is_held_against_nobody() {
    let caller = caller(adaptive());
    for _ in 0..20 {
        let hangs = heard_late(caller.call(pending::<Result<(), Said>>)).await;
        assert!(matches!(hangs, Err(CallError::DeadlineExceeded)));
        let late = async || soon(Err::<(), _>(Said(FaultKind::Timeout))).await;
        assert!(matches!(heard_late(caller.call(late)).await, Err(CallError::Failed(_))));
    }
    is_unharmed(&caller);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_heard_late_says_nothing_where_slow_ones_count() {
    let slow = Some(SlowCalls { after: SECOND, rate: 0.1 });
    let rates = Some(RateConfig { minimum_calls: 1, slow, ..RateConfig::default() });
    let caller =
        on_probation(CallPolicy { breaker: BreakerConfig { rates, ..policy().breaker }, ..adaptive() }).await;
    for _ in 0..20 {
        heard_late(caller.call(async || soon(Ok::<_, Said>(7)).await)).await.unwrap();
        assert_eq!(caller.breaker().status(Instant::now()).state, BreakerState::HalfOpen);
    }
}

#[tokio::test(start_paused = true)]
async fn a_callee_that_is_away_is_known_to_one_who_works_on_each_answer_before_he_hears_the_next() {
    let caller = caller(adaptive());
    let calls = (0..20).map(|_| caller.call(async || soon(Err::<(), _>(DOWN)).await));
    let answers = futures_util::stream::iter(calls).buffer_unordered(4);
    answers.for_each(|_| tokio::time::sleep(3 * SECOND)).await;
    assert!(caller.breaker().status(Instant::now()).opened >= 1);
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_is_merely_busy_knows_a_callee_that_hangs() {
    let caller = caller(CallPolicy { attempt: SECOND, ..adaptive() });
    let calls = (0..20).map(|_| caller.call(pending::<Result<(), Said>>));
    // Every timer fires too late, but none by more than this.
    let busy = async {
        for _ in 0..40 {
            tokio::time::advance(Duration::from_millis(50)).await;
        }
    };
    let (answers, ()) = tokio::join!(futures_util::future::join_all(calls), busy);
    assert!(answers.iter().all(|answer| matches!(answer, Err(CallError::DeadlineExceeded))));
    assert_eq!(caller.breaker().status(Instant::now()).state, BreakerState::Open);
}

/// A call that may last for ten minutes, of something with a time of its own, as of a request that a gateway passes on.
async fn passed_on(caller: &Caller, own: Duration, end: FaultKind) -> bool {
    let work = async || {
        tokio::time::sleep(own).await;
        Err::<(), _>(Said(end))
    };
    matches!(caller.call(work).await, Err(CallError::Failed(_)))
}

#[tokio::test(start_paused = true)]
async fn whoever_was_held_knows_it_however_long_an_attempt_may_last() {
    for attempt in [8, 60, 600].map(|seconds| seconds * SECOND) {
        for (own, end, held) in [(5, FaultKind::Timeout, 7), (5, FaultKind::Unavailable, 7)] {
            let caller = caller(CallPolicy { attempt, timeout: attempt, ..adaptive() });
            let ended =
                held_during(held * SECOND, async || passed_on(&caller, own * SECOND, end).await).await;
            assert!(ended.into_iter().all(|failed| failed));
            is_unharmed(&caller);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_ends_by_a_time_of_its_own_counts_for_whoever_was_there() {
    let caller = caller(CallPolicy { attempt: 600 * SECOND, timeout: 600 * SECOND, ..adaptive() });
    let calls = (0..20).map(|_| passed_on(&caller, 5 * SECOND, FaultKind::Timeout));
    assert!(futures_util::future::join_all(calls).await.into_iter().all(|failed| failed));
    assert_eq!(caller.breaker().state(), BreakerState::Open);
}
