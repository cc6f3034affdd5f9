//! No reader's cursor ever passes a committed event that it has not seen: the property, on any engine, while many write.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::message::Envelope;
use crate::store::audit::{Audit, Followed};
use crate::store::{Commit, Expected, Field, Position, Row, Store, StreamId};

use super::Dice;

const WRITERS: u64 = 16;

/// How many events a reader takes at once: some are always behind, some nearly always wait.
const PAGES: [usize; 4] = [3, 50, 400, 1000];

/// What was written and read.
#[derive(Debug, Clone)]
pub struct Gapless {
    /// How many commits the writers made.
    pub commits: u64,
    /// How many events.
    pub events: u64,
    /// What each reader saw.
    pub readers: Vec<Followed>,
}

/// For how long [`gapless`] is to run: so many seconds as `PURLIN_GAP_SECONDS` says, or else `usual`.
pub fn how_long(usual: Duration) -> Duration {
    let seconds = std::env::var("PURLIN_GAP_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    seconds.map_or(usual, Duration::from_secs)
}

/// The other thing that writers write.
#[derive(serde::Serialize, serde::Deserialize)]
struct Tally {
    writer: i64,
    commits: i64,
}

impl Row for Tally {
    const COLLECTION: &'static str = "gap_tallies";
    const FIELDS: &'static [Field] = &[Field::integer("writer"), Field::integer("commits")];
}

/// Lets sixteen writers append and write records for so long, and four readers follow the log with cursors, each on one
/// of the handles (of one process, or of several on one log). Panics when a reader missed anything, or saw it out of
/// order, or when positions are not dense, or versions in their streams.
pub async fn gapless(stores: &[Store], time: Duration) -> Gapless {
    let store = stores.first().expect("a store to write to");
    store.define::<Tally>().await.expect("the collection can be made");
    let (begin, mut writers, mut readers) = (store.head(), JoinSet::new(), JoinSet::new());
    let (stop, stopped) = tokio::sync::watch::channel(false);
    for (n, of) in (0..WRITERS).zip(stores.iter().cycle()) {
        let (store, stopped) = (of.clone(), stopped.clone());
        writers.spawn(async move { write(&store, n, || *stopped.borrow()).await });
    }
    let (written, all_written) = tokio::sync::watch::channel(false);
    for (page, of) in PAGES.into_iter().zip(stores.iter().rev().cycle()) {
        let (store, mut all_written) = (of.clone(), all_written.clone());
        readers.spawn(async move {
            let until = async move {
                let _ = all_written.wait_for(|written| *written).await;
            };
            let audit = Audit { page, ..Audit::default() };
            audit.follow(&store, begin, until, |_| {}).await.expect("the log can be read")
        });
    }
    tokio::time::sleep(time).await;
    stop.send_replace(true);
    let (mut commits, mut events) = (0, 0);
    while let Some(ended) = writers.join_next().await {
        let own = ended.expect("a writer does not panic");
        (commits, events) = (commits + own.0, events + own.1);
    }
    written.send_replace(true);
    let readers = readers.join_all().await;
    for followed in &readers {
        assert!(followed.report.is_clean(), "{followed}");
        assert_eq!(followed.report.through, Position(begin.0 + events), "a reader sees the end: {followed}");
        assert_eq!(followed.report.events, events, "a reader sees all: {followed}");
    }
    let whole = Audit::default().run(store, |_| {}).await.expect("the log can be read");
    assert!(whole.is_clean(), "{whole}");
    Gapless { commits, events, readers }
}

/// Commits until it is to stop; how many commits and events that were.
async fn write(store: &Store, writer: u64, stop: impl Fn() -> bool) -> (u64, u64) {
    let (mut dice, mut own, mut events, mut commits) = (Dice::new(writer), 0, 0, 0_i64);
    while !stop() {
        // Some are in a hurry, and now and then one brings much.
        let pause = Duration::from_millis(dice.below(2));
        let count = 1 + if dice.percent(1) { dice.below(200) } else { dice.below(4) };
        let mut commit = Commit::new();
        if dice.percent(70) {
            commit = commit.append(stream(writer), Expected::Version(own), batch(count));
            (own, events) = (own + count, events + count);
        }
        if dice.percent(50) || commit.is_empty() {
            commit = commit.append(stream(WRITERS + dice.below(3)), Expected::Any, batch(1));
            events += 1;
        }
        if dice.percent(50) {
            let tally = Tally { writer: writer.cast_signed(), commits };
            commit = commit.put(format!("{writer}-{}", dice.below(20)), &tally);
        }
        store.commit(commit).await.expect("nobody else writes to this stream");
        commits += 1;
        if pause.is_zero() {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(pause).await;
        }
    }
    (commits.unsigned_abs(), events)
}

fn stream(n: u64) -> StreamId {
    StreamId::new("gap", n).expect("a category and a number make a name")
}

fn batch(count: u64) -> impl Iterator<Item = Envelope> {
    (0..count).map(|n| Envelope::raw("gap.filled", format!("{{\"n\":{n}}}")))
}
