//! Which positions belong to a stream, kept so that a commit touches nothing random.
//!
//! The newest events' positions are in memory (the *tail*). When they are many they become a *run*: entries
//! (key of the stream, version, position) in sorted order, cut into blocks of a page each, written at the right
//! edge of a table, with a filter that says which streams it may have. Runs of a level are merged into one of the
//! next level, a slice at a time ([`merge`]). After a crash the tail is read from the log again: it is what lies
//! behind the last run. This is a log-structured merge tree (O'Neil et al., 1996) with tiered merging, of keys
//! that are never changed or deleted.

pub(crate) mod filter;
mod key;
pub(crate) mod merge;
pub(crate) mod run;
mod tail;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::{Connection, Row};

use crate::archive::{Cold, Scan};
use crate::codec::{Seen, WITHOUT_DATA, mismatch, select, signed, whose};
use crate::error::{in_writer, is_damage};
use crate::older::Older;
pub(crate) use key::{Key, KeyMap, Keys};
use run::{Blocks, Builder, Entry, Run};
pub(crate) use tail::Tail;

/// The runs from the oldest to the newest, and the tail behind them.
#[derive(Default)]
pub(crate) struct Index {
    pub(crate) runs: Vec<Arc<Run>>,
    pub(crate) tail: Tail,
    suspect: AtomicBool,
}

/// A stream's last event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) version: u64,
}

/// What a reader needs to find a stream's events; taken at one instant.
pub(crate) struct Lookup {
    key: Key,
    runs: Vec<Arc<Run>>,
    tail: Vec<Entry>,
}

impl Index {
    /// Begins with these runs.
    pub(crate) fn of(runs: Vec<Arc<Run>>) -> Self {
        Self { runs, ..Self::default() }
    }

    /// Somebody met a part of it that is not what was written.
    pub(crate) fn suspect(&self) {
        self.suspect.store(true, Ordering::Relaxed);
    }

    /// Whether somebody did since this was last asked.
    pub(crate) fn take_suspicion(&self) -> bool {
        self.suspect.load(Ordering::Relaxed) && self.suspect.swap(false, Ordering::Relaxed)
    }

    /// The last position that the runs cover.
    pub(crate) fn through(&self) -> u64 {
        self.runs.last().map_or(0, |run| run.through)
    }

    /// The position of the last event that it knows.
    pub(crate) fn head_position(&self) -> u64 {
        self.through() + self.tail.len() as u64
    }

