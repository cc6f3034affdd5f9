//! Views that are met by somebody else half-way: an operator, another commit, another version of the program.

mod lagging;
mod swap;

use std::sync::Arc;
use std::time::Duration;

use purlin::message::{Envelope, Event, Fault, FaultKind};
use purlin::projection::{Fold, RowSet, Unfit, View, ViewMode, Views, read};
use purlin::store::memory::Memory;
use purlin::store::{
    Collection, Commit, Engine, Expected, Field, Position, Query, Recorded, Row, Store, StreamId,
};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::faulty::{Fate, Fates};

/// Longer than anything here takes, by the test's own clock.
const LONG: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Counted {
    Added(i64),
    /// Only a forgiving fold takes it.
    Odd,
    /// From here on what is added counts so many times.
    Rated(i64),
}

impl Event for Counted {}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Sum {
    sum: i64,
    events: u64,
}

impl Row for Sum {
    const COLLECTION: &'static str = "races_sums";
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Rate {
    rate: i64,
}

impl Row for Rate {
    const COLLECTION: &'static str = "races_rates";
}

/// What was added to each counter, at the rate that was in force.
struct Tally<const V: u32> {
    forgiving: bool,
}

impl<const V: u32> Fold for Tally<V> {
    const NAME: &'static str = "races";
    const VERSION: u32 = V;
    const CATEGORIES: &'static [&'static str] = &["count"];

    fn collections() -> Vec<Collection> {
        let sums = Sum::collection();
        // A later version can be asked for the sum.
        vec![if V > 1 { with_field(sums) } else { sums }, Rate::collection()]
    }

    fn key(&self, event: &Recorded) -> String {
        event.stream.key().to_owned()
    }

    fn apply(&self, event: &Recorded, rows: &mut RowSet<'_>) -> Result<(), Unfit> {
        let amount = match read(event)? {
            Counted::Rated(rate) => return rows.put("all", Rate { rate }),
            Counted::Odd if self.forgiving => 0,
            Counted::Odd => return Err(Unfit::new("too odd")),
            Counted::Added(amount) => amount,
        };
        let rate = rows.get::<Rate>("all")?.map_or(1, |row| row.rate) * i64::from(V);
        rows.change::<Sum>(event.stream.key(), |row| {
            (row.sum, row.events) = (row.sum + amount * rate, row.events + 1);
        })
    }
}

fn with_field(sums: Collection) -> Collection {
    Collection { fields: vec![Field::integer("sum")].into(), ..sums }
}

fn strict(store: &Store) -> View<Tally<1>> {
    View::new(Tally { forgiving: false }, store)
}

fn forgiving(store: &Store) -> View<Tally<1>> {
    View::new(Tally { forgiving: true }, store)
}

fn engine() -> (Arc<dyn Engine>, Store) {
    let engine: Arc<dyn Engine> = Arc::new(Memory::new());
    let calm = Fates::new([]).store(&engine);
    (engine, calm)
}

fn appending(key: &str, expected: Expected, event: &Counted) -> Commit {
    let event = Envelope::new("count", event).expect("an enum");
    Commit::new().append(StreamId::new("count", key).expect("a name"), expected, [event])
}

async fn append(store: &Store, key: &str, event: Counted) -> Position {
    store.commit(appending(key, Expected::Any, &event)).await.expect("an append").position
}

/// Runs a view for so long that there is nothing left that it would do.
async fn run<F: Fold>(view: &View<F>) {
    run_for(LONG, view).await;
}

async fn run_for<F: Fold>(time: Duration, view: &View<F>) {
    tokio::select! {
        end = view.run(CancellationToken::new()) => panic!("the view ended: {end:?}"),
        () = tokio::time::sleep(time) => {}
    }
}

/// Runs a view until its process dies as it is its fate to.
async fn until_it_dies<F: Fold>(view: &View<F>, fates: &Fates) {
    tokio::select! {
        end = view.run(CancellationToken::new()) => panic!("the view ended: {end:?}"),
        () = fates.died() => {}
    }
}

/// A later version of the program.
fn newer(store: &Store) -> View<Tally<2>> {
    View::new(Tally { forgiving: true }, store)
}

