//! The positions of the newest events, in memory.

use std::collections::HashMap;

use purlin::store::StreamId;

use super::hash;
use super::run::Entry;

/// The events behind the last run.
#[derive(Default)]
pub(crate) struct Tail {
    streams: HashMap<StreamId, Versions>,
    len: usize,
}

/// Versions of a stream in the tail follow each other, so that only the first is kept.
struct Versions {
    first: u64,
    positions: Vec<u64>,
}

impl Tail {
    /// Adds a committed event; events of a stream come in order.
    pub(crate) fn push(&mut self, stream: StreamId, version: u64, position: u64) {
        let versions = self
            .streams
            .entry(stream)
            .or_insert_with(|| Versions { first: version, positions: Vec::with_capacity(1) });
        debug_assert_eq!(version, versions.first + versions.positions.len() as u64, "versions are dense");
        versions.positions.push(position);
        self.len += 1;
    }

    /// How many events it holds.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The last version of a stream, if it has events here.
    pub(crate) fn last_version(&self, stream: &StreamId) -> Option<u64> {
        self.streams.get(stream).map(|versions| versions.first + versions.positions.len() as u64 - 1)
    }

    /// The first version of a stream that it holds, if any.
    pub(crate) fn first_version(&self, stream: &StreamId) -> Option<u64> {
        self.streams.get(stream).map(|versions| versions.first)
    }

    /// The entries of a stream with versions in `from..to`.
    pub(crate) fn entries(&self, stream: &StreamId, hash: u64, from: u64, to: u64) -> Vec<Entry> {
        let Some(versions) = self.streams.get(stream) else { return Vec::new() };
        let len = versions.positions.len() as u64;
        let start = from.saturating_sub(versions.first).min(len);
        let end = to.saturating_sub(versions.first).clamp(start, len);
        let entry = |index: u64| {
            let position = versions.positions[usize::try_from(index).expect("an index of a vector")];
            Entry { hash, version: versions.first + index, position }
        };
        (start..end).map(entry).collect()
    }

    /// All entries, in the order of a run.
    pub(crate) fn sorted(&self) -> Vec<Entry> {
        let mut entries = Vec::with_capacity(self.len);
        for (stream, versions) in &self.streams {
            let hash = hash(stream);
            let versioned = (versions.first..).zip(&versions.positions);
            entries.extend(versioned.map(|(version, position)| Entry { hash, version, position: *position }));
        }
        entries.sort_unstable();
        entries
    }
}
