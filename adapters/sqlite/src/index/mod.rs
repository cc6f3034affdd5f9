//! Which positions belong to a stream, kept so that a commit touches nothing random.
//!
//! The newest events' positions are in memory (the *tail*). When they are many they become a *run*: entries
//! (hash of the stream, version, position) in sorted order, cut into blocks of a page each, written at the right
//! edge of a table, with a filter that says which streams it may have. Runs of a level are merged into one of the
//! next level, a slice at a time ([`merge`]). After a crash the tail is read from the log again: it is what lies
//! behind the last run. This is a log-structured merge tree (O'Neil et al., 1996) with tiered merging, of keys
//! that are never changed or deleted.

pub(crate) mod filter;
pub(crate) mod merge;
pub(crate) mod run;
mod tail;

use std::sync::Arc;

use purlin::store::StreamId;
use rusqlite::Connection;

use crate::codec::signed;
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
    hash: u64,
    runs: Vec<Arc<Run>>,
    tail: Vec<Entry>,
}

impl Index {
    /// A stream's last version.
    pub(crate) fn head(&self, connection: &Connection, stream: &StreamId) -> rusqlite::Result<Head> {
        if let Some(version) = self.tail.last_version(stream) {
            return Ok(Head { version });
        }
        let hash = hash(stream);
        for run in self.runs.iter().rev().filter(|run| run.filter.may_have(hash)) {
            if let Some(last) = run.last(connection, hash)?
                && belongs(connection, last.position, stream)?
            {
                return Ok(Head { version: last.version });
            }
            // Another stream has the same hash, or the filter was wrong.
            for entry in run.entries(connection, hash, 0, u64::MAX)?.iter().rev() {
                if belongs(connection, entry.position, stream)? {
                    return Ok(Head { version: entry.version });
                }
            }
        }
        Ok(Head::default())
    }

    /// What is needed to find the events of a stream with versions in `from..to`.
    pub(crate) fn lookup(&self, stream: &StreamId, from: u64, to: u64) -> Lookup {
        let hash = hash(stream);
        let tail = self.tail.entries(stream, hash, from, to);
        // What begins in the tail, or behind its end, needs no run.
        let covered = self.tail.first_version(stream).is_some_and(|first| first <= from);
        let runs = self.runs.iter().filter(|run| !covered && run.filter.may_have(hash)).cloned().collect();
        Lookup { hash, runs, tail }
    }
}

impl Lookup {
    /// The positions that versions in `from..to` have, in order; a few may be those of another stream with the
    /// same hash.
    pub(crate) fn positions(
        &self,
        connection: &Connection,
        from: u64,
        to: u64,
    ) -> rusqlite::Result<Vec<u64>> {
        let mut positions = Vec::new();
        for run in &self.runs {
            let entries = run.entries(connection, self.hash, from, to)?;
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

/// A stream's place in a run. It is stored, so it must never change: FNV-1a (Fowler, Noll, Vo) and, since its high
/// bits are weak, the finishing steps of MurmurHash3 (Appleby).
pub(crate) fn hash(stream: &StreamId) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in stream.as_str().bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}
