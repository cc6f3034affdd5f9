//! Which positions belong to a stream, kept so that a commit touches nothing random.
//!
//! The newest events' positions are in memory (the *tail*). When they are many they become a *run*: entries
//! (place of the stream, version, position) in sorted order, cut into blocks of a page each, written at the right
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

use purlin::store::StreamId;
use rusqlite::Connection;

use crate::codec::signed;
pub(crate) use key::{Key, KeyMap, Keys};
use run::{Entry, Run};
pub(crate) use tail::Tail;

/// The runs from the oldest to the newest, and the tail behind them.
#[derive(Default)]
pub(crate) struct Index {
    pub(crate) runs: Vec<Arc<Run>>,
    pub(crate) tail: Tail,
}

/// A stream's last event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) version: u64,
}

/// What a reader needs to find a stream's events; taken at one instant.
pub(crate) struct Lookup {
    place: u64,
    runs: Vec<Arc<Run>>,
    tail: Vec<Entry>,
}

impl Index {
    /// A stream's last version.
    pub(crate) fn head(
        &self,
        connection: &Connection,
        stream: &StreamId,
        key: Key,
    ) -> rusqlite::Result<Head> {
        if let Some(version) = self.tail.last_version(key) {
            return Ok(Head { version });
        }
        for run in self.runs.iter().rev().filter(|run| run.filter.may_have(key.place)) {
            if let Some(last) = run.last(connection, key.place)?
                && belongs(connection, last.position, stream)?
            {
                return Ok(Head { version: last.version });
            }
            // Another stream has the same place, or the filter was wrong.
            for entry in run.entries(connection, key.place, 0, u64::MAX)?.iter().rev() {
                if belongs(connection, entry.position, stream)? {
                    return Ok(Head { version: entry.version });
                }
            }
        }
        Ok(Head::default())
    }

    /// What is needed to find the events of a stream with versions in `from..to`.
    pub(crate) fn lookup(&self, key: Key, from: u64, to: u64) -> Lookup {
        let tail = self.tail.entries(key, from, to);
        // What begins in the tail, or behind its end, needs no run.
        let covered = self.tail.first_version(key).is_some_and(|first| first <= from);
        let runs =
            self.runs.iter().filter(|run| !covered && run.filter.may_have(key.place)).cloned().collect();
        Lookup { place: key.place, runs, tail }
    }
}

impl Lookup {
    /// The positions that versions in `from..to` have, in order; a few may be those of another stream with the
    /// same place.
    pub(crate) fn positions(
        &self,
        connection: &Connection,
        from: u64,
        to: u64,
    ) -> rusqlite::Result<Vec<u64>> {
        let mut positions = Vec::new();
        for run in &self.runs {
            let entries = run.entries(connection, self.place, from, to)?;
            positions.extend(entries.iter().map(|entry| entry.position));
        }
        positions.extend(self.tail.iter().map(|entry| entry.position));
        Ok(positions)
    }
}

/// Whether the event at a position is of this stream.
fn belongs(connection: &Connection, position: u64, stream: &StreamId) -> rusqlite::Result<bool> {
    let mut select = connection.prepare_cached("SELECT stream = ?2 FROM _event WHERE position = ?1")?;
    select.query_row((signed(position), stream.as_str()), |row| row.get(0))
}
