//! Read models, on whatever engine keeps them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use purlin::message::{Envelope, Event, Fault, FaultKind};
use purlin::projection::{Projection, View, ViewError, ViewState};
use purlin::store::memory::Memory;
use purlin::store::{
    BoxFuture, Commit, Engine, Expected, Field, Position, Query, Recorded, Row, Store, StreamId,
};
use purlin::testing::store::Harness;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::faulty::{Fate, Fates};

/// Opens a new engine.
pub(crate) type Open = fn() -> BoxFuture<'static, Arc<dyn Engine>>;

fn memory() -> BoxFuture<'static, Arc<dyn Engine>> {
    Box::pin(async { Arc::new(Memory::new()) as Arc<dyn Engine> })
}

/// An engine that gives short pages long before the end of the log.
fn short_pages() -> BoxFuture<'static, Arc<dyn Engine>> {
    Box::pin(async { Arc::new(Memory::new().short_pages(10)) as Arc<dyn Engine> })
}

/// Runs bodies that any engine must pass on the one in memory.
macro_rules! on_memory {
    ($($test:ident),* $(,)?) => {
        mod on_memory {
            $(#[tokio::test(start_paused = true)]
            async fn $test() {
                let test = super::$test(super::memory);
                tokio::time::timeout(std::time::Duration::from_secs(3600), test).await.unwrap();
            })*
        }
    };
}

mod dying;
mod rebuild;

on_memory! {
    rows_follow_the_events_of_their_category,
    a_reader_waits_for_what_was_written,
    a_batch_is_one_commit,
    an_event_that_cannot_be_read_stops_the_view_before_it,
    a_panic_of_the_projection_stops_the_view_before_the_event,
    rows_too_large_for_one_commit_take_several,
    a_row_that_no_commit_can_hold_stops_the_view,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum CountEvent {
    Added { amount: i64 },
    Cleared,
    Broken,
    Grown { bytes: usize },
}

impl Event for CountEvent {}

/// Sums up, and remembers how many events went into the sum.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct SumRow {
    sum: i64,
    events: u64,
    filler: String,
}

impl Row for SumRow {
    const COLLECTION: &'static str = "sums_view";
    const FIELDS: &'static [Field] = &[Field::integer("sum")];
}

/// Version `V` counts each amount `V` times.
struct Sums<const V: u32>;

impl<const V: u32> Projection for Sums<V> {
    const NAME: &'static str = "sums";
    const VERSION: u32 = V;
    const CATEGORY: &'static str = "count";
    type Event = CountEvent;
    type Row = SumRow;

    fn apply(&self, row: Option<SumRow>, event: &CountEvent, _: &Recorded) -> Option<SumRow> {
        let mut row = row.unwrap_or_default();
        row.events += 1;
        match event {
            CountEvent::Added { amount } => row.sum += amount * i64::from(V),
            CountEvent::Cleared => return None,
            CountEvent::Broken => panic!("cannot fold this"),
            CountEvent::Grown { bytes } => row.filler = "x".repeat(*bytes),
        }
        Some(row)
    }
}

async fn append(store: &Store, key: &str, event: CountEvent) -> Position {
    let stream = StreamId::new("count", key).unwrap();
    let commit = Commit::new().append(stream, Expected::Any, [Envelope::new("count", &event).unwrap()]);
    store.commit(commit).await.unwrap().position
}

async fn add(store: &Store, key: &str, amount: i64) -> Position {
    append(store, key, CountEvent::Added { amount }).await
}

/// Runs a view until it has seen the whole log.
async fn catch_up<P: Projection>(view: &View<P>) {
    let head = view_store_head(view);
    tokio::select! {
        end = view.run(CancellationToken::new()) => panic!("the view ended: {end:?}"),
        seen = view.wait_for(head, Duration::from_secs(600)) => seen.unwrap(),
    }
}

fn view_store_head<P: Projection>(view: &View<P>) -> Position {
    Position(view.position().0 + view.lag())
}

/// The sums of all rows, read with a view that need not run.
async fn sums(store: &Store) -> BTreeMap<String, (i64, u64)> {
    let rows = View::new(Sums::<1>, store).list(Query::all().limit(1000)).await.unwrap();
    rows.items.into_iter().map(|(key, row)| (key, (row.sum, row.events))).collect()
}

fn calm(engine: &Arc<dyn Engine>) -> Store {
    Fates::new([]).store(engine)
}

