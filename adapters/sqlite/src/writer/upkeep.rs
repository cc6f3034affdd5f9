//! What the writer does now and then: checkpoints, runs of the index, their merges, and what removed collections left.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Writer, execute};
use crate::checkpoint::{passive, restart};
use crate::collection;
use crate::index::run::Builder;

/// How long the upkeep rests after it failed.
const RESTS: Duration = Duration::from_secs(30);

/// How long the WAL is left to grow when a reader keeps it from beginning anew.
const CUT_RESTS: Duration = Duration::from_secs(5);

/// Pages of WAL after which the writer itself moves what is left of it, so that it begins anew: the checkpoints
/// beside it never catch up with a writer that never rests.
const WAL_PAGES: i64 = 16 * 1024;

/// Pages of WAL after which the writer waits a moment for readers that keep it from beginning anew.
const WAL_IS_LONG: i64 = 8 * WAL_PAGES;

impl Writer {
    pub(super) fn after_commits(&mut self) {
        self.checkpointer.notice();
        self.shorten_wal();
        self.erase_if_due();
        let tail = self.shared.index.read().expect("no panic holds the index").tail.len();
        if tail >= self.seal_at {
            self.seal(tail);
        }
        self.keep_up();
    }

    /// Lets the next commit begin the WAL anew, if it is long.
    fn shorten_wal(&mut self) {
        let pages = self.checkpointer.take_wal_pages();
        let now = Instant::now();
        if pages <= WAL_PAGES || self.cut_after.is_some_and(|after| now < after) {
            return;
        }
        let shortened = match pages > WAL_IS_LONG {
            true => restart(&self.connection),
            false => passive(&self.connection).map(|_| true),
        };
        let done = shortened.unwrap_or_else(|error| {
            tracing::warn!(%error, "a checkpoint failed; a later one tries again");
            false
        });
        self.cut_after = (!done).then_some(now + CUT_RESTS);
    }

    /// Makes a run of the tail.
    fn seal(&mut self, tail: usize) {
        let shared = Arc::clone(&self.shared);
        let connection = &self.connection;
        let sealed = (|| {
            let entries = shared.index.read().expect("no panic holds the index").tail.sorted();
            execute(connection, "BEGIN IMMEDIATE")?;
            let mut builder = Builder::new(entries.len());
            for entry in entries {
                builder.push(connection, entry)?;
            }
            let run = builder.finish(connection, None, 0, self.position)?;
            execute(connection, "COMMIT")?;
            Ok::<_, rusqlite::Error>(run)
        })();
        match sealed {
            Ok(run) => {
                let mut index = shared.index.write().expect("no panic holds the index");
                index.runs.push(run);
                index.tail.clear();
                self.seal_at = self.run;
            }
            Err(error) => {
                tracing::warn!(%error, "a run of the index could not be written; it is tried again later");
                self.start_over();
                self.seal_at = tail + self.run / 10;
            }
        }
    }

    /// A slice of what is to be tidied up, if there is anything.
    pub(super) fn keep_up(&mut self) -> bool {
        if self.upkeep_after.is_some_and(|after| Instant::now() < after) {
            return false;
        }
        if self.upkeep.is_needed(&self.shared.index.read().expect("no panic holds the index")) {
            self.merge();
        } else if self.gone {
            self.shrink_gone();
        } else {
            return false;
        }
        self.checkpointer.notice();
        true
    }

    /// A slice of the index's merges, in a transaction of its own.
    fn merge(&mut self) {
        let shared = Arc::clone(&self.shared);
        let stepped = (|| {
            let index = shared.index.read().expect("no panic holds the index");
            execute(&self.connection, "BEGIN IMMEDIATE")?;
            let merged = self.upkeep.step(&self.connection, &index)?;
            execute(&self.connection, "COMMIT")?;
            Ok::<_, rusqlite::Error>(merged)
        })();
        match stepped {
            Ok(None) => {}
            Ok(Some(merged)) => {
                self.upkeep.apply(merged, &mut shared.index.write().expect("no panic holds the index"));
            }
            Err(error) => {
                tracing::warn!(%error, "the index could not be merged; it is tried again later");
                self.start_over();
                self.upkeep_after = Some(Instant::now() + RESTS);
            }
        }
    }

    /// A slice of what collections leave that were removed.
    fn shrink_gone(&mut self) {
        let shrunk = (|| {
            execute(&self.connection, "BEGIN IMMEDIATE")?;
            let more = collection::shrink_gone(&self.connection)?;
            execute(&self.connection, "COMMIT")?;
            Ok::<_, rusqlite::Error>(more)
        })();
        self.gone = shrunk.unwrap_or_else(|error| {
            tracing::warn!(%error, "what a removed collection left could not be cleared; it is tried again later");
            self.start_over();
            self.upkeep_after = Some(Instant::now() + RESTS);
            true
        });
    }
}
