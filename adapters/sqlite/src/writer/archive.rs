//! What is durable in the archive leaves the store's own file: a few events at a time, between two groups of commits.

use purlin::store::CommitError;

use super::Writer;
use super::upkeep::in_transaction;
use crate::codec::signed;
use crate::error::unavailable;
use crate::schema;

impl Writer {
    /// Takes events out of the store's file. The archive has them.
    pub(super) fn forget(&mut self, positions: &[u64]) -> Result<(), CommitError> {
        if self.shared.damage().admits_writes().is_err() {
            return self.shared.damage().admits_writes();
        }
        self.cover(positions).and_then(|()| self.take_out(positions)).map_err(|error| {
            self.start_over();
            unavailable(error)
        })
    }

    /// Has the runs of the index cover these events: what they do not cover is read from the log at the next opening, and
    /// the last event that they cover must be in the store's own file.
    fn cover(&mut self, positions: &[u64]) -> rusqlite::Result<()> {
        let is_covered = |writer: &Self| {
            let through = writer.shared.index.read().expect("no panic holds the index").through();
            positions.iter().all(|position| *position < through)
        };
        if !is_covered(self) {
            self.write_tail()?;
            self.seal_at = self.run;
        }
        match is_covered(self) {
            true => Ok(()),
            false => Err(rusqlite::Error::ToSqlConversionFailure(NotCovered.into())),
        }
    }

    fn take_out(&mut self, positions: &[u64]) -> rusqlite::Result<()> {
        let archive = &self.shared.archive;
        let left = in_transaction(&self.connection, || {
            // What is in memory may come of a transaction that failed.
            if schema::archive(&self.connection)?.is_none() {
                let place = archive.remembered(&self.shared.file);
                schema::set_archive(&self.connection, place)?;
                // Before anybody can see that an event is gone.
                archive.make();
            }
            let mut delete = self.connection.prepare_cached("DELETE FROM _event WHERE position = ?1")?;
            let mut left = schema::left(&self.connection)?;
            for position in positions {
                left += delete.execute([signed(*position)])? as u64;
            }
            schema::set_left(&self.connection, left)?;
            Ok(left)
        })?;
        archive.set_left(left);
        self.checkpointer.notice();
        Ok(())
    }
}

/// An event is to leave the store that is not, or only just, covered.
#[derive(Debug, thiserror::Error)]
#[error("the index does not cover an event that is to leave the store's file")]
struct NotCovered;
