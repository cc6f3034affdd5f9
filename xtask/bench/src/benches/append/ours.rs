//! Commits through the store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use purlin::message::Envelope;
use purlin::store::{Commit, Expected, Field, Revision, Row, Store, StreamId};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// What a commit writes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// One event of one of 100,000 streams.
    Spread,
    /// One event of a stream of its own.
    NewStream,
    /// An event, the inbox mark of its consumer, an idempotency reply and a read-model row.
    Handling,
}

/// A kind of commit and how many callers at once.
pub(crate) struct Case {
    pub(crate) kind: Kind,
    pub(crate) callers: usize,
}

impl Case {
    pub(crate) fn name(&self) -> String {
        let kind = match self.kind {
            Kind::Spread => "sqlite commit",
            Kind::NewStream => "sqlite new stream",
            Kind::Handling => "sqlite handling",
        };
        format!("{kind} {}", self.callers)
    }
}

pub(crate) const STREAMS: u64 = 100_000;
const BEFORE: u64 = 300_000;

pub(crate) fn payload(n: u64) -> String {
    format!(
        "{{\"order_id\":\"0190b5f2-7d10-7c3a-9a35-{n:012x}\",\"sku\":\"tea-{n}\",\"quantity\":3,\"price\":{{\"amount\":1299,\"currency\":\"EUR\"}}}}"
    )
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

pub(crate) struct Bench {
    runtime: Runtime,
    store: Store,
    file: PathBuf,
    callers: usize,
    kind: Kind,
    versions: Arc<Vec<AtomicU64>>,
    fresh: Arc<AtomicU64>,
}

impl Bench {
    pub(crate) fn open(folder: &Path, case: &Case) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let file = folder.join("ours.db");
        let store = runtime.block_on(purlin_sqlite::open(&file))?;
        let versions: Arc<Vec<_>> = Arc::new((0..STREAMS).map(|_| AtomicU64::new(0)).collect());
        let fresh = Arc::new(AtomicU64::new(STREAMS));
        let bench = Self { runtime, store, file, callers: case.callers, kind: case.kind, versions, fresh };
        bench.runtime.block_on(bench.fill())?;
        Ok(bench)
    }

    async fn fill(&self) -> Result<()> {
        self.store.define::<Mark>().await?;
        self.store.define::<Reply>().await?;
        self.store.define::<View>().await?;
        for first in (0..BEFORE).step_by(1000) {
            let mut commit = Commit::new();
            for n in first..first + 1000 {
                let key = n % STREAMS;
                let version = self.versions[key as usize].fetch_add(1, Ordering::Relaxed);
                commit = commit.append(stream(key), Expected::Version(version), [event(n)]);
            }
            self.store.commit(commit).await?;
        }
        Ok(())
    }

    /// Commits a second, and events in a transaction.
    pub(crate) fn run(&mut self, time: Duration) -> Result<(f64, f64)> {
        let before = self.store.head().0;
        let stop = Arc::new(AtomicBool::new(false));
        let start = Instant::now();
        let done = self.runtime.block_on(async {
            let mut callers = JoinSet::new();
            for caller in 0..self.callers {
                let (store, stop) = (self.store.clone(), Arc::clone(&stop));
                let (versions, fresh) = (Arc::clone(&self.versions), Arc::clone(&self.fresh));
                callers.spawn(call(
                    caller as u64,
                    self.callers as u64,
                    self.kind,
                    store,
                    stop,
                    versions,
                    fresh,
                ));
            }
            tokio::time::sleep(time).await;
            stop.store(true, Ordering::Relaxed);
            callers.join_all().await.into_iter().sum::<u64>()
        });
        let elapsed = start.elapsed().as_secs_f64();
        Ok((done as f64 / elapsed, done as f64 / self.transactions_since(before)?))
    }

    /// All commits of a transaction bear the same time.
    fn transactions_since(&self, position: u64) -> Result<f64> {
        let file = rusqlite::Connection::open(&self.file)?;
        let count = "SELECT count(DISTINCT at) FROM _event WHERE position > ?1";
        Ok(file.query_row(count, [position.cast_signed()], |row| row.get::<_, i64>(0))? as f64)
    }

    pub(crate) fn close(self) {
        self.runtime.block_on(self.store.close());
    }
}

async fn call(
    caller: u64,
    callers: u64,
    kind: Kind,
    store: Store,
    stop: Arc<AtomicBool>,
    versions: Arc<Vec<AtomicU64>>,
    fresh: Arc<AtomicU64>,
) -> u64 {
    let mut dice = caller.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut done = 0;
    while !stop.load(Ordering::Relaxed) {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        let commit = match kind {
            Kind::NewStream => {
                let key = fresh.fetch_add(1, Ordering::Relaxed);
                Commit::new().append(stream(key), Expected::NoStream, [event(key)])
            }
            Kind::Spread | Kind::Handling => {
                // Each caller has streams of its own, so that nobody loses a race.
                let key = (dice % (STREAMS / callers)) * callers + caller;
                let version = versions[key as usize].fetch_add(1, Ordering::Relaxed);
                Commit::new().append(stream(key), Expected::Version(version), [event(key)])
            }
        };
        let commit = if kind == Kind::Handling { handling(commit, caller, &fresh) } else { commit };
        store.commit(commit).await.expect("nobody else writes this stream");
        done += 1;
    }
    done
}

/// What else a handling writes: its consumer's mark, a reply under a key at random, a row in order of its making.
fn handling(commit: Commit, caller: u64, fresh: &AtomicU64) -> Commit {
    let n = fresh.fetch_add(1, Ordering::Relaxed);
    let random = format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let due = Some(purlin::message::Timestamp::MAX);
    commit
        .put(format!("group/{caller}"), &Mark { position: n })
        .put_expecting(random, &Reply { body: payload(n) }, Revision::Absent, due)
        .put(format!("{n:016x}"), &View { status: "submitted".into(), total: 1299 })
}

fn stream(key: u64) -> StreamId {
    StreamId::new("order", format_args!("0190b5f2-7d10-7c3a-9a35-{key:012x}")).expect("a name")
}

fn event(n: u64) -> Envelope {
    Envelope::raw("order.item-added", payload(n))
}
