//! What the writer does now and then, when nobody waits for it: checkpoints, runs of the index, their merges.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Writer, execute};
use crate::checkpoint::{passive, restart};
use crate::index::run::Builder;

/// How long the upkeep of the index rests after it failed.
const RESTS: Duration = Duration::from_secs(30);

/// Pages of WAL after which the writer itself moves what is left of it, so that it begins anew: the checkpoints
/// beside it never catch up with a writer that never rests.
const WAL_PAGES: i64 = 16 * 1024;

/// Pages of WAL after which the writer waits a moment for readers that keep it from beginning anew.
const WAL_IS_LONG: i64 = 8 * WAL_PAGES;

impl Writer {
    pub(super) fn after_commits(&mut self) {
        self.checkpointer.notice();
        let pages = self.checkpointer.take_wal_pages();
        let shortened = match pages {
            _ if pages > WAL_IS_LONG => restart(&self.connection),
            _ if pages > WAL_PAGES => passive(&self.connection).map(drop),
            _ => Ok(()),
        };
        if let Err(error) = shortened {
            tracing::warn!(%error, "a checkpoint failed; the next one tries again");
        }
        let tail = self.shared.index.read().expect("no panic holds the index").tail.len();
        if tail >= self.seal_at {
            self.seal(tail);
        }
        if self.upkeep_is_needed() {
            self.keep_up();
        }
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

    pub(super) fn upkeep_is_needed(&self) -> bool {
        self.upkeep_after.is_none_or(|after| after <= Instant::now())
            && self.upkeep.is_needed(&self.shared.index.read().expect("no panic holds the index"))
    }

    /// A slice of the index's upkeep, in a transaction of its own.
    pub(super) fn keep_up(&mut self) {
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
        self.checkpointer.notice();
    }
}
