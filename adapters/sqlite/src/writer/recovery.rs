//! What the writer does when a transaction failed: it finds out what is true before it says so.

use std::time::Duration;

use tokio::sync::mpsc::error::TryRecvError;

use super::batch::Trace;
use super::{Closing, Job, Outcome, Writer, execute};
use crate::error::{Unwell, unavailable};
use crate::schema::{self, SchemaError};

/// How long a store that cannot be read or written is left alone before it is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// A transaction that did not happen, or of which it is not known.
pub(super) enum Failed {
    RolledBack(rusqlite::Error),
    Unknown(Box<Unknown>),
}

/// A transaction whose COMMIT failed: what is true if it happened all the same.
pub(super) struct Unknown {
    pub(super) trace: Option<Trace>,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) error: rusqlite::Error,
}

impl Writer {
    /// After a transaction that was rolled back: what is in memory may speak of it.
    #[cold]
    pub(super) fn start_over(&mut self) {
        let rolled_back =
            if self.connection.is_autocommit() { Ok(()) } else { execute(&self.connection, "ROLLBACK") };
        if let Err(error) = rolled_back.and_then(|()| self.load()) {
            tracing::error!(%error, "the store cannot be read after a failed transaction; it is opened again");
            while let Err(error) = self.reopen() {
                tracing::error!(%error, "the store cannot be opened again; it is tried again");
                self.rest();
            }
        }
    }

    /// After a failed COMMIT: whether it happened all the same is read from the file.
    ///
    /// What was read is made true for ever by a transaction of its own: frames that a failed sync left in the WAL
    /// would else be found, and believed, after the next crash. Until that works, those who wait for this COMMIT go
    /// on waiting, because nothing could be said truthfully to them; whoever comes later is refused.
    #[cold]
    pub(super) fn settle(&mut self, trace: Option<&Trace>, error: &rusqlite::Error) -> bool {
        tracing::error!(%error, "a COMMIT failed; the store is opened again to see whether it happened");
        loop {
            match self.reopen().and_then(|()| self.see(trace)) {
                Ok(happened) => return happened,
                Err(error) => tracing::error!(%error, "it cannot be seen yet; it is tried again"),
            }
            self.rest();
        }
    }

    fn see(&self, trace: Option<&Trace>) -> Result<bool, SchemaError> {
        execute(&self.connection, "BEGIN IMMEDIATE")?;
        let happened = trace.map_or(Ok(true), |trace| trace.is_in(&self.connection))?;
        schema::count_settled(&self.connection)?;
        execute(&self.connection, "COMMIT")?;
        Ok(happened)
    }

    fn reopen(&mut self) -> Result<(), SchemaError> {
        self.connection = schema::open_writer(&self.shared.file, self.synchronous)?;
        Ok(self.load()?)
    }

    /// Waits a moment, and refuses what was queued meanwhile: none of it was begun, so that nothing of it happened.
    fn rest(&mut self) {
        std::thread::park_timeout(RETRY);
        loop {
            match self.queue.try_recv() {
                Ok(Job::Commit(queued)) => {
                    self.shared.took(queued.ready.bytes);
                    queued.tell(Err(unavailable(Unwell)));
                }
                Ok(
                    Job::Define(_, answer)
                    | Job::Swap(_, answer)
                    | Job::Drop(_, answer)
                    | Job::Forget(_, answer),
                ) => {
                    let _ = answer.send(Err(unavailable(Unwell)));
                }
                Ok(Job::Close(answer)) => {
                    self.queue.close();
                    let _ = answer.send(Closing::Unwell);
                }
                Ok(Job::Mend) => {}
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
    }
}

/// Whether every commit would meet the same error.
pub(super) fn concerns_all(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{
        DatabaseBusy, DatabaseCorrupt, DatabaseLocked, DiskFull, OutOfMemory, ReadOnly, SystemIoFailure,
    };
    error.sqlite_error_code().is_some_and(|code| {
        matches!(
            code,
            DatabaseBusy
                | DatabaseCorrupt
                | DatabaseLocked
                | DiskFull
                | OutOfMemory
                | ReadOnly
                | SystemIoFailure
        )
    })
}
