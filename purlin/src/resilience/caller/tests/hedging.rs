//! A second attempt beside one that is slow.

use super::*;

pub(super) fn hedging(after: Duration) -> CallPolicy {
    let after = HedgeAfter::Fixed(after);
    let hedge = HedgeConfig { after, at_least: Duration::ZERO, ratio: 0.1, saved: 2.0 };
    CallPolicy { hedge: Some(hedge), ..policy() }
}

/// Calls with a time and an answer for each attempt; also tells how many attempts were dropped unfinished.
pub(super) async fn timed(
    caller: &Caller,
    attempts: &[(Duration, Result<u32, Said>)],
) -> (Result<u32, CallError<Said>>, usize, i32) {
    struct Unfinished<'a>(&'a Cell<i32>);
    impl Drop for Unfinished<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let (made, dropped) = (Cell::new(0), Cell::new(0));
    let next = || {
        let (time, answer) = attempts[made.replace(made.get() + 1)].clone();
        let unfinished = Unfinished(&dropped);
        async move {
            tokio::time::sleep(time).await;
            std::mem::forget(unfinished);
            answer
        }
    };
    let answer = caller.call(next).await;
    (answer, made.get(), dropped.get())
}

#[tokio::test(start_paused = true)]
async fn a_slow_attempt_gets_another_beside_it_and_the_first_answer_wins() {
    let metrics = Metrics::new();
    let caller = Caller::observed("payments", hedging(SECOND / 10), &Breakers::new(), &metrics);
    let start = Instant::now();
    let (answer, made, dropped) = timed(&caller, &[(SECOND, Ok(1)), (SECOND / 10, Ok(2))]).await;
    assert_eq!(
        (answer.unwrap(), made, dropped, start.elapsed()),
        (2, 2, 1, SECOND / 5),
        "the loser is cancelled"
    );
    let (answer, made, dropped) = timed(&caller, &[(SECOND / 20, Ok(1))]).await;
    assert_eq!((answer.unwrap(), made, dropped), (1, 1, 0), "a quick one gets none");
    let status = caller.status().concurrency;
    assert_eq!((status.under_way, status.waiting), (0, 0));
    assert!(metrics.render().contains("purlin_call_hedges_total{callee=\"payments\"} 1"));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_fails_leaves_the_call_to_the_other() {
    let caller = caller(hedging(SECOND / 10));
    let start = Instant::now();
    let (answer, made, _) = timed(&caller, &[(SECOND / 2, Ok(1)), (SECOND / 10, Err(DOWN))]).await;
    assert_eq!((answer.unwrap(), made, start.elapsed()), (1, 2, SECOND / 2));
}

#[tokio::test(start_paused = true)]
async fn hedging_has_a_budget_and_is_only_for_what_may_be_repeated() {
    let caller = caller(hedging(SECOND / 10));
    let mut made = Vec::new();
    for _ in 0..4 {
        let slow = [(SECOND, Ok(1)), (SECOND, Ok(2))];
        made.push(timed(&caller, &slow).await.1);
    }
    assert_eq!(made, [2, 2, 1, 1], "two were saved up, and two calls earn no third");
    let calls = Cell::new(0);
    let slow = || {
        calls.set(calls.get() + 1);
        async {
            tokio::time::sleep(SECOND).await;
            Ok::<_, Said>(())
        }
    };
    let fresh = Caller::new("other", hedging(SECOND / 10), &Breakers::new());
    fresh.call_once(slow).await.unwrap();
    fresh.without_repeats().call(slow).await.unwrap();
    assert_eq!(calls.get(), 2);
}

/// One place, one who may wait, and hedging of what takes longer than so.
fn one_place(after: Duration) -> CallPolicy {
    let max_wait = 9 * SECOND;
    let concurrency = BulkheadConfig { max_under_way: 1, max_waiting: 1, max_wait, adaptive: None };
    CallPolicy { concurrency, ..hedging(after) }
}

#[tokio::test(start_paused = true)]
async fn time_spent_waiting_for_a_place_of_ones_own_hedges_nothing() {
    let metrics = Metrics::new();
    let caller = Caller::observed("payments", one_place(SECOND), &Breakers::new(), &metrics);
    let work = || async {
        tokio::time::sleep(SECOND * 9 / 10).await;
        Ok::<_, Said>(Instant::now())
    };
    let start = Instant::now();
    let (one, two) = tokio::join!(caller.call(work), caller.call(work));
    assert_eq!((one.unwrap() - start, two.unwrap() - start), (SECOND * 9 / 10, SECOND * 9 / 5));
    let hedges = metrics.render().contains("purlin_call_hedges_total{callee=\"payments\"} 0");
    assert!(hedges, "the callee was quick each time: only the wait was long");
}

#[tokio::test(start_paused = true)]
async fn a_second_attempt_is_due_when_the_callee_has_been_asked_for_long() {
    let policy = BulkheadConfig { max_under_way: 2, ..one_place(SECOND).concurrency };
    let caller = caller(CallPolicy { concurrency: policy, ..one_place(SECOND) });
    let bulkhead = caller.line.parts().bulkhead.clone();
    let (one, two) = (bulkhead.enter().await.unwrap(), bulkhead.enter().await.unwrap());
    let start = Instant::now();
    let leave = async {
        tokio::time::sleep(3 * SECOND).await;
        drop((one, two));
    };
    let attempts = [(9 * SECOND, Ok(1)), (SECOND / 2, Ok(2))];
    let ((answer, made, _), ()) = tokio::join!(timed(&caller, &attempts), leave);
    assert_eq!((answer.unwrap(), made), (2, 2));
    assert_eq!(
        start.elapsed(),
        3 * SECOND + SECOND + SECOND / 2,
        "the wait, the delay, and the second attempt"
    );
}

fn by_quantile() -> CallPolicy {
    let after = HedgeAfter::Quantile(0.5);
    let hedge = HedgeConfig { after, at_least: Duration::ZERO, ratio: 0.0, saved: 1.0 };
    let breaker = BreakerConfig { failure_threshold: 1000, window: 1000, ..BreakerConfig::default() };
    CallPolicy { hedge: Some(hedge), breaker, retry: Retry::NEVER, ..policy() }
}

/// After how many milliseconds a second attempt is made, when these calls were made.
async fn delay_after(caller: &Caller, calls: u32, lasts: Duration, answer: Result<u32, Said>) -> Option<f64> {
    for _ in 0..calls {
        let _ = timed(caller, &[(lasts, answer.clone()), (lasts, answer.clone())]).await;
    }
    caller.status().hedge_after_ms
}

#[tokio::test(start_paused = true)]
async fn a_callee_that_became_slower_is_known_by_calls_for_which_no_second_attempt_is_left() {
    let caller = caller(by_quantile());
    let quick = delay_after(&caller, 100, SECOND / 50, Ok(1)).await.unwrap();
    assert!((10.0..40.0).contains(&quick), "{quick}");
    // The first of them has the one second attempt that there is, the others none.
    let slow = delay_after(&caller, 300, SECOND, Ok(1)).await.unwrap();
    assert!((500.0..2000.0).contains(&slow), "{slow}");
}

#[tokio::test(start_paused = true)]
async fn only_how_long_the_callee_takes_to_answer_is_learned() {
    let caller = caller(by_quantile());
    let usual = delay_after(&caller, 100, SECOND / 50, Ok(1)).await.unwrap();
    let away = delay_after(&caller, 300, Duration::ZERO, Err(DOWN)).await.unwrap();
    assert_eq!(away, usual);
    for kind in [FaultKind::Overloaded, FaultKind::Timeout] {
        assert_eq!(delay_after(&caller, 300, Duration::ZERO, Err(Said(kind))).await, Some(usual), "{kind}");
    }

    for _ in 0..300 {
        let hasty =
            deadline::within(Deadline::after(SECOND / 1000), caller.call(pending::<Result<(), Said>>));
        assert!(hasty.await.is_err());
    }
    assert_eq!(caller.status().hedge_after_ms, Some(usual), "who gave less time has seen nothing");

    let concurrency =
        BulkheadConfig { max_under_way: 1, max_waiting: 100, max_wait: 9 * SECOND, adaptive: None };
    let crowded = Caller::new("crowded", CallPolicy { concurrency, ..by_quantile() }, &Breakers::new());
    for _ in 0..10 {
        let work = || async {
            tokio::time::sleep(SECOND / 50).await;
            Ok::<_, Said>(())
        };
        let crowd = futures_util::future::join_all((0..20).map(|_| crowded.call(work))).await;
        assert!(crowd.into_iter().all(|answer| answer.is_ok()));
    }
    let crowded = crowded.status().hedge_after_ms.unwrap();
    assert!((10.0..40.0).contains(&crowded), "{crowded}: the callee takes 20 ms, the queue up to 400");
}
