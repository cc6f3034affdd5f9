//! What the parts of an open store know of each other.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};

use purlin::message::Uuid;
use purlin::store::{LogId, Position};
use tokio::sync::{Notify, watch};

use crate::ahead::Ahead;
use crate::collection::Table;
use crate::names::Schema;

/// What the writer, the readers and those who commit know of each other.
pub(crate) struct Shared {
    pub(crate) id: LogId,
    pub(crate) schema: Schema,
    /// This opening of the store.
    pub(crate) writer: Uuid,
    pub(crate) head: watch::Sender<Position>,
    /// One connection was made again: the server is back, and the others need not wait any longer.
    pub(crate) back: Notify,
    /// What was asked for before it is wanted.
    pub(crate) ahead: Ahead,
    /// A connection was made since the collections were read.
    renewed: AtomicBool,
    /// The last revision of which those who watch were told.
    revision: AtomicU64,
    tables: RwLock<Arc<Tables>>,
    /// Commits that wait, and their bytes.
    waiting: AtomicUsize,
    bytes: AtomicUsize,
    limits: (usize, usize),
}

/// The collections, as they were at one change of them.
#[derive(Default)]
pub(crate) struct Tables {
    /// Counts the changes.
    pub(crate) generation: i64,
    pub(crate) named: HashMap<String, Arc<Table>>,
}

impl Shared {
    pub(crate) fn new(id: LogId, schema: Schema, writer: Uuid, limits: (usize, usize)) -> Self {
        let (head, _) = watch::channel(Position::START);
        Self {
            id,
            schema,
            writer,
            head,
            back: Notify::new(),
            ahead: Ahead::default(),
            renewed: AtomicBool::new(false),
            revision: AtomicU64::new(0),
            tables: RwLock::default(),
            waiting: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            limits,
        }
    }

    /// Whether a commit of so many bytes may wait; then it counts.
    pub(crate) fn admits(&self, bytes: usize) -> bool {
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        // One commit may always wait, however large.
        let admitted = waiting == 0 || (waiting < self.limits.0 && before + bytes <= self.limits.1);
        if !admitted {
            self.took(bytes);
        }
        admitted
    }

    /// A commit waits no longer.
    pub(crate) fn took(&self, bytes: usize) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// A commit waits that is not refused for it: because it was taken and waits again, or has found a place otherwise.
    pub(crate) fn waits(&self, bytes: usize) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A commit happened: whoever watches is told, also when it appended nothing.
    pub(crate) fn committed(&self, position: u64, revision: u64) {
        self.revision.fetch_max(revision, Ordering::Relaxed);
        self.head.send_modify(|head| *head = (*head).max(Position(position)));
    }

    /// The log was seen to go so far, whoever appended.
    pub(crate) fn saw(&self, position: Position) {
        self.head.send_if_modified(|head| {
            let further = position > *head;
            *head = (*head).max(position);
            further
        });
    }

    /// The last position and revision were seen; when they are news, another process committed.
    pub(crate) fn saw_both(&self, position: u64, revision: u64) {
        if self.revision.fetch_max(revision, Ordering::Relaxed) < revision {
            self.committed(position, revision);
        } else {
            self.saw(Position(position));
        }
    }

    /// What is notified after a commit.
    pub(crate) fn notice(&self) -> String {
        let (position, revision) = (self.head.borrow().0, self.revision.load(Ordering::Relaxed));
        format!("{} {position} {revision}", self.writer.simple())
    }

    /// Another process, or this one, notified of a commit. It is only a hint: what does not fit is let go.
    pub(crate) fn heard(&self, notice: &str) {
        let mut parts = notice.split(' ');
        let own = parts.next() == Some(self.writer.simple().to_string().as_str());
        let mut number = || parts.next().and_then(|number| number.parse().ok());
        if let (false, Some(position), Some(revision)) = (own, number(), number()) {
            self.saw_both(position, revision);
        }
    }

    /// The channel on which commits are notified.
    pub(crate) fn channel(&self) -> String {
        format!("purlin_{}", self.id.log.simple())
    }

    /// The collections as they are known here.
    pub(crate) fn tables(&self) -> Arc<Tables> {
        Arc::clone(&self.tables.read().expect("no panic holds the tables"))
    }

    /// The collections were read by whoever writes: so they are, also when the server is another one, which has not all
    /// that the one before had.
    pub(crate) fn replace_tables(&self, tables: Tables) {
        *self.tables.write().expect("no panic holds the tables") = Arc::new(tables);
    }

    /// A connection was made: the server may be another one, which has not all that the one before had.
    pub(crate) fn connected(&self) {
        self.ahead.clear();
        self.renewed.store(true, Ordering::Relaxed);
        self.back.notify_waiters();
    }

    /// The collections were read; what is older than what is known is let go, unless another server may have told it.
    pub(crate) fn set_tables(&self, tables: Tables) {
        let mut known = self.tables.write().expect("no panic holds the tables");
        if self.renewed.swap(false, Ordering::Relaxed) || tables.generation >= known.generation {
            *known = Arc::new(tables);
        }
    }
}
