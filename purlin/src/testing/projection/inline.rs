//! Rows that are written by the commits that append the events.

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::projection::{View, ViewMode, ViewState};
use crate::store::{Commit, CommitError, Conflict, Expected, Position, Store};

use super::{
    Counted, Group, Harness, Sum, Totals, add, add_many, catch_up, counted, counter, expected, rows_of,
    run_until, totals,
};

pub(super) async fn run<H: Harness>(harness: &H) {
    an_inline_row_is_there_with_its_event(harness).await;
    a_view_goes_inline_without_a_gap(harness).await;
    what_was_committed_without_the_view_is_caught_up_with(harness).await;
    an_inline_view_that_is_rebuilt_or_paused_follows_until_it_is_inline_again(harness).await;
}

async fn append_at(store: &Store, key: &str, version: u64, event: Counted) -> Result<Position, CommitError> {
    let expected = Expected::Version(version);
    let commit = Commit::new().append(counter(key), expected, [counted(&event)]);
    store.commit(commit).await.map(|committed| committed.position)
}

async fn go_inline<const V: u32>(view: &View<Totals<V>>, store: &Store) {
    run_until(view, store, |status| status.mode == ViewMode::Inline).await;
}

async fn an_inline_row_is_there_with_its_event<H: Harness>(harness: &H) {
    let plain = harness.open("view_inline").await;
    add(&plain, "a1", 1).await;
    let view = totals(&plain);
    let store = view.inline();
    go_inline(&view, &plain).await;
    // From here on nobody runs it.
    append_at(&store, "a1", 1, Counted::Added(2)).await.expect("an append");
    assert_eq!(view.row::<Sum>("a1").await.expect("readable").expect("there").sum, 3);
    let stale = append_at(&store, "a1", 1, Counted::Added(100)).await;
    assert!(matches!(stale, Err(CommitError::Conflict(Conflict::Stream { .. }))), "{stale:?}");
    let refused = append_at(&store, "a1", 2, Counted::Odd).await;
    assert!(matches!(refused, Err(CommitError::Invalid(_))), "{refused:?}");
    let any = Commit::new().append(counter("a1"), Expected::Any, [counted(&Counted::Added(1))]);
    assert!(matches!(store.commit(any).await, Err(CommitError::Invalid(_))), "its version is not known");
    assert_eq!(view.row::<Group>("a").await.expect("readable").expect("there").sum, 3, "all or nothing");
    let keys = ["b1", "b2", "b3", "b4", "b5", "b6"];
    join_all(keys.map(|key| {
        let (store, view) = (store.clone(), view.clone());
        async move {
            for version in 0..20 {
                append_at(&store, key, version, Counted::Added(1)).await.expect("an append");
                let row = view.row::<Sum>(key).await.expect("readable").expect("there");
                assert_eq!(row.events, version + 1, "the row of `{key}` came with its event");
            }
        }
    }))
    .await;
    assert_eq!(rows_of(&view).await, expected(&plain, 1).await);
}

async fn a_view_goes_inline_without_a_gap<H: Harness>(harness: &H) {
    let plain = harness.open("view_going_inline").await;
    add_many(&plain, &["a1", "b1"], 600).await;
    let view = totals(&plain);
    let store = view.inline();
    let writers = join_all((0..6).map(|writer| {
        let (store, view) = (store.clone(), view.clone());
        async move {
            let (key, mut version, mut inline) = (format!("c{writer}"), 0, 0);
            while inline < 5 {
                append_at(&store, &key, version, Counted::Added(1)).await.expect("an append");
                version += 1;
                let status = view.status().await.expect("a status");
                inline += u32::from(status.mode == ViewMode::Inline);
            }
        }
    }));
    tokio::select! {
        end = view.run(CancellationToken::new()) => panic!("the view ended: {end:?}"),
        _ = writers => {}
    }
    assert_eq!(rows_of(&view).await, expected(&plain, 1).await);
}

async fn what_was_committed_without_the_view_is_caught_up_with<H: Harness>(harness: &H) {
    let plain = harness.open("view_without").await;
    let view = totals(&plain);
    let store = view.inline();
    add(&plain, "a1", 1).await;
    go_inline(&view, &plain).await;
    append_at(&store, "a1", 1, Counted::Added(1)).await.expect("an append");
    add(&plain, "a1", 1).await;
    // The next program writes before it runs the view.
    let view = totals(&plain);
    let store = view.inline();
    append_at(&store, "a1", 3, Counted::Added(1)).await.expect("an append");
    go_inline(&view, &plain).await;
    append_at(&store, "a1", 4, Counted::Added(1)).await.expect("an append");
    assert_eq!(rows_of(&view).await, expected(&plain, 1).await);
    // And one that is not inline follows from there.
    add(&plain, "a1", 1).await;
    let follower = totals(&plain);
    catch_up(&follower, &plain).await;
    assert_eq!(rows_of(&follower).await, expected(&plain, 1).await);
    assert_eq!(follower.status().await.expect("a status").mode, ViewMode::Following);
}

async fn an_inline_view_that_is_rebuilt_or_paused_follows_until_it_is_inline_again<H: Harness>(harness: &H) {
    let plain = harness.open("view_inline_rebuild").await;
    let view = totals(&plain);
    let store = view.inline();
    add_many(&plain, &["a1", "b1"], 600).await;
    go_inline(&view, &plain).await;
    append_at(&store, "c1", 0, Counted::Added(1)).await.expect("an append");
    view.rebuild().await.expect("it is there");
    append_at(&store, "c1", 1, Counted::Added(1)).await.expect("an append");
    go_inline(&view, &plain).await;
    append_at(&store, "c1", 2, Counted::Added(1)).await.expect("an append");
    assert_eq!(rows_of(&view).await, expected(&plain, 1).await);
    view.pause().await.expect("it is there");
    append_at(&store, "c1", 3, Counted::Added(1)).await.expect("the events are not held up");
    assert_eq!(view.row::<Sum>("c1").await.expect("readable").expect("there").events, 3);
    let status = view.status().await.expect("a status");
    assert_eq!((status.state, status.mode), (ViewState::Paused, ViewMode::Following));
    view.resume().await.expect("it is there");
    go_inline(&view, &plain).await;
    assert_eq!(rows_of(&view).await, expected(&plain, 1).await);
}
