//! What the writer does when a transaction failed: it finds out what is true before it says so.

use std::time::Duration;

use super::batch::Trace;
use super::{Closing, Job, Writer, execute};
use crate::error::{Unwell, unavailable};
use crate::schema::{self, SchemaError};

/// How long a store that cannot be read or written is left alone before it is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// A transaction that did not happen, or of which it is not known.
pub(super) enum Failed<T> {
    RolledBack(rusqlite::Error),
    Unknown(Box<Unknown<T>>),
}

/// A transaction whose COMMIT failed: what is true if it happened all the same.
pub(super) struct Unknown<T> {
    pub(super) trace: Option<Trace>,
    pub(super) outcome: T,
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

    /// After a failed COMMIT: whether it happened all the same is read from the file. Its outcome if it did, and else the
    /// error.
    ///
    /// What was read is made true for ever by a transaction of its own: frames that a failed sync left in the WAL
    /// would else be found, and believed, after the next crash. Until that works, those who wait for this COMMIT go
    /// on waiting, because nothing could be said truthfully to them; whoever comes later is refused, and is
    /// shown neither other collections nor another end of the log before it is known.
    #[cold]
    pub(super) fn settle<T>(&mut self, Unknown { trace, outcome, error }: Unknown<T>) -> rusqlite::Result<T> {
        tracing::error!(%error, "a COMMIT failed; the store is opened again to see whether it happened");
        loop {
            match self.find_out(trace.as_ref()) {
                Ok(happened) => return if happened { Ok(outcome) } else { Err(error) },
                Err(error) => tracing::error!(%error, "it cannot be seen yet; it is tried again"),
            }
            self.rest();
        }
    }

    fn find_out(&mut self, trace: Option<&Trace>) -> Result<bool, SchemaError> {
        self.connection = schema::open_writer(&self.shared.file, self.synchronous)?;
        let happened = self.see(trace)?;
        self.load()?;
        Ok(happened)
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

    /// Waits a moment, and refuses what waits by then: none of it was begun, so that nothing of it happened.
    fn rest(&mut self) {
        std::thread::park_timeout(RETRY);
        while let Some(job) = self.taken.pop_front().or_else(|| self.queue.try_recv().ok()) {
            match job {
                Job::Commit(queued) => {
                    self.shared.took(queued.ready.bytes);
                    queued.tell(Err(unavailable(Unwell)));
                }
                Job::Forget(_, answer) => {
                    let _ = answer.send(Err(unavailable(Unwell)));
                }
                Job::Close(answer) => {
                    self.queue.close();
                    let _ = answer.send(Closing::Unwell);
                }
                Job::Mend => {}
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