pub(crate) async fn rows_follow_the_events_of_their_category(open: Open) {
    let store = calm(&open().await);
    add(&store, "a", 1).await;
    add(&store, "a", 2).await;
    add(&store, "b", 5).await;
    let other = Envelope::raw("else.happened", "null");
    let stream = StreamId::new("else", "a").unwrap();
    store.commit(Commit::new().append(stream, Expected::Any, [other])).await.unwrap();
    let view = View::new(Sums::<1>, &store);
    assert_eq!(view.get("a").await.unwrap(), None);
    catch_up(&view).await;
    assert_eq!(view.get("a").await.unwrap(), Some(SumRow { sum: 3, events: 2, filler: String::new() }));
    let five = view.list(Query::all().and("sum", 5)).await.unwrap();
    assert_eq!(five.items.iter().map(|(key, _)| &**key).collect::<Vec<_>>(), ["b"]);
    append(&store, "a", CountEvent::Cleared).await;
    catch_up(&view).await;
    assert_eq!(view.get("a").await.unwrap(), None);
    assert_eq!((view.lag(), view.status().await.unwrap().state), (0, ViewState::Live));
}

pub(crate) async fn a_reader_waits_for_what_was_written(open: Open) {
    let store = calm(&open().await);
    let view = View::new(Sums::<1>, &store);
    let reader = async {
        let written = add(&store, "a", 1).await;
        view.wait_for(written, Duration::from_secs(2)).await.unwrap();
        assert_eq!(view.get("a").await.unwrap().unwrap().sum, 1);
        let late = view.wait_for(Position(written.0 + 1), Duration::from_secs(2)).await.unwrap_err();
        assert_eq!((late.reached, late.kind()), (written, FaultKind::Unavailable));
    };
    tokio::select! {
        end = view.run(CancellationToken::new()) => panic!("the view ended: {end:?}"),
        () = reader => {}
    }
}

const FATES: [Fate; 5] = [Fate::Refused, Fate::DeadBefore, Fate::DeadBehind, Fate::Late, Fate::LateRead];

pub(crate) async fn a_batch_is_one_commit(open: Open) {
    let (engine, fates) = (open().await, Fates::new([]));
    add(&calm(&engine), "a", 1).await;
    catch_up(&View::new(Sums::<1>, &calm(&engine))).await;
    for _ in 0..100 {
        add(&calm(&engine), "a", 1).await;
    }
    catch_up(&View::new(Sums::<1>, &fates.store(&engine))).await;
    assert_eq!(fates.commits(), 1);
}

/// Runs a view until it ends, which it must; a second run must end in the same way.
async fn stops<P: Projection>(view: &View<P>) -> purlin::projection::Misfit {
    let first = view.run(CancellationToken::new()).await;
    let Err(ViewError::Misfit { misfit, .. }) = first else { panic!("the view ended: {first:?}") };
    let status = view.status().await.unwrap();
    assert_eq!((status.state, status.stopped), (ViewState::Stopped, Some(misfit.clone())));
    let second = view.run(CancellationToken::new()).await;
    assert!(matches!(second, Err(ViewError::Misfit { misfit: again, .. }) if again == misfit));
    misfit
}

pub(crate) async fn an_event_that_cannot_be_read_stops_the_view_before_it(open: Open) {
    let store = calm(&open().await);
    add(&store, "a", 1).await;
    let stream = StreamId::new("count", "a").unwrap();
    let unknown = Envelope::raw("count.multiplied", "3");
    store.commit(Commit::new().append(stream, Expected::Any, [unknown])).await.unwrap();
    add(&store, "a", 1).await;
    let view = View::new(Sums::<1>, &store).park_at_most(0);
    let misfit = stops(&view).await;
    assert_eq!(
        (misfit.position, &*misfit.stream, &*misfit.kind),
        (Position(2), "count-a", "count.multiplied")
    );
    assert!(misfit.reason.contains("multiplied"), "{}", misfit.reason);
    assert_eq!(sums(&store).await["a"], (1, 1), "what stands before it is there");
}

pub(crate) async fn a_panic_of_the_projection_stops_the_view_before_the_event(open: Open) {
    let store = calm(&open().await);
    add(&store, "a", 1).await;
    add(&store, "b", 1).await;
    append(&store, "a", CountEvent::Broken).await;
    let misfit = stops(&View::new(Sums::<1>, &store).park_at_most(0)).await;
    assert_eq!(
        (misfit.position, &*misfit.reason),
        (Position(3), "the projection panicked: cannot fold this")
    );
    assert_eq!(sums(&store).await, [("a".into(), (1, 1)), ("b".into(), (1, 1))].into());
}

pub(crate) async fn rows_too_large_for_one_commit_take_several(open: Open) {
    let store = calm(&open().await);
    for key in 0..12 {
        append(&store, &key.to_string(), CountEvent::Grown { bytes: 900_000 }).await;
    }
    let view = View::new(Sums::<1>, &store);
    catch_up(&view).await;
    assert_eq!(view.list(Query::all()).await.unwrap().items.len(), 12);
}

