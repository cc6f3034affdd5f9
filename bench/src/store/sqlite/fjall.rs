//! The same job on fjall, an LSM tree: one thread that writes, a sync for each group of commits.
//!
//! Events by position, and a key of stream and version for each; the heads of the streams are kept in memory, as our
//! own writer keeps them. There are no metadata, no records, no wake-up of readers.

use std::collections::HashMap;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use purlin::message::new_id;
use purlin_bench::append::{BEFORE, Dice, KIND, STREAMS, key, payload};
use purlin_bench::{Calls, Tally};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

use crate::store::order::OrderEvent;
use crate::store::versions::Versions;

/// Commits that a group takes at most.
const GROUP: usize = 1024;

/// A store on fjall with as many events in it as ours.
pub(crate) struct Fjall {
    queue: mpsc::Sender<Append>,
    events: Keyspace,
    versions: Versions,
    writer: Option<JoinHandle<Result<()>>>,
}

/// Events for the end of a stream, and whom to answer: whether they are in.
struct Append {
    stream: String,
    expected: u64,
    events: Vec<String>,
    answer: oneshot::Sender<bool>,
}

struct Writer {
    database: Database,
    events: Keyspace,
    index: Keyspace,
    heads: HashMap<String, u64>,
    position: u64,
}

impl Fjall {
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let database = Database::builder(folder.join("fjall")).open()?;
        let events = database.keyspace("events", KeyspaceCreateOptions::default)?;
        let index = database.keyspace("index", KeyspaceCreateOptions::default)?;
        let mut writer =
            Writer { database, events: events.clone(), index, heads: HashMap::new(), position: 0 };
        for first in (0..BEFORE).step_by(GROUP) {
            let append = |n| {
                let (answer, _) = oneshot::channel();
                Append {
                    stream: stream(n % STREAMS),
                    expected: n / STREAMS,
                    events: vec![payload(n)],
                    answer,
                }
            };
            writer.commit((first..BEFORE.min(first + GROUP as u64)).map(append).collect())?;
        }
        let (queue, waiting) = mpsc::channel(16 * 1024);
        let writer = Some(std::thread::spawn(move || writer.serve(waiting)));
        Ok(Self { queue, events, versions: Versions::new(), writer })
    }

    /// Commits of so many callers, each on streams of its own.
    pub(crate) fn run(
        &self,
        runtime: &Runtime,
        callers: usize,
        events: usize,
        time: Duration,
    ) -> Result<Calls> {
        let caller = |caller: usize, mut tally: Tally| {
            let (queue, versions, mut dice) = (self.queue.clone(), self.versions.clone(), Dice::new(caller));
            async move {
                while tally.goes_on() {
                    let n = dice.own(caller, callers, STREAMS);
                    let expected = versions.claim(n, events);
                    let (answer, answered) = oneshot::channel();
                    let events = (0..events).map(|_| payload(n)).collect();
                    let append = Append { stream: stream(n), expected, events, answer };
                    let done = tally.time(async {
                        queue.send(append).await.ok();
                        answered.await
                    });
                    if !done.await.context("the writer is gone")? {
                        bail!("a conflict, where nobody else writes the stream");
                    }
                }
                Ok(tally)
            }
        };
        Calls::made(runtime, callers, time, caller)
    }

    /// Reads and decodes every event in the order of positions; how many.
    pub(crate) fn replay(&self) -> Result<usize> {
        let mut count = 0;
        for entry in self.events.iter() {
            let value = entry.value()?;
            let data = value.get(usize::from(value[0]) + 33..).context("a value that is too short")?;
            std::hint::black_box(OrderEvent::read(KIND, data)?);
            count += 1;
        }
        Ok(count)
    }
}

impl Drop for Fjall {
    fn drop(&mut self) {
        // The writer ends with the last sender.
        self.queue = mpsc::channel(1).0;
        if let Some(Ok(Err(error))) = self.writer.take().map(JoinHandle::join) {
            eprintln!("the writer on fjall ended: {error:#}");
        }
    }
}

impl Writer {
    fn serve(mut self, mut waiting: mpsc::Receiver<Append>) -> Result<()> {
        let mut group = Vec::new();
        while waiting.blocking_recv_many(&mut group, GROUP) > 0 {
            self.commit(std::mem::take(&mut group))?;
        }
        Ok(())
    }

    fn commit(&mut self, group: Vec<Append>) -> Result<()> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        let mut answers = Vec::with_capacity(group.len());
        for Append { stream, expected, events, answer } in group {
            let head = match self.heads.get(&stream) {
                Some(head) => *head,
                None => self.head(&stream)?,
            };
            answers.push((answer, head == expected));
            if head != expected {
                continue;
            }
            let last = head + events.len() as u64;
            for (version, data) in (head + 1..).zip(&events) {
                self.position += 1;
                let position = self.position.to_be_bytes();
                batch.insert(&self.events, position, value(&stream, version, data));
                batch.insert(&self.index, index_key(&stream, version), position);
            }
            self.heads.insert(stream, last);
        }
        batch.commit()?;
        for (answer, stands) in answers {
            let _ = answer.send(stands);
        }
        Ok(())
    }

    /// The last version of a stream that is not in memory.
    fn head(&self, stream: &str) -> Result<u64> {
        let Some(last) = self.index.prefix(&index_key(stream, 0)[..stream.len() + 1]).next_back() else {
            return Ok(0);
        };
        let key = last.key()?;
        Ok(u64::from_be_bytes(key[stream.len() + 1..].try_into().context("a key of the index")?))
    }
}

fn index_key(stream: &str, version: u64) -> Vec<u8> {
    [stream.as_bytes(), b"\0", &version.to_be_bytes()].concat()
}

/// The length of the two names, the stream, the kind, version, id, time; then the data.
fn value(stream: &str, version: u64, data: &str) -> Vec<u8> {
    let before = u8::try_from(stream.len() + KIND.len()).expect("both are short");
    let version = version.to_le_bytes();
    let at = (1_i64 << 50).to_le_bytes();
    [&[before], stream.as_bytes(), KIND.as_bytes(), &version, new_id().as_bytes(), &at, data.as_bytes()]
        .concat()
}

/// A stream by its number.
fn stream(n: u64) -> String {
    format!("order-{}", key(n))
}
