//! What a caller makes ready of a commit, before it waits for the writer.

use purlin::store::{Append, Commit, Write, WriteKind};

use crate::checksum::{Sum, of_record};
use crate::header::pack_body;
use crate::index::{Key, Keys};

/// A commit, and what of it the writer need not compute: its time is everybody's.
pub(crate) struct Ready {
    pub(crate) commit: Commit,
    /// Of each append's stream.
    pub(super) keys: Vec<Key>,
    /// The bodies of the events' headers.
    pub(super) bodies: Vec<u8>,
    /// The checksums of the records.
    pub(super) sums: Vec<Sum>,
    /// Events and records.
    pub(super) items: usize,
    /// About how much memory it holds.
    pub(crate) bytes: usize,
}

impl Ready {
    /// Of a commit; on the caller's thread.
    pub(crate) fn of(commit: Commit, keys: &Keys) -> Self {
        let (mut bodies, mut meta) = (Vec::new(), Vec::new());
        for Append { stream, events, .. } in &commit.appends {
            for event in events {
                pack_body(stream.as_str(), event, &mut meta, &mut bodies);
            }
        }
        Self {
            keys: commit.appends.iter().map(|append| keys.of(append.stream.as_str())).collect(),
            sums: commit.writes.iter().map(sum_of).collect(),
            items: commit.event_count()
                + commit.writes.len()
                + commit.requirements.len()
                + commit.changes.len(),
            bytes: weigh(&commit) + bodies.len(),
            bodies,
            commit,
        }
    }
}

fn sum_of(write: &Write) -> Sum {
    match &write.kind {
        WriteKind::Put { value, due, .. } => {
            of_record(&write.key, due.map(|due| due.as_microsecond()), value)
        }
        WriteKind::Delete => Sum::default(),
    }
}

/// About how much memory a commit holds.
fn weigh(commit: &Commit) -> usize {
    const ITEM: usize = 256;
    let events = commit.appends.iter().flat_map(|append| &append.events);
    let events: usize = events.map(|event| ITEM + event.data.len()).sum();
    let records = commit.writes.iter().map(|write| match &write.kind {
        WriteKind::Put { value, .. } => ITEM + write.key.len() + value.len(),
        WriteKind::Delete => ITEM + write.key.len(),
    });
    events + records.sum::<usize>() + (commit.requirements.len() + commit.changes.len()) * ITEM
}
