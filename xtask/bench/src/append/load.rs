//! Commits through a store, on whatever engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use purlin::message::{Envelope, Timestamp};
use purlin::store::{Commit, Expected, Field, LogFilter, Position, Revision, Row, Store, StreamId};
use tokio::runtime::Runtime;

use super::{BEFORE, Case, Dice, KIND, Kind, STREAMS, key, payload};
use crate::{Calls, Tally};

/// A store with many streams in it, and callers who append to them.
pub struct Load<'a> {
    runtime: &'a Runtime,
    store: Store,
    streams: Arc<Streams>,
}

/// The last version of each stream, and the number of the next new one.
struct Streams {
    versions: Vec<AtomicU32>,
    fresh: AtomicU64,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Mark {
    position: u64,
}

impl Row for Mark {
    const COLLECTION: &'static str = "marks";
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Reply {
    body: String,
}

impl Row for Reply {
    const COLLECTION: &'static str = "replies";
}

#[derive(serde::Serialize, serde::Deserialize)]
struct View {
    status: String,
    total: i64,
}

impl Row for View {
    const COLLECTION: &'static str = "view";
    const FIELDS: &'static [Field] = &[Field::text("status")];
}

impl<'a> Load<'a> {
    /// A store that is new, with 300,000 events in 100,000 streams.
    pub fn new(runtime: &'a Runtime, store: Store) -> Result<Self> {
        Self::filled(runtime, store, STREAMS, BEFORE, |_| {})
    }

    /// A store that is new, with so many events in so many streams; `progress` is told how many are there.
    pub fn filled(
        runtime: &'a Runtime,
        store: Store,
        streams: u64,
        events: u64,
        progress: impl FnMut(u64),
    ) -> Result<Self> {
        let versions = (0..streams).map(|_| AtomicU32::new(0)).collect();
        let streams = Arc::new(Streams { versions, fresh: AtomicU64::new(streams) });
        let load = Self { runtime, store, streams };
        runtime.block_on(load.fill(events, progress))?;
        Ok(load)
    }

    async fn fill(&self, events: u64, mut progress: impl FnMut(u64)) -> Result<()> {
        self.store.define::<Mark>().await?;
        self.store.define::<Reply>().await?;
        self.store.define::<View>().await?;
        for first in (0..events).step_by(1000) {
            let mut commit = Commit::new();
            for n in first..events.min(first + 1000) {
                let key = n % self.streams.versions.len() as u64;
                commit = commit.append(stream(key), self.streams.claim(key, 1), [event(n)]);
            }
            self.store.commit(commit).await?;
            progress(events.min(first + 1000));
        }
        Ok(())
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Commits for about `time`; and how many of them a transaction took.
    pub fn run(&self, case: &Case, time: Duration) -> Result<(Calls, f64)> {
        let before = self.store.head();
        let caller =
            |caller, tally| call(caller, *case, self.store.clone(), Arc::clone(&self.streams), tally);
        let calls = Calls::made(self.runtime, case.callers, time, caller)?;
        let transactions = self.runtime.block_on(self.transactions_since(before))?;
        let batch = calls.count as f64 / transactions as f64;
        Ok((calls, batch))
    }

    /// All commits of a transaction bear the same time.
    async fn transactions_since(&self, mut position: Position) -> Result<usize> {
        let (mut count, mut last) = (0, None);
        while position < self.store.head() {
            let page = self.store.read_log(position, &LogFilter::all(), 4096).await?;
            ensure!(page.through > position, "the log does not go on behind {position}");
            for event in page.events {
                count += usize::from(last.replace(event.at) != Some(event.at));
            }
            position = page.through;
        }
        Ok(count)
    }

    /// Closes the store.
    pub fn close(self) {
        self.runtime.block_on(self.store.close());
    }
}

impl Streams {
    /// What the next so many events of a stream expect.
    fn claim(&self, key: u64, events: usize) -> Expected {
        let events = u32::try_from(events).unwrap_or(u32::MAX);
        Expected::Version(self.versions[key as usize].fetch_add(events, Ordering::Relaxed).into())
    }

    fn fresh(&self) -> u64 {
        self.fresh.fetch_add(1, Ordering::Relaxed)
    }
}

async fn call(
    caller: usize,
    case: Case,
    store: Store,
    streams: Arc<Streams>,
    mut tally: Tally,
) -> Result<Tally> {
    let mut dice = Dice::new(caller);
    while tally.goes_on() {
        let (key, expected) = match case.kind {
            Kind::NewStream => (streams.fresh(), Expected::NoStream),
            Kind::Spread | Kind::Handling => {
                let key = dice.own(caller, case.callers, streams.versions.len() as u64);
                (key, streams.claim(key, case.events))
            }
        };
        let commit = Commit::new().append(stream(key), expected, (0..case.events).map(|_| event(key)));
        let commit = match case.kind {
            Kind::Handling => handling(commit, caller, streams.fresh()),
            _ => commit,
        };
        tally.time(store.commit(commit)).await.context("nobody else writes this stream")?;
    }
    Ok(tally)
}

/// What else a handling writes: its consumer's mark, a reply under a key at random, a row in order of its making.
fn handling(commit: Commit, caller: usize, n: u64) -> Commit {
    let random = format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let due = Some(Timestamp::MAX);
    commit
        .put(format!("group/{caller}"), &Mark { position: n })
        .put_expecting(random, &Reply { body: payload(n) }, Revision::Absent, due)
        .put(format!("{n:016x}"), &View { status: "submitted".into(), total: 1299 })
}

fn stream(n: u64) -> StreamId {
    StreamId::new("order", key(n)).expect("a name")
}

fn event(n: u64) -> Envelope {
    Envelope::raw(KIND, payload(n))
}
