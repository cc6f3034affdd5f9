//! Moves what is in the WAL into the file, beside the writer.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::schema;
use crate::synchronous::Synchronous;

/// How long commits gather before they are moved.
const PAUSE: Duration = Duration::from_millis(100);

/// The thread; it ends, after a last checkpoint, when this is dropped.
pub(crate) struct Checkpointer {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    dirty: AtomicBool,
    stopping: AtomicBool,
    wal_pages: AtomicI64,
    /// Held while a checkpoint runs: SQLite refuses a second one at the same time without waiting for the first.
    running: Mutex<()>,
}

impl Checkpointer {
    pub(crate) fn start(file: &Path, synchronous: Synchronous) -> rusqlite::Result<Self> {
        let connection = schema::open_checkpointer(file, synchronous)?;
        let state = Arc::new(State::default());
        let seen = Arc::clone(&state);
        let thread = std::thread::Builder::new()
            .name("sqlite-checkpoint".into())
            .spawn(move || seen.serve(&connection))
            .expect("a thread can be started");
        Ok(Self { state, thread: Some(thread) })
    }

    /// There is something in the WAL. Costs a call of the system only when there was nothing before.
    pub(crate) fn notice(&self) {
        if !self.state.dirty.swap(true, Ordering::AcqRel) {
            self.wake();
        }
    }

    /// The WAL's length in pages when it was last looked at; asked again before the next look, 0.
    pub(crate) fn take_wal_pages(&self) -> i64 {
        self.state.wal_pages.swap(0, Ordering::Relaxed)
    }

    /// Keeps the thread from a checkpoint, once it has finished the one that it is at.
    pub(crate) fn pause(&self) -> MutexGuard<'_, ()> {
        self.state.pause()
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.state.stopping.store(true, Ordering::Release);
        self.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl State {
    fn pause(&self) -> MutexGuard<'_, ()> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, connection: &Connection) {
        let stopping = || self.stopping.load(Ordering::Acquire);
        loop {
            while !self.dirty.load(Ordering::Acquire) && !stopping() {
                std::thread::park();
            }
            if !self.dirty.load(Ordering::Acquire) {
                return;
            }
            let until = Instant::now() + PAUSE;
            while Instant::now() < until && !stopping() {
                std::thread::park_timeout(until.saturating_duration_since(Instant::now()));
            }
            self.dirty.store(false, Ordering::Release);
            let _running = self.pause();
            match passive(connection) {
                Ok(pages) => self.wal_pages.store(pages, Ordering::Relaxed),
                Err(error) => tracing::warn!(%error, "a checkpoint failed; the next one tries again"),
            }
        }
    }
}

/// Moves all of the WAL that no reader needs; returns the WAL's length in pages.
pub(crate) fn passive(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))
}

/// Moves all of the WAL, and waits a moment for readers of its beginning, so that the next commit begins it anew.
/// Whether it will.
pub(crate) fn restart(connection: &Connection) -> rusqlite::Result<bool> {
    patiently(connection, "PRAGMA wal_checkpoint(RESTART)")
}

/// As [`restart`], and cuts the file to nothing, so that none of what was in it can be found there.
pub(crate) fn truncate(connection: &Connection) -> rusqlite::Result<bool> {
    patiently(connection, "PRAGMA wal_checkpoint(TRUNCATE)")
}

fn patiently(connection: &Connection, checkpoint: &str) -> rusqlite::Result<bool> {
    const PATIENCE: Duration = Duration::from_millis(50);
    connection.busy_timeout(PATIENCE)?;
    let done = connection.query_row(checkpoint, [], |row| Ok(row.get::<_, i64>(0)? == 0));
    connection.busy_timeout(schema::BUSY)?;
    done
}
