//! What a store engine must do: the suite that every engine runs.
//!
//! An engine is right when [`conformance`] passes. Cases are grouped by what they ask about; each begins with an
//! empty store of its own and panics with a sentence when a promise is broken.
//!
//! ```
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
//! use purlin::store::Store;
//! use purlin::testing::store::{Harness, conformance};
//!
//! struct Memory;
//! impl Harness for Memory {
//!     const DURABLE: bool = false;
//!     async fn open(&self, _name: &str) -> Store { Store::memory() }
//! }
//! conformance(&Memory).await;
//! # });
//! ```

mod appends;
mod archiving;
mod closing;
mod collections;
mod concurrency;
mod conditions;
mod master_keys;
mod model;
mod personal;
mod records;
mod restarts;
mod subscriptions;
mod tenants;
mod texts;

use crate::message::Envelope;
use crate::store::{Collection, Field, LogFilter, Position, Recorded, Row, Store, StreamId};

/// How the suite gets its stores.
pub trait Harness: Sync {
    /// Whether a store that was closed is there again when it is opened again.
    const DURABLE: bool;

    /// Opens the store of this name: an empty one at first, later what was left when it was closed.
    fn open(&self, name: &str) -> impl Future<Output = Store> + Send;
}

/// Runs every case; panics when a promise is broken.
pub async fn conformance<H: Harness>(harness: &H) {
    appends::run(harness).await;
    conditions::run(harness).await;
    subscriptions::run(harness).await;
    tenants::run(harness).await;
    records::run(harness).await;
    collections::run(harness).await;
    texts::run(harness).await;
    concurrency::run(harness).await;
    model::run(harness).await;
    personal::run(harness).await;
    master_keys::run(harness).await;
    archiving::run(harness).await;
    closing::run(harness).await;
    if H::DURABLE {
        restarts::run(harness).await;
    }
}

/// The row that the cases write.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
struct Note {
    text: String,
    number: i64,
    done: bool,
    tags: Vec<String>,
}

impl Row for Note {
    const COLLECTION: &'static str = "notes";
    const FIELDS: &'static [Field] =
        &[Field::text("text"), Field::integer("number"), Field::boolean("done"), Field::texts("tags")];
}

impl Note {
    fn new(text: &str, number: i64) -> Self {
        Self {
            text: text.to_owned(),
            number,
            done: number % 2 == 0,
            tags: vec![format!("t{number}"), "all".into()],
        }
    }
}

fn notes() -> Collection {
    Note::collection()
}

fn stream(key: impl std::fmt::Display) -> StreamId {
    StreamId::new("thing", key).expect("a name of the suite's own")
}

fn event(n: u64) -> Envelope {
    Envelope::raw("thing.counted", format!("{{\"n\":{n}}}"))
}

async fn whole_log(store: &Store) -> Vec<Recorded> {
    let (mut events, mut after) = (Vec::new(), Position::START);
    loop {
        let page = store.read_log(after, &LogFilter::all(), 100).await.expect("the log can be read");
        if page.through == after {
            return events;
        }
        events.extend(page.events);
        after = page.through;
    }
}

async fn whole_stream(store: &Store, stream: &StreamId) -> Vec<Recorded> {
    let mut events = Vec::new();
    loop {
        let page =
            store.read_stream(stream, events.len() as u64 + 1, 100).await.expect("a stream can be read");
        if page.is_empty() {
            return events;
        }
        events.extend(page);
    }
}

/// Positions are dense from 1, versions are dense in their stream, and times never go back.
fn assert_in_order(log: &[Recorded]) {
    let mut versions = std::collections::HashMap::<&StreamId, u64>::new();
    let mut at = crate::message::Timestamp::MIN;
    for (n, event) in log.iter().enumerate() {
        assert_eq!(event.position, Position(n as u64 + 1), "positions are dense");
        let version = versions.entry(&event.stream).or_default();
        *version += 1;
        assert_eq!(event.version, *version, "versions of `{}` are dense", event.stream);
        assert!(event.at >= at, "times never go back");
        at = event.at;
    }
}
