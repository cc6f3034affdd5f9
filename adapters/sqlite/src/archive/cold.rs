//! Reading through: what is not in the store's file is looked for in its archive.

use std::cell::OnceCell;
use std::sync::Arc;

use rusqlite::fallible_streaming_iterator::FallibleStreamingIterator as _;
use rusqlite::{Connection, Row, Rows};

use super::{Archive, open};
use crate::codec::{signed, whose};

/// A thread's way into the archive; opened when it is first needed.
pub(crate) struct Cold {
    archive: Arc<Archive>,
    connection: OnceCell<Connection>,
}

impl Cold {
    pub(crate) fn new(archive: Arc<Archive>) -> Self {
        Self { archive, connection: OnceCell::new() }
    }

    /// The archive, when the event at a position is not in the store's own file; none when no event has left it. One
    /// that is needed and cannot be used is an error that says for which event.
    pub(crate) fn archive_of(&self, position: u64) -> rusqlite::Result<Option<&Connection>> {
        if !self.archive.is_made() {
            return Ok(None);
        }
        if self.connection.get().is_none() {
            let opened = open(&self.archive).map_err(|source| away(position, source))?;
            let _ = self.connection.set(opened);
        }
        self.archive.is_same().map_err(|source| away(position, source))?;
        Ok(self.connection.get())
    }

    /// Which event a row of it is.
    pub(crate) fn whose(&self, position: u64, row: &Row<'_>) -> String {
        let whose = whose(position, row, self.archive.older);
        format!("{whose} in the archive `{}`", self.archive.file().display())
    }
}

/// An event whose archive is away.
#[derive(Debug, thiserror::Error)]
#[error("the event at {position} is in the archive")]
struct Away {
    position: u64,
    source: super::Refused,
}

#[cold]
fn away(position: u64, source: super::Refused) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(Box::new(Away { position, source }))
}

/// Rows in the order of their positions, which are their first column, some of which are asked for.
pub(crate) struct Scan<'s> {
    rows: Rows<'s>,
    /// The row that was read last is not used up.
    held: bool,
}

impl<'s> Scan<'s> {
    pub(crate) fn new(rows: Rows<'s>) -> Self {
        Self { rows, held: false }
    }

    /// The row of a position, if it is the next one that is there. Positions are asked for in order.
    pub(crate) fn at(&mut self, position: u64) -> rusqlite::Result<Option<&Row<'s>>> {
        let wanted = signed(position);
        loop {
            if !self.held {
                self.rows.advance()?;
                self.held = true;
            }
            let Some(row) = self.rows.get() else { return Ok(None) };
            match row.get::<_, i64>(0)? {
                found if found > wanted => return Ok(None),
                found if found == wanted => break,
                // It was found elsewhere too.
                _ => self.held = false,
            }
        }
        self.held = false;
        Ok(self.rows.get())
    }

    /// Whether no row is left.
    pub(crate) fn is_over(&mut self) -> rusqlite::Result<bool> {
        if !self.held {
            self.rows.advance()?;
            self.held = true;
        }
        Ok(self.rows.get().is_none())
    }
}