async fn sum<F: Fold>(view: &View<F>, key: &str) -> (i64, u64) {
    let row = view.row::<Sum>(key).await.expect("readable").unwrap_or_default();
    (row.sum, row.events)
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_meets_the_view_half_way_brings_back_nothing_that_was_folded() {
    let (engine, store) = engine();
    append(&store, "a", Counted::Odd).await;
    append(&store, "a", Counted::Added(1)).await;
    run(&strict(&store)).await;
    let operator = Fates::new([]);
    let corrected = forgiving(&store);
    operator.before(1, async move { run(&corrected).await });
    let retried = Views::new(&operator.store(&engine)).retry_key("races", "a").await;
    assert_eq!(retried.expect_err("all of it was folded meanwhile").kind(), FaultKind::NotFound);
    append(&store, "a", Counted::Added(1)).await;
    let view = forgiving(&store);
    run(&view).await;
    assert_eq!(view.status().await.expect("a status").parked, 0);
    assert_eq!(sum(&view, "a").await, (2, 3));
}

#[tokio::test(start_paused = true)]
async fn a_drop_that_meets_the_view_half_way_loses_nothing_that_was_parked_behind() {
    let (engine, store) = engine();
    append(&store, "a", Counted::Odd).await;
    run(&strict(&store)).await;
    let operator = Fates::new([]);
    let other = store.clone();
    operator.before(1, async move {
        append(&other, "a", Counted::Added(1)).await;
        run(&strict(&other)).await;
    });
    Views::new(&operator.store(&engine)).drop("races", Position(1)).await.expect("it is parked");
    let view = strict(&store);
    run(&view).await;
    let status = view.status().await.expect("a status");
    assert_eq!((status.parked, sum(&view, "a").await), (0, (1, 1)));
    assert!(view.parked(None, 10).await.expect("a page").items.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_inline_row_is_made_of_rows_that_are_still_so() {
    let (engine, store) = engine();
    let (fates, calm) = (Fates::new([]), strict(&store));
    let other = calm.inline();
    run(&calm).await;
    let view = strict(&fates.store(&engine));
    let inline = view.inline();
    // Only the row of the rate is read by one and written by the other.
    fates.before(1, async move {
        let rated = appending("rate", Expected::NoStream, &Counted::Rated(10));
        other.commit(rated).await.expect("an append");
    });
    inline.commit(appending("a", Expected::NoStream, &Counted::Added(1))).await.expect("an append");
    assert_eq!(view.status().await.expect("a status").mode, ViewMode::Inline);
    assert_eq!(sum(&view, "a").await, (10, 1), "in the log the rate stands before it");
}

/// The sums of a later program, which an earlier one cannot read.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Words {
    words: Vec<String>,
}

impl Row for Words {
    const COLLECTION: &'static str = Sum::COLLECTION;
}

struct Told;

impl Fold for Told {
    const NAME: &'static str = "races";
    const VERSION: u32 = 2;
    const CATEGORIES: &'static [&'static str] = &["count"];

    fn collections() -> Vec<Collection> {
        vec![Words::collection()]
    }

    fn apply(&self, event: &Recorded, rows: &mut RowSet<'_>) -> Result<(), Unfit> {
        rows.change::<Words>(event.stream.key(), |row| row.words.push(event.envelope.kind.to_string()))
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_not_heard_that_the_inline_rows_are_of_a_later_version_commits_without_them() {
    let (_, store) = engine();
    let view = strict(&store);
    let inline = view.inline();
    let added = |expected| appending("a", expected, &Counted::Added(1));
    run(&view).await;
    inline.commit(added(Expected::NoStream)).await.expect("an append");
    assert_eq!(view.status().await.expect("a status").mode, ViewMode::Inline);
    let later = View::new(Told, &store);
    run(&later).await;
    assert_eq!(later.status().await.expect("a status").version, 2);
    inline.commit(added(Expected::Version(1))).await.expect("its rows are nobody's who commits");
    run(&later).await;
    let row = later.row::<Words>("a").await.expect("readable").expect("it was folded");
    assert_eq!(row.words.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_older_program_does_not_go_inline_while_a_newer_one_builds() {
    let (engine, store) = engine();
    append(&store, "a", Counted::Added(1)).await;
    run(&strict(&store)).await;
    let fates = Fates::new([(2, Fate::DeadBefore)]);
    let building = newer(&fates.store(&engine));
    until_it_dies(&building, &fates).await;
    let older = strict(&store);
    let _inline = older.inline();
    append(&store, "a", Counted::Added(1)).await;
    run(&older).await;
    let status = older.status().await.expect("a status");
    assert_eq!((status.version, status.mode), (2, ViewMode::Following));
    assert_eq!(sum(&older, "a").await, (2, 2), "it goes on following");
}

#[tokio::test(start_paused = true)]
async fn a_newer_program_leaves_the_fields_of_the_rows_that_an_older_one_writes() {
    let (engine, store) = engine();
    append(&store, "a", Counted::Added(1)).await;
    let older = strict(&store);
    run(&older).await;
    let fates = Fates::new([(2, Fate::DeadBefore)]);
    let building = newer(&fates.store(&engine));
    until_it_dies(&building, &fates).await;
    append(&store, "a", Counted::Added(1)).await;
    run(&older).await;
    assert_eq!((older.status().await.expect("a status").parked, sum(&older, "a").await), (0, (2, 2)));
    let newest = newer(&store);
    run(&newest).await;
    let found = newest.rows::<Sum>(Query::all().and("sum", 4)).await.expect("by the new field").items;
    assert_eq!(found.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn rows_that_another_program_has_made_otherwise_are_waited_for_and_park_nothing() {
    let (_, store) = engine();
    append(&store, "a", Counted::Added(1)).await;
    let view = strict(&store);
    run(&view).await;
    store.define_collection(with_field(Sum::collection())).await.expect("other fields");
    append(&store, "a", Counted::Added(1)).await;
    run(&view).await;
    let status = view.status().await.expect("a status");
    assert_eq!((status.parked, status.stopped, sum(&view, "a").await), (0, None, (1, 1)));
    store.define_collection(Sum::collection()).await.expect("its own fields");
    run(&view).await;
    assert_eq!(sum(&view, "a").await, (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_rebuild_that_can_park_no_more_leaves_the_live_rows_alone() {
    let (_, store) = engine();
    append(&store, "a", Counted::Odd).await;
    run(&forgiving(&store)).await;
    let view = strict(&store).park_at_most(0);
    view.rebuild().await.expect("it is there");
    run(&view).await;
    append(&store, "b", Counted::Added(1)).await;
    run(&view).await;
    assert_eq!(sum(&view, "b").await, (1, 1), "they are followed");
    let status = view.status().await.expect("a status");
    let misfit = status.rebuild.and_then(|rebuild| rebuild.stopped).expect("it says what is wrong");
    assert_eq!((misfit.position, &*misfit.reason, status.stopped), (Position(1), "too odd", None));
    let corrected = forgiving(&store);
    run(&corrected).await;
    assert_eq!(corrected.status().await.expect("a status").rebuild, None);
    assert_eq!(sum(&corrected, "b").await, (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_life_that_was_away_clears_nothing_away_that_another_builds() {
    let (engine, store) = engine();
    append(&store, "a", Counted::Added(1)).await;
    run(&strict(&store)).await;
    // A build that was called off, and lies about.
    strict(&store).rebuild().await.expect("it is there");
    let unfinished = Fates::new([(3, Fate::DeadBefore)]);
    let cut_off = strict(&unfinished.store(&engine));
    until_it_dies(&cut_off, &unfinished).await;
    strict(&store).cancel_rebuild().await.expect("there is one");
    // Who is about to clear it away is held up, while it is wanted again and another life goes on with it.
    let (away, other) = (Fates::new([]), store.clone());
    away.before(1, async move {
        strict(&other).rebuild().await.expect("it is there");
        run_for(LONG / 4, &strict(&other)).await;
    });
    run(&strict(&away.store(&engine))).await;
    let view = strict(&store);
    run(&view).await;
    assert_eq!((view.status().await.expect("a status").rebuild, sum(&view, "a").await), (None, (1, 1)));
    let names = store.collections().await.expect("readable").into_iter().map(|there| there.name);
    let names: Vec<_> = names.filter(|name| name.starts_with("races")).collect();
    assert_eq!(names, ["races_rates", "races_sums"], "nothing lies about");
}

#[tokio::test(start_paused = true)]
async fn no_two_builds_have_a_name_in_common() {
    let (engine, store) = engine();
    append(&store, "a", Counted::Added(1)).await;
    run(&strict(&store)).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        strict(&store).rebuild().await.expect("it is there");
        let fates = Fates::new([(2, Fate::DeadBefore)]);
        let view = strict(&fates.store(&engine));
        until_it_dies(&view, &fates).await;
        let names = store.collections().await.expect("readable").into_iter().map(|there| there.name);
        seen.extend(names.filter(|name| name.starts_with("races_sums_")));
        strict(&store).cancel_rebuild().await.expect("there is one");
        run(&strict(&store)).await;
    }
    assert_eq!(seen, ["races_sums_v1", "races_sums_v2", "races_sums_v3"]);
}

/// Names a collection twice, as one that has two reasons to name it may.
struct Twice;

impl Fold for Twice {
    const NAME: &'static str = "races";
    const CATEGORIES: &'static [&'static str] = &["count"];

    fn collections() -> Vec<Collection> {
        vec![Sum::collection(), Rate::collection(), Sum::collection()]
    }

    fn apply(&self, event: &Recorded, rows: &mut RowSet<'_>) -> Result<(), Unfit> {
        Tally::<1> { forgiving: false }.apply(event, rows)
    }
}

#[tokio::test(start_paused = true)]
async fn a_collection_that_is_named_twice_is_one() {
    let (_, store) = engine();
    append(&store, "a", Counted::Added(1)).await;
    let view = View::new(Twice, &store);
    run(&view).await;
    view.rebuild().await.expect("it is there");
    run(&view).await;
    assert!(view.status().await.expect("a status").rebuild.is_none());
    assert_eq!(sum(&view, "a").await, (1, 1));
}
