//! What the writer does now and then: checkpoints, runs of the index, their merges, and what removed collections left.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::{Writer, execute};
use crate::checkpoint::{passive, restart, truncate};
use crate::collection;
use crate::error::is_damage;
use crate::index::Index;
use crate::index::merge::Upkeep;
use crate::schema;

/// How long the upkeep rests after it failed.
const RESTS: Duration = Duration::from_secs(30);

/// How long the WAL is left to grow when a reader keeps it from beginning anew.
const CUT_RESTS: Duration = Duration::from_secs(5);

/// How often a store that closes tries to cut its log; each time it waits for readers for a moment.
const TRIES: u32 = 20;

/// Pages of WAL after which the writer itself moves what is left of it, so that it begins anew: the checkpoints
/// beside it never catch up with a writer that never rests.
const WAL_PAGES: i64 = 16 * 1024;

/// Pages of WAL after which the writer waits a moment for readers that keep it from beginning anew.
const WAL_IS_LONG: i64 = 8 * WAL_PAGES;

/// What the log has behind the index is made into runs at once when it is so many times as long as a run is: loading
/// must not need to write as a rule.
const LOADED: usize = 4;

/// While commits wait, so many slices of the upkeep are done in the time in which a run is filled: a run's events are
/// merged once a level, which takes five slices. More would delay the commits for what can wait.
const SLICES: usize = 16;

/// When there are more runs than this, the upkeep does not wait: each is asked for every stream that is not in mind.
const CROWDED: usize = 32;

pub(super) fn in_transaction<T>(
    connection: &Connection,
    work: impl FnOnce() -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    execute(connection, "BEGIN IMMEDIATE")?;
    let done = work().and_then(|done| execute(connection, "COMMIT").map(|()| done));
    if done.is_err() && !connection.is_autocommit() {
        // Whoever goes on with the connection meets the error again.
        let _ = execute(connection, "ROLLBACK");
    }
    done
}

impl Writer {
    pub(super) fn after_commits(&mut self) {
        self.checkpointer.notice();
        self.shorten_wal();
        self.erase_if_due();
        self.mend_index();
        let tail = self.shared.index.read().expect("no panic holds the index").tail.len();
        if tail >= self.seal_at {
            self.seal(tail);
        }
        if self.is_upkeep_due() {
            self.keep_up();
        }
    }

    /// Whether commits that wait have to wait for a slice of the upkeep.
    fn is_upkeep_due(&self) -> bool {
        self.since_upkeep >= self.run / SLICES
            || self.shared.index.read().expect("no panic holds the index").runs.len() > CROWDED
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
        match self.write_tail() {
            Ok(()) => self.seal_at = self.run,
            Err(error) => {
                tracing::warn!(%error, "a run of the index could not be written; it is tried again later");
                self.start_over();
                self.seal_at = tail + self.run / 10;
            }
        }
    }

    pub(super) fn write_tail(&mut self) -> rusqlite::Result<()> {
        let shared = Arc::clone(&self.shared);
        let run = in_transaction(&self.connection, || {
            shared.index.read().expect("no panic holds the index").write_tail(&self.connection)
        })?;
        shared.index.write().expect("no panic holds the index").sealed(run);
        Ok(())
    }

    /// Leaves all in the store's file. SQLite does so by itself when the last connection closes; somebody who reads beside may
    /// have another one, and a copy of the file alone would lack what is only in the log.
    pub(super) fn finish(&mut self) {
        self.seal_rest();
        let _paused = self.checkpointer.pause();
        // Who is in the middle of a page is waited for.
        let cut = (0..TRIES).map(|_| truncate(&self.connection)).find(|cut| !matches!(cut, Ok(false)));
        match cut.unwrap_or(Ok(false)) {
            Ok(true) => {}
            Ok(false) => {
                tracing::info!("somebody reads what is in the log: it is kept beside the store's file");
            }
            Err(error) => {
                tracing::warn!(%error, "the last checkpoint failed; whoever opens the store next makes it");
            }
        }
    }

