//! Following the log.

use std::time::Duration;

use crate::store::{Commit, Expected, LogFilter, Position, Store};

use super::{Harness, event, stream};

/// Enough for any engine; it is only waited for when something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn run<H: Harness>(harness: &H) {
    a_subscription_goes_from_history_to_now(&harness.open("subscriptions").await).await;
    many_follow_while_many_write(&harness.open("followers").await).await;
}

fn append(n: u64) -> Commit {
    let one = if n.is_multiple_of(3) { event(n).public().tagged(["third"]) } else { event(n) };
    Commit::new().append(stream(n % 7), Expected::Any, [one])
}

async fn a_subscription_goes_from_history_to_now(store: &Store) {
    for n in 0..30 {
        store.commit(append(n)).await.expect("an append");
    }
    let mut all = store.subscribe(Position(5), LogFilter::all()).expect("a filter");
    let mut third = store.subscribe(Position::START, LogFilter::tagged(["third"])).expect("a filter");
    for position in 6..=40 {
        if position > 30 {
            store.commit(append(position - 1)).await.expect("an append");
        }
        let next = tokio::time::timeout(PATIENCE, all.next()).await.expect("it is there").expect("readable");
        assert_eq!(next.position, Position(position));
        assert_eq!(all.position(), Position(position));
    }
    for n in (0..40).step_by(3) {
        let next =
            tokio::time::timeout(PATIENCE, third.next()).await.expect("it is there").expect("readable");
        assert_eq!(next.position, Position(n + 1));
    }
    // Nothing of what comes is wanted: the position moves all the same.
    store.commit(append(40)).await.expect("an append");
    let page = tokio::time::timeout(PATIENCE, third.page(5)).await.expect("it moves").expect("readable");
    assert_eq!((page.events.len(), page.through), (0, Position(41)));
    assert!(store.subscribe(Position::START, LogFilter::category("no category")).is_err());
}

async fn many_follow_while_many_write(store: &Store) {
    const EVENTS: u64 = 600;
    let write = futures_util::future::join_all((0..10).map(|writer| async move {
        for n in 0..EVENTS / 10 {
            store.commit(append(writer * 60 + n)).await.expect("an append");
        }
    }));
    let follow = futures_util::future::join_all((0..8).map(|n| async move {
        let filter = if n % 2 == 0 { LogFilter::all() } else { LogFilter::public() };
        let mut subscription = store.subscribe(Position::START, filter.clone()).expect("a filter");
        let mut seen = Vec::new();
        while subscription.position() < Position(EVENTS) {
            let page = subscription.page(1 + n * 13).await.expect("readable");
            assert_eq!(page.through, subscription.position());
            seen.extend(page.events.into_iter().map(|event| event.position));
        }
        (filter, seen)
    }));
    let both = futures_util::future::join(write, follow);
    let ((), followers) = tokio::time::timeout(PATIENCE, async {
        let (_, f) = both.await;
        ((), f)
    })
    .await
    .expect("all arrive");
    let all = super::whole_log(store).await;
    for (filter, seen) in followers {
        let wanted: Vec<_> =
            all.iter().filter(|event| filter.admits(event)).map(|event| event.position).collect();
        assert_eq!(seen, wanted, "nothing is skipped, and nothing comes twice");
    }
}
