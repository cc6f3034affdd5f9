//! Events as formats 1 to 4 wrote them: each part in a column of its own.
//!
//! What is there stays as it is. A store that was made by such a format keeps its table, whose column `id` then holds the
//! header of each event that came later; the other columns of those mean nothing.

use rusqlite::Row;

use crate::checksum::Sum;
use crate::header::Header;

/// Up to where what is in a store was written by older formats.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Older {
    /// The last event whose parts are in columns of their own. 0: the table of events has no such columns.
    pub(crate) apart: u64,
    /// The last event that may be without a checksum.
    pub(crate) unchecked: u64,
    /// The last revision of a record that may be without a checksum.
    pub(crate) unchecked_revision: u64,
}

/// How a row of events lies in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// In a column `header`.
    Packed,
    /// In the column `id` of an older table.
    InOlder,
    /// Each part in a column of its own.
    Apart,
}

impl Older {
    /// How the row of a position lies. Those of later positions can be read as it can.
    pub(crate) fn shape(self, position: u64) -> Shape {
        match self.apart {
            0 => Shape::Packed,
            apart if position > apart => Shape::InOlder,
            _ => Shape::Apart,
        }
    }
}

/// The events of a store that was made by an older format, and of its archive.
pub(crate) const EVENTS: &str = "
CREATE TABLE _event(
    position INTEGER PRIMARY KEY,
    stream TEXT NOT NULL,
    version INTEGER NOT NULL,
    kind TEXT NOT NULL,
    id BLOB NOT NULL,
    at INTEGER NOT NULL,
    schema INTEGER NOT NULL,
    public INTEGER NOT NULL,
    meta BLOB,
    sum INTEGER,
    data TEXT NOT NULL
);
";

/// Where the columns that are apart begin, behind those that a newer row has too.
const APART: usize = 3;

/// What a row says whose parts are apart, but for its data.
pub(crate) struct Apart<'r> {
    pub(crate) header: Header<'r>,
    pub(crate) version: i64,
    pub(crate) at: i64,
    /// Over the header and its place, and over the data.
    pub(crate) sum: Option<i64>,
}

impl<'r> Apart<'r> {
    pub(crate) fn read(row: &'r Row<'_>) -> rusqlite::Result<Self> {
        let id = row.get_ref(1)?.as_blob()?;
        let wrong = |error| {
            rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Blob, Box::new(error))
        };
        let header = Header {
            stream: row.get_ref(APART)?.as_str()?,
            kind: row.get_ref(APART + 2)?.as_str()?,
            id: id.try_into().map_err(wrong)?,
            schema: row.get(APART + 4)?,
            public: row.get(APART + 5)?,
            meta: row.get_ref(APART + 6)?.as_blob_or_null()?.unwrap_or_default(),
        };
        let (version, at) = (row.get(APART + 1)?, row.get(APART + 3)?);
        Ok(Self { header, version, at, sum: row.get(APART + 7)? })
    }

    /// Whether the header has the checksum that was stored, at this position.
    pub(crate) fn fits(&self, position: u64) -> bool {
        let place = [position, self.version.unsigned_abs(), self.at.cast_unsigned()];
        let sum = header_sum(&self.header).numbers(place);
        self.sum.is_some_and(|stored| sum.to_bytes() == half(stored.cast_unsigned() >> 32).to_le_bytes())
    }

    /// The checksum that the data must have, if any was stored.
    pub(crate) fn data(&self) -> Option<u32> {
        self.sum.map(|stored| half(stored.cast_unsigned()))
    }
}

/// The stream's name and the kind as they seem to be.
pub(crate) fn seems(row: &Row<'_>) -> (Option<String>, Option<String>) {
    (row.get(APART).ok(), row.get(APART + 2).ok())
}

/// The last four bytes of a number.
fn half(number: u64) -> u32 {
    (number & u64::from(u32::MAX)) as u32
}

/// The checksum of a header, but for its place.
fn header_sum(header: &Header<'_>) -> Sum {
    let lengths = [header.stream.len(), header.kind.len(), header.meta.len()].map(|len| len as u64);
    let flags = u64::from(header.schema) << 1 | u64::from(header.public);
    let sum = Sum::default().numbers([lengths[0], lengths[1], lengths[2], flags]).bytes(&header.id);
    sum.bytes(header.stream.as_bytes()).bytes(header.kind.as_bytes()).bytes(header.meta)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::data_sum;

    #[test]
    fn a_checksum_is_the_same_for_ever() {
        let header = Header { stream: "a-1", kind: "a.b", id: [7; 16], schema: 1, public: false, meta: &[] };
        let sum = Some(4_939_262_427_464_978_602);
        let apart = |header, sum| Apart { header, version: 2, at: 3, sum };
        assert!(apart(header, sum).fits(1) && apart(header, sum).data() == Some(data_sum(b"{}")));
        assert!(!apart(header, sum).fits(2) && !apart(header, None).fits(1));
        assert!(!apart(Header { stream: "a-11", kind: ".b", ..header }, sum).fits(1));
    }
}
