//! What is destroyed must be gone from the disk: bytes that are overwritten in the file, and a log that is cut.

use std::time::{Duration, Instant};

use purlin::store::personal::KEYS;
use purlin::store::{Commit, Revision, WriteKind};

use super::Writer;
use crate::checkpoint::truncate;

/// How often the log is tried to be cut before whoever waits is answered, with how long a pause.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(5);

/// How long a log that could not be cut, because somebody read its beginning, is left alone.
const RESTS: Duration = Duration::from_secs(1);

/// What a transaction does to keys of subjects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Secrets {
    Untouched,
    Made,
    Destroyed,
}

impl Secrets {
    /// What commits do together.
    pub(super) fn of<'a>(commits: impl Iterator<Item = &'a Commit>) -> Self {
        let writes = commits.flat_map(|commit| &commit.writes).filter(|write| write.collection == KEYS);
        let each = writes.map(|write| match (&write.kind, write.expected) {
            (WriteKind::Put { .. }, Revision::Absent) => Self::Made,
            _ => Self::Destroyed,
        });
        each.max().unwrap_or(Self::Untouched)
    }
}

impl Writer {
    /// Has SQLite overwrite what it deletes, or not: it costs writes that other data are spared.
    pub(super) fn overwrite(&self, on: bool) -> rusqlite::Result<()> {
        self.connection.pragma_update(None, "secure_delete", on)
    }

    /// Cuts the log, which still has the pages as they were. Who reads its beginning at this moment delays it.
    pub(super) fn erase(&mut self) {
        let _pause = self.checkpointer.pause();
        for _ in 0..TRIES {
            match truncate(&self.connection) {
                Ok(true) => {
                    self.erase_after = None;
                    return;
                }
                Ok(false) => std::thread::park_timeout(PAUSE),
                Err(error) => {
                    tracing::warn!(%error, "the log with a destroyed key could not be cut; it is tried again");
                    break;
                }
            }
        }
        self.erase_after = Some(Instant::now() + RESTS);
    }

    /// Tries again what was not done at once.
    pub(super) fn erase_if_due(&mut self) {
        if self.erase_after.is_some_and(|after| after <= Instant::now()) {
            self.erase();
        }
    }
}
