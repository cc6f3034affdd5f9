//! A process that is held, and goes on: its clock has gone on, its timers are all due at once, and answers lie in its
//! sockets that it has not read. A jump of the test's clock is just that.

use futures_util::poll;
use tokio::sync::oneshot;

use crate::resilience::AdaptiveConfig;

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
    for attempt in [SECOND / 5, SECOND / 2, 2 * SECOND, 8 * SECOND] {
        let caller = caller(CallPolicy { attempt, timeout: 10 * SECOND, ..adaptive() });
        let held = attempt / 2 + Duration::from_millis(20);
        let answers = held_during(held, async || caller.call(pending::<Result<(), Said>>).await).await;
        assert!(answers.iter().all(|answer| matches!(answer, Err(CallError::DeadlineExceeded))));
        is_unharmed(&caller);
    }
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