pub(crate) async fn a_row_that_no_commit_can_hold_stops_the_view(open: Open) {
    let store = calm(&open().await);
    add(&store, "a", 1).await;
    append(&store, "b", CountEvent::Grown { bytes: 2 << 20 }).await;
    let misfit = stops(&View::new(Sums::<1>, &store).park_at_most(0)).await;
    assert_eq!(misfit.position, Position(2));
    assert_eq!(sums(&store).await["a"], (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn views_conform_on_an_engine_in_memory() {
    struct Memories;
    impl Harness for Memories {
        const DURABLE: bool = false;
        async fn open(&self, _name: &str) -> Store {
            Store::memory()
        }
    }
    purlin::testing::projection::conformance(&Memories).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Whenever the process dies, and whichever versions follow each other, the rows are what the events say: those of
    /// a key up to the first one that cannot be folded (the amount 0).
    #[test]
    fn the_rows_are_always_the_fold_of_all_events(
        events in proptest::collection::vec((0..4_u8, prop_oneof![100 => 1..5_i64, 1 => Just(0)]), 1..700),
        fates in proptest::collection::btree_map(1..20_usize, proptest::sample::select(&FATES[..]), 0..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (mut expected, mut broken) = (BTreeMap::<String, (i64, u64)>::new(), BTreeSet::new());
        for (key, amount) in &events {
            if *amount == 0 || broken.contains(key) {
                broken.insert(*key);
                continue;
            }
            let row = expected.entry(key.to_string()).or_default();
            *row = (row.0 + amount * 3, row.1 + 1);
        }
        let found = runtime.block_on(async {
            let (engine, fates) = (short_pages().await, Fates::new(fates));
            let store = calm(&engine);
            let third = events.len() / 3;
            for (index, (key, amount)) in events.iter().enumerate() {
                match *amount {
                    0 => append(&store, &key.to_string(), CountEvent::Broken).await,
                    amount => add(&store, &key.to_string(), amount).await,
                };
                if index == third {
                    fates.live(async || catch_up(&View::new(Sums::<1>, &fates.store(&engine))).await).await;
                }
                if index == 2 * third {
                    fates.live(async || catch_up(&View::new(Sums::<2>, &fates.store(&engine))).await).await;
                }
            }
            fates.live(async || catch_up(&View::new(Sums::<3>, &fates.store(&engine))).await).await;
            sums(&store).await
        });
        prop_assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn a_reader_waits_no_longer_when_the_last_events_are_of_another_category() {
    let store = Store::memory();
    let view = View::new(Sums::<1>, &store);
    let work = async {
        let first = add(&store, "a", 1).await;
        view.wait_for(first, Duration::from_secs(5)).await.unwrap();
        for n in 0..20 {
            let other = StreamId::new("other", n).unwrap();
            let commit =
                Commit::new().append(other, Expected::NoStream, [Envelope::raw("other.done", "null")]);
            let position = store.commit(commit).await.unwrap().position;
            view.wait_for(position, Duration::from_secs(5)).await.unwrap();
        }
    };
    tokio::select! {
        end = view.run(CancellationToken::new()) => panic!("{end:?}"),
        () = work => {}
    }
}

/// A row that was deleted, and is spoilt with others, is read anew; which others are needed then is looked up ahead.
#[tokio::test]
async fn looking_ahead_for_rows_loses_none() {
    let store = Store::memory();
    add(&store, "first", 1).await;
    catch_up(&View::new(Sums::<1>, &store)).await;
    // In a second life, which does not know all rows from the beginning.
    let view = View::new(Sums::<1>, &store);
    let events = async {
        let seen = async |position| view.wait_for(position, Duration::from_secs(5)).await.unwrap();
        for key in ["gone", "kept", "broken"] {
            add(&store, key, 5).await;
        }
        seen(append(&store, "gone", CountEvent::Cleared).await).await;
        let event = |key: &str, event: CountEvent| (key.to_owned(), Envelope::new("count", &event).unwrap());
        let batch = [
            event("gone", CountEvent::Added { amount: 1 }),
            event("broken", CountEvent::Broken),
            event("kept", CountEvent::Added { amount: 1 }),
        ];
        let mut commit = Commit::new();
        for (key, event) in batch {
            commit = commit.append(StreamId::new("count", key).unwrap(), Expected::Any, [event]);
        }
        seen(store.commit(commit).await.unwrap().position).await;
    };
    tokio::select! {
        end = view.run(CancellationToken::new()) => panic!("{end:?}"),
        () = events => {}
    }
    let rows = sums(&store).await;
    assert_eq!((rows["gone"], rows["kept"], rows["broken"]), ((1, 1), (6, 2), (5, 1)));
}
