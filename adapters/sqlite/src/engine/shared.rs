//! What the writer, the readers and those who commit share.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, RwLock};

use purlin::store::{LogId, Position, StreamId};
use rusqlite::Connection;
use tokio::sync::watch;

use crate::archive::Archive;
use crate::collection::Table;
use crate::damage::Damage;
use crate::index::{Index, Keys};
use crate::older::Older;

/// What the writer, the readers and those who commit know of each other.
pub(crate) struct Shared {
    pub(crate) id: LogId,
    pub(crate) older: Older,
    pub(crate) keys: Keys,
    pub(crate) file: PathBuf,
    pub(crate) archive: Arc<Archive>,
    pub(crate) index: RwLock<Index>,
    pub(crate) tables: RwLock<HashMap<String, Arc<Table>>>,
    pub(crate) head: watch::Sender<Position>,
    pub(super) damage: OnceLock<Damage>,
    /// Bytes of the commits that wait.
    pub(super) queued: AtomicUsize,
    pub(super) queue_bytes: usize,
}

impl Shared {
    /// What was found when the file was opened.
    pub(crate) fn damage(&self) -> &Damage {
        self.damage.get_or_init(Damage::default)
    }

    /// The last version of a stream. What only the runs know is on the disk: nobody waits for that.
    pub(crate) fn last_version(&self, connection: &Connection, stream: &StreamId) -> rusqlite::Result<u64> {
        let index = self.index.read().expect("no panic holds the index");
        let key = self.keys.of(stream.as_str());
        if let Some(version) = index.tail.last_version(key) {
            return Ok(version);
        }
        let runs = Index::of(index.runs.clone());
        drop(index);
        Ok(runs.head(connection, key)?.version)
    }

    /// The collections are these from now on.
    pub(crate) fn replace_tables(&self, tables: Vec<Table>) {
        let named = tables.into_iter().map(|table| (table.definition.name.to_string(), Arc::new(table)));
        *self.tables.write().expect("no panic holds the tables") = named.collect();
    }

    /// Whether so many bytes more may wait; then they count.
    pub(super) fn admits(&self, bytes: usize) -> bool {
        let before = self.queued.fetch_add(bytes, Ordering::Relaxed);
        // One commit may always wait, however large.
        let admitted = before == 0 || before + bytes <= self.queue_bytes;
        if !admitted {
            self.took(bytes);
        }
        admitted
    }

    /// So many bytes more wait, that have found a place otherwise.
    pub(super) fn waits(&self, bytes: usize) {
        self.queued.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many bytes wait no longer.
    pub(crate) fn took(&self, bytes: usize) {
        self.queued.fetch_sub(bytes, Ordering::Relaxed);
    }
}
