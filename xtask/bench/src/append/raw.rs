//! The same rows through plain rusqlite.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use rusqlite::Connection;

use super::{BEFORE, KIND, Kind, STREAMS, key, payload};

/// What a commit touches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Layout {
    /// Rows by position only: the least that a commit can touch.
    RightEdge,
    /// What an event store on SQLite usually has: a unique index on stream and version.
    Usual,
}

/// A file of SQLite with such rows in it.
pub struct Raw {
    connection: Connection,
    kind: Kind,
    position: i64,
    stop: Arc<AtomicBool>,
    checkpoints: Option<JoinHandle<()>>,
}

impl Raw {
    /// A new file with as many rows as a store has events before it is measured.
    pub fn open(folder: &Path, kind: Kind, layout: Layout) -> Result<Self> {
        let file = folder.join(format!("raw-{layout:?}.db"));
        let connection = Connection::open(&file)?;
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;
                 PRAGMA cache_size = -32768;
                 CREATE TABLE event(position INTEGER PRIMARY KEY, stream TEXT NOT NULL, version INTEGER NOT NULL,
                    kind TEXT NOT NULL, id BLOB NOT NULL, at INTEGER NOT NULL, schema INTEGER NOT NULL,
                    public INTEGER NOT NULL, meta BLOB, data TEXT NOT NULL);
                 CREATE TABLE mark(key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
                 CREATE TABLE reply(position INTEGER PRIMARY KEY, key TEXT, due INTEGER, value TEXT);
                 CREATE TABLE view(position INTEGER PRIMARY KEY, key TEXT, status TEXT, value TEXT);",
            )?;
        if layout == Layout::Usual {
            connection.execute_batch("CREATE UNIQUE INDEX stream_version ON event(stream, version)")?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let checkpoints = Some(checkpoints(&file, Arc::clone(&stop))?);
        let mut raw = Self { connection, kind, position: 0, stop, checkpoints };
        for _ in 0..BEFORE / 1000 {
            raw.batch(1000)?;
        }
        Ok(raw)
    }

    /// Rows a second, when a transaction takes `batch` of them.
    pub fn run(&mut self, time: Duration, batch: f64) -> Result<f64> {
        let batch = batch.round().max(1.0) as u64;
        let (start, mut done) = (Instant::now(), 0);
        while start.elapsed() < time {
            self.batch(batch)?;
            done += batch;
        }
        Ok(done as f64 / start.elapsed().as_secs_f64())
    }

    fn batch(&mut self, len: u64) -> Result<()> {
        let transaction = self.connection.transaction()?;
        let insert = "INSERT INTO event VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
        {
            let mut insert = transaction.prepare_cached(insert)?;
            let mut mark = transaction.prepare_cached("INSERT OR REPLACE INTO mark VALUES(?1, ?2)")?;
            let mut reply = transaction.prepare_cached("INSERT INTO reply VALUES(?1, ?2, ?3, ?4)")?;
            let mut view = transaction.prepare_cached("INSERT INTO view VALUES(?1, ?2, ?3, ?4)")?;
            for n in 0..len {
                self.position += 1;
                let number = self.position.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15) % STREAMS;
                let id = purlin::message::new_id();
                let (none, zero) = (None::<Vec<u8>>, 0);
                let row = rusqlite::params![
                    self.position,
                    format!("order-{}", key(number)),
                    // Greater than any before it in its stream, which is all that an index sees of it.
                    self.position,
                    KIND,
                    id.as_bytes().as_slice(),
                    1_i64 << 50,
                    1,
                    zero,
                    none,
                    payload(number)
                ];
                insert.execute(row)?;
                if self.kind == Kind::Handling {
                    mark.execute((format!("group/{n}"), "{\"position\":1}"))?;
                    let key = format!("{:016x}", self.position);
                    reply.execute((self.position, &key, i64::MAX, payload(n)))?;
                    let row = "{\"status\":\"submitted\",\"total\":1299}";
                    view.execute((self.position, &key, "submitted", row))?;
                }
            }
        }
        Ok(transaction.commit()?)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.checkpoints.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// Checkpoints on a second connection every 100 ms.
fn checkpoints(file: &Path, stop: Arc<AtomicBool>) -> Result<JoinHandle<()>> {
    let connection = Connection::open(file)?;
    Ok(std::thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            std::thread::park_timeout(Duration::from_millis(100));
            let _ = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        }
    }))
}