    /// Reads what the log has behind it into the tail, until that has so many events. Whether there may be more.
    pub(crate) fn read_tail(
        &mut self,
        (hot, cold): (&Connection, &Cold),
        keys: &Keys,
        older: Older,
        enough: usize,
    ) -> rusqlite::Result<bool> {
        // The last event that is covered must be there: what the index knows cannot have left the log.
        let covered = self.head_position();
        let which = "WHERE position >= ?1 ORDER BY position LIMIT ?2";
        let sql = select(older.shape(covered.max(1)), WITHOUT_DATA, which);
        let mut select = hot.prepare(&sql)?;
        let from = (signed(covered.max(1)), signed((enough as u64).saturating_add(1)));
        let mut rows = Scan::new(select.query(from)?);
        let mut next = covered.max(1);
        let take = |index: &mut Self, position: u64, row: &Row<'_>| {
            if position > covered {
                let seen = Seen::read(row, older)?;
                index.tail.push(keys.of(seen.header.stream), seen.version, position);
            }
            Ok::<_, rusqlite::Error>(())
        };
        while let Some(row) = rows.at(next)? {
            take(self, next, row).map_err(|error| in_writer(error, || whose(next, row, older)))?;
            next += 1;
        }
        // The log's last event never leaves it.
        if rows.is_over()? && next > covered {
            return Ok(self.tail.len() >= enough);
        }
        let missing = |next| match next == covered {
            true => in_writer(mismatch(), || format!("the event at {covered}, the last of the index,")),
            false => in_writer(mismatch(), || format!("the event at {next}")),
        };
        let archive = cold.archive_of(next)?.ok_or_else(|| missing(next))?;
        let mut select = archive.prepare(&sql)?;
        let mut archived = Scan::new(select.query((signed(next), i64::MAX))?);
        while self.tail.len() < enough && (next <= covered || !rows.is_over()?) {
            if let Some(row) = rows.at(next)? {
                take(self, next, row).map_err(|error| in_writer(error, || whose(next, row, older)))?;
            } else if let Some(row) = archived.at(next)? {
                take(self, next, row).map_err(|error| in_writer(error, || cold.whose(next, row)))?;
            } else {
                return Err(missing(next));
            }
            next += 1;
        }
        Ok(self.tail.len() >= enough)
    }

    /// Makes a run of the tail; inside a transaction of the caller's.
    pub(crate) fn write_tail(&self, connection: &Connection) -> rusqlite::Result<Arc<Run>> {
        let entries = self.tail.sorted();
        let mut builder = Builder::new(entries.len());
        for entry in entries {
            builder.push(connection, &entry.to_bytes())?;
        }
        builder.finish(connection, None, 0, (self.through() + 1, self.head_position()))
    }

    /// The tail has become a run.
    pub(crate) fn sealed(&mut self, run: Arc<Run>) {
        self.runs.push(run);
        self.tail.clear();
    }

    /// A stream's last version. A stream that no run has costs no look at the disk, or nearly never one.
    pub(crate) fn head(&self, connection: &Connection, key: Key) -> rusqlite::Result<Head> {
        if let Some(version) = self.tail.last_version(key) {
            return Ok(Head { version });
        }
        for run in self.runs.iter().rev().filter(|run| run.filter.may_have(key.high())) {
            let last = run.last(&mut Blocks::of(connection)?, key).inspect_err(|error| {
                if is_damage(error) {
                    self.suspect();
                }
            })?;
            // The filter may be wrong.
            if let Some(last) = last {
                return Ok(Head { version: last.version });
            }
        }
        Ok(Head::default())
    }

    /// The last versions of many streams that have nothing in the tail. All filters are asked before any block is read,
    /// so that the processor waits for many of their lines at once, and blocks are read in their order. Of a stream
    /// whose blocks cannot be read nothing is said.
    pub(crate) fn heads(&self, connection: &Connection, mut keys: Vec<Key>) -> Vec<(Key, Head)> {
        keys.sort_unstable();
        keys.dedup();
        let Ok(mut blocks) = Blocks::of(connection) else { return Vec::new() };
        let mut heads = Vec::with_capacity(keys.len());
        for run in self.runs.iter().rev() {
            let (maybe, not) = keys.into_iter().partition(|key| run.filter.may_have(key.high()));
            keys = not;
            let maybe: Vec<Key> = maybe;
            for key in maybe {
                match run.last(&mut blocks, key) {
                    Ok(Some(last)) => heads.push((key, Head { version: last.version })),
                    // The filter was wrong.
                    Ok(None) => keys.push(key),
                    Err(_) => {}
                }
            }
        }
        heads.extend(keys.into_iter().map(|key| (key, Head::default())));
        heads
    }

    /// What is needed to find the events of a stream with versions in `from..to`.
    pub(crate) fn lookup(&self, key: Key, from: u64, to: u64) -> Lookup {
        let tail = self.tail.entries(key, from, to);
        // What begins in the tail, or behind its end, needs no run.
        let covered = self.tail.first_version(key).is_some_and(|first| first <= from);
        let runs =
            self.runs.iter().filter(|run| !covered && run.filter.may_have(key.high())).cloned().collect();
        Lookup { key, runs, tail }
    }
}

impl Lookup {
    /// The positions that versions in `from..to` have, in order.
    pub(crate) fn positions(
        &self,
        connection: &Connection,
        from: u64,
        to: u64,
    ) -> rusqlite::Result<Vec<u64>> {
        let mut positions = Vec::new();
        for run in &self.runs {
            let entries = run.entries(connection, self.key, from, to)?;
            positions.extend(entries.iter().map(|entry| entry.position));
        }
        positions.extend(self.tail.iter().map(|entry| entry.position));
        Ok(positions)
    }
}