    /// Makes a run of what is left of the tail before the store closes: who opens it next need not read it again, and
    /// does not depend on those events being readable.
    fn seal_rest(&mut self) {
        let tail = self.shared.index.read().expect("no panic holds the index").tail.len();
        if tail > 0
            && self.shared.damage().admits_writes().is_ok()
            && let Err(error) = self.write_tail()
        {
            tracing::warn!(%error, "the last run of the index could not be written; whoever opens the store next makes it");
        }
    }

    /// Makes the index anew from the log if a part of it is damaged. Commits wait for it.
    pub(super) fn mend_index(&mut self) {
        if self.shared.index.read().expect("no panic holds the index").take_suspicion() {
            self.mend_suspected();
        }
    }

    #[cold]
    fn mend_suspected(&mut self) {
        let runs = self.shared.index.read().expect("no panic holds the index").runs.clone();
        if runs.iter().all(|run| run.check(&self.connection).is_ok()) {
            return;
        }
        tracing::error!("the index of the streams is damaged; it is made anew from the log");
        let mut index = Index::default();
        let mended = in_transaction(&self.connection, || {
            runs.iter().try_for_each(|run| run.retire(&self.connection))?;
            self.write_runs(&mut index)
        });
        match mended {
            Ok(()) => {
                *self.shared.index.write().expect("no panic holds the index") = index;
                self.upkeep.replaced(runs);
            }
            Err(error) => {
                tracing::error!(%error, "the index cannot be made anew: what depends on it cannot be read or appended to");
                self.start_over();
            }
        }
    }

    /// The index as it is in the file, with what the log has behind it. One that is damaged is made anew.
    pub(super) fn load_index(&self) -> rusqlite::Result<(Upkeep, Index)> {
        let connection = &self.connection;
        let known = self.upkeep.known(&self.shared.index.read().expect("no panic holds the index"));
        match Upkeep::recover(connection, &known) {
            Ok((upkeep, runs)) => {
                let mut index = Index::of(runs);
                if self.read_tail(&mut index, LOADED * self.run)? {
                    in_transaction(connection, || self.write_runs(&mut index))?;
                }
                Ok((upkeep, index))
            }
            Err(error) if is_damage(&error) => {
                tracing::error!(%error, "the index of the streams is damaged; it is made anew from the log");
                let mut index = Index::default();
                let mended = in_transaction(connection, || {
                    schema::forget_index(connection)?;
                    self.write_runs(&mut index)
                });
                mended.map_err(|source| not_mended(&error, source))?;
                Ok((Upkeep::default(), index))
            }
            Err(error) => Err(error),
        }
    }

    fn read_tail(&self, index: &mut Index, enough: usize) -> rusqlite::Result<bool> {
        index.read_tail((&self.connection, &self.cold), &self.shared.keys, self.shared.older, enough)
    }

    /// Makes runs of what the log has behind the index, until less than a run is left.
    fn write_runs(&self, index: &mut Index) -> rusqlite::Result<()> {
        while self.read_tail(index, self.run)? {
            let run = index.write_tail(&self.connection)?;
            index.sealed(run);
        }
        // Only what runs cover may be archived: whoever opens the store next need not read the rest from there.
        if self.shared.archive.is_made() && index.tail.len() > 0 {
            let run = index.write_tail(&self.connection)?;
            index.sealed(run);
        }
        Ok(())
    }

    /// A slice of what is to be tidied up, if there is anything.
    pub(super) fn keep_up(&mut self) -> bool {
        self.since_upkeep = 0;
        if self.upkeep_after.is_some_and(|after| Instant::now() < after)
            || self.shared.damage().admits_writes().is_err()
        {
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
                if is_damage(&error) {
                    self.mend_suspected();
                }
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

/// The index is damaged, and something else is needed to make it anew: the archive, if events left.
#[derive(Debug, thiserror::Error)]
#[error("the index of the streams is damaged ({index}), and cannot be made anew from the log")]
struct NotMended {
    index: String,
    source: rusqlite::Error,
}

/// Both causes, where the second would not tell of the first. What SQLite has a code for stays what it is.
fn not_mended(index: &rusqlite::Error, source: rusqlite::Error) -> rusqlite::Error {
    if is_damage(&source) || source.sqlite_error_code().is_some() {
        return source;
    }
    let index = index.to_string();
    rusqlite::Error::ToSqlConversionFailure(Box::new(NotMended { index, source }))
}
