//! Moves what is in the WAL into the file, beside the writer.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::schema;

/// How long commits gather before they are moved.
const PAUSE: Duration = Duration::from_millis(100);

/// The thread; it ends, after a last checkpoint, when this is dropped.
pub(crate) struct Checkpointer {
    wal_pages: Arc<AtomicI64>,
    dirty: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    pub(crate) fn start(file: &Path) -> rusqlite::Result<Self> {
        let connection = schema::open_checkpointer(file)?;
        let (dirty, wait) = sync_channel(1);
        let wal_pages = Arc::new(AtomicI64::new(0));
        let seen = Arc::clone(&wal_pages);
        let thread = std::thread::Builder::new()
            .name("sqlite-checkpoint".into())
            .spawn(move || serve(&connection, &wait, &seen))
            .expect("a thread can be started");
        Ok(Self { wal_pages, dirty: Some(dirty), thread: Some(thread) })
    }

    /// There is something in the WAL. Never waits.
    pub(crate) fn notice(&self) {
        if let Some(dirty) = &self.dirty {
            let _ = dirty.try_send(());
        }
    }

    /// The WAL's length in pages when it was last looked at; asked again before the next look, 0.
    pub(crate) fn take_wal_pages(&self) -> i64 {
        self.wal_pages.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        drop(self.dirty.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(connection: &Connection, dirty: &Receiver<()>, wal_pages: &AtomicI64) {
    let mut open = true;
    while open && dirty.recv().is_ok() {
        open = pause(dirty);
        match passive(connection) {
            Ok(pages) => wal_pages.store(pages, Ordering::Relaxed),
            Err(error) => tracing::warn!(%error, "a checkpoint failed; the next one tries again"),
        }
    }
}

/// Waits for the whole pause, or until there is nobody left to wait for (then false).
fn pause(dirty: &Receiver<()>) -> bool {
    let until = Instant::now() + PAUSE;
    loop {
        match dirty.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}

/// Moves all of the WAL that no reader needs; returns the WAL's length in pages.
pub(crate) fn passive(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))
}
