//! What views do on every engine: the suite that an engine's tests run beside that of the store itself.
//!
//! Views stand on nothing but the store's promises, so an engine that passes [`store::conformance`](super::store) ought to
//! pass this too. It is run all the same, because rows, checkpoints, swaps and requirements meet here as they do in a
//! service.
//!
//! ```
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
//! use purlin::store::Store;
//! use purlin::testing::{projection, store::Harness};
//!
//! struct Memory;
//! impl Harness for Memory {
//!     const DURABLE: bool = false;
//!     async fn open(&self, _name: &str) -> Store { Store::memory() }
//! }
//! projection::conformance(&Memory).await;
//! # });
//! ```

mod inline;
mod operated;
mod parking;
mod rows;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::message::{Envelope, Event};
use crate::projection::{Fold, RowSet, Unfit, View, ViewStatus, read};
use crate::store::{
    Collection, Commit, Expected, Field, LogFilter, Position, Query, Recorded, Row, Store, StreamId,
};

use super::store::Harness;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(120);

/// Runs every case; panics when a promise is broken.
pub async fn conformance<H: Harness>(harness: &H) {
    rows::run(harness).await;
    parking::run(harness).await;
    operated::run(harness).await;
    inline::run(harness).await;
}

/// What happens to a counter.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Counted {
    Added(i64),
    Removed,
    /// Only a forgiving fold takes it.
    Odd,
}

impl Event for Counted {}

/// What happens to a name.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Called {
    By(String),
}

impl Event for Called {}

/// A counter: its row has the counter's key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Sum {
    name: String,
    sum: i64,
    events: u64,
}

impl Row for Sum {
    const COLLECTION: &'static str = "suite_sums";
    const FIELDS: &'static [Field] = &[Field::text("name"), Field::integer("sum")];
}

/// All counters whose keys have the same first letter.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Group {
    sum: i64,
    events: u64,
}

impl Row for Group {
    const COLLECTION: &'static str = "suite_groups";
    const FIELDS: &'static [Field] = &[Field::integer("sum")];
}

/// Counters by themselves and in groups; version `V` counts every amount `V` times.
struct Totals<const V: u32> {
    forgiving: bool,
}

impl<const V: u32> Fold for Totals<V> {
    const NAME: &'static str = "suite_totals";
    const VERSION: u32 = V;
    const CATEGORIES: &'static [&'static str] = &["count", "name"];

    fn collections() -> Vec<Collection> {
        vec![Sum::collection(), Group::collection()]
    }

    fn key(&self, event: &Recorded) -> String {
        event.stream.key().to_owned()
    }

    fn apply(&self, event: &Recorded, rows: &mut RowSet<'_>) -> Result<(), Unfit> {
        let key = event.stream.key();
        if event.stream.category() == "name" {
            let Called::By(name) = read(event)?;
            return rows.change::<Sum>(key, |row| row.name = name);
        }
        let amount = match read(event)? {
            Counted::Added(amount) => amount * i64::from(V),
            Counted::Odd if self.forgiving => 0,
            Counted::Odd => {
                // What it has changed before it gives up does not count.
                rows.change::<Group>(&key[..1], |row| row.sum = -1)?;
                return Err(Unfit::new("too odd"));
            }
            Counted::Removed => return rows.delete::<Sum>(key),
        };
        rows.change::<Sum>(key, |row| (row.sum, row.events) = (row.sum + amount, row.events + 1))?;
        rows.change::<Group>(&key[..1], |row| (row.sum, row.events) = (row.sum + amount, row.events + 1))
    }
}

fn totals(store: &Store) -> View<Totals<1>> {
    View::new(Totals { forgiving: false }, store)
}

fn counter(key: &str) -> StreamId {
    StreamId::new("count", key).expect("a name of the suite's own")
}

fn counted(event: &Counted) -> Envelope {
    Envelope::new("count", event).expect("an enum")
}

async fn append(store: &Store, key: &str, event: Counted) -> Position {
    let commit = Commit::new().append(counter(key), Expected::Any, [counted(&event)]);
    store.commit(commit).await.expect("an append").position
}

async fn add(store: &Store, key: &str, amount: i64) -> Position {
    append(store, key, Counted::Added(amount)).await
}

/// Many events at once: the amounts 1, of counters that take turns.
async fn add_many(store: &Store, keys: &[&str], count: usize) {
    for chunk in (0..count).collect::<Vec<_>>().chunks(500) {
        let mut commit = Commit::new();
        for n in chunk {
            let key = keys[n % keys.len()];
            commit = commit.append(counter(key), Expected::Any, [counted(&Counted::Added(1))]);
        }
        store.commit(commit).await.expect("appends");
    }
}

/// Runs a view until what is asked for is so.
async fn run_until<F: Fold>(
    view: &View<F>,
    store: &Store,
    is_so: impl Fn(&ViewStatus) -> bool,
) -> ViewStatus {
    let asked = async {
        let mut watch = store.watch();
        loop {
            watch.borrow_and_update();
            let status = view.status().await.expect("a status");
            if is_so(&status) {
                return status;
            }
            watch.changed().await.expect("the store is open");
        }
    };
    tokio::select! {
        end = view.run(CancellationToken::new()) => panic!("the view ended: {end:?}"),
        status = tokio::time::timeout(LONG, asked) => status.expect("it comes to be so in time"),
    }
}

/// Runs a view until it has seen the whole log.
async fn catch_up<F: Fold>(view: &View<F>, store: &Store) {
    let head = store.head();
    tokio::select! {
        end = view.run(CancellationToken::new()) => panic!("the view ended: {end:?}"),
        seen = view.wait_for(head, LONG) => seen.expect("it catches up in time"),
    }
}

type Both = (BTreeMap<String, (i64, u64)>, BTreeMap<String, (i64, u64)>);

/// The rows of both kinds.
async fn rows_of<F: Fold>(view: &View<F>) -> Both {
    let all = || Query::all().limit(1000);
    let sums = view.rows::<Sum>(all()).await.expect("rows").items;
    let groups = view.rows::<Group>(all()).await.expect("rows").items;
    (
        sums.into_iter().map(|(key, row)| (key, (row.sum, row.events))).collect(),
        groups.into_iter().map(|(key, row)| (key, (row.sum, row.events))).collect(),
    )
}

/// What the rows must be: the sum of all `Added` of the log, each taken so many times.
async fn expected(store: &Store, times: i64) -> Both {
    let (mut sums, mut groups) = (BTreeMap::new(), BTreeMap::new());
    let mut after = Position::START;
    while after < store.head() {
        let page = store.read_log(after, &LogFilter::category("count"), 1000).await.expect("a page");
        for event in &page.events {
            let Ok(Counted::Added(amount)) = read(event) else { continue };
            let key = event.stream.key().to_owned();
            for (map, key) in [(&mut groups, key[..1].to_owned()), (&mut sums, key)] {
                let row: &mut (i64, u64) = map.entry(key).or_default();
                *row = (row.0 + amount * times, row.1 + 1);
            }
        }
        after = page.through;
    }
    (sums, groups)
}
