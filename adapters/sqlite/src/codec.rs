//! Events as rows of the `_event` table.

use bytes::Bytes;
use purlin::message::{Envelope, Meta, Timestamp, Uuid};
use purlin::store::pool::Pool;
use purlin::store::{Position, Recorded};
use rusqlite::Row;
use rusqlite::types::Type;

use crate::checksum::{Mismatch, data_sum};
use crate::header::{self, Header, Unpacked, unpack};
use crate::older::{self, Apart, Older, Shape};

/// The table of events, in a store and in its archive.
///
/// An event's header stands before its data: who only wants to know which event it is need not read them.
pub(crate) fn table(older: Older) -> &'static str {
    match older.apart {
        0 => "CREATE TABLE _event(position INTEGER PRIMARY KEY, header BLOB NOT NULL, data TEXT NOT NULL);",
        _ => older::EVENTS,
    }
}

/// Inserts an event: its position, its header, its data.
pub(crate) fn insert(older: Older) -> &'static str {
    match older.apart {
        0 => "INSERT INTO _event(position, header, data) VALUES(?1, ?2, ?3)",
        _ => {
            "INSERT INTO _event(position, id, data, stream, version, kind, at, schema, public) \
             VALUES(?1, ?2, ?3, '', 0, '', 0, 0, 0)"
        }
    }
}

/// All columns that rows of a shape have, with the position first and the data third, as [`Seen::read`] and
/// [`data_of`] want them.
pub(crate) fn columns(shape: Shape) -> &'static str {
    match shape {
        Shape::Packed => "position, header, data",
        Shape::InOlder => "position, id, data",
        Shape::Apart => "position, id, data, stream, version, kind, at, schema, public, meta, sum",
    }
}

/// Selects rows of a shape, with something in place of their data: [`WITHOUT_DATA`], say.
pub(crate) fn select(shape: Shape, data: &str, which: &str) -> String {
    let columns = columns(shape).replacen("data", data, 1);
    format!("SELECT {columns} FROM _event {which}")
}

/// For who only wants to know which events they are.
pub(crate) const WITHOUT_DATA: &str = "NULL";

/// Selects the event at a position.
pub(crate) fn select_at(shape: Shape) -> &'static str {
    match shape {
        Shape::Packed => "SELECT position, header, data FROM _event WHERE position = ?1",
        Shape::InOlder => "SELECT position, id, data FROM _event WHERE position = ?1",
        Shape::Apart => {
            "SELECT position, id, data, stream, version, kind, at, schema, public, meta, sum FROM _event \
             WHERE position = ?1"
        }
    }
}

/// An event without its data; it is what was written.
pub(crate) struct Seen<'r> {
    pub(crate) position: u64,
    pub(crate) version: u64,
    pub(crate) at: i64,
    pub(crate) header: Header<'r>,
    /// The header as it is stored, if its parts are not apart.
    pub(crate) stored: Option<&'r [u8]>,
    /// The checksum of the data, if there is one.
    data: Option<u32>,
}

impl<'r> Seen<'r> {
    /// Of a row of [`columns`].
    pub(crate) fn read(row: &'r Row<'_>, older: Older) -> rusqlite::Result<Self> {
        Self::at(unsigned(row.get(0)?), row, older)
    }

    /// As [`Seen::read`], of a row that is known to be that of a position.
    pub(crate) fn at(position: u64, row: &'r Row<'_>, older: Older) -> rusqlite::Result<Self> {
        if position <= older.apart {
            return Self::read_apart(row, position, older);
        }
        let stored = row.get_ref(1)?.as_blob()?;
        Ok(Self::of(position, stored, unpack(stored, position).ok_or_else(mismatch)?))
    }

    /// As [`Seen::at`], of a stored header that was checked before.
    pub(crate) fn checked(position: u64, stored: &'r [u8]) -> rusqlite::Result<Self> {
        Ok(Self::of(position, stored, header::parse(stored).ok_or_else(mismatch)?))
    }

    fn of(position: u64, stored: &'r [u8], unpacked: Unpacked<'r>) -> Self {
        let Unpacked { header, version, at, data } = unpacked;
        Self { position, version, at, header, stored: Some(stored), data: Some(data) }
    }

    #[cold]
    fn read_apart(row: &'r Row<'_>, position: u64, older: Older) -> rusqlite::Result<Self> {
        let apart = Apart::read(row)?;
        let is_believed = apart.sum.is_none() && position <= older.unchecked;
        if !is_believed && !apart.fits(position) {
            return Err(mismatch());
        }
        let data = apart.data();
        let Apart { header, version, at, .. } = apart;
        Ok(Self { position, version: unsigned(version), at, header, stored: None, data })
    }
}

/// The data of a row of [`columns`]; none if they were not selected.
pub(crate) fn data_of<'r>(row: &'r Row<'_>) -> rusqlite::Result<Option<&'r [u8]>> {
    Ok(row.get_ref(2)?.as_bytes_or_null()?)
}

/// The header of a row of [`columns`] as it is stored, and the data, which are what was written; none if its parts are
/// apart. Nothing is taken out of the header that only its event is made of.
pub(crate) fn stored<'r>(
    position: u64,
    row: &'r Row<'_>,
    older: Older,
) -> rusqlite::Result<Option<(&'r [u8], &'r [u8])>> {
    if position <= older.apart {
        return Ok(None);
    }
    let (header, data) = (row.get_ref(1)?.as_blob()?, data_of(row)?.ok_or_else(mismatch)?);
    let fits = header::check(header, position) == Some(data_sum(data));
    if fits { Ok(Some((header, data))) } else { Err(mismatch()) }
}

/// The event of a row with its data.
pub(crate) fn read_event(row: &Row<'_>, older: Older) -> rusqlite::Result<Recorded> {
    let (seen, data) = (Seen::read(row, older)?, data_of(row)?.ok_or_else(mismatch)?);
    seen.check(data)?;
    seen.event(Bytes::copy_from_slice(data), &mut Pool::default())
}

impl Seen<'_> {
    /// Whether these are its data.
    pub(crate) fn check(&self, data: &[u8]) -> rusqlite::Result<()> {
        if self.data.is_some_and(|sum| data_sum(data) != sum) { Err(mismatch()) } else { Ok(()) }
    }

    /// The event, with its data.
    pub(crate) fn event(self, data: Bytes, pool: &mut Pool) -> rusqlite::Result<Recorded> {
        let header = self.header;
        let damaged_text = |error| damaged(1, Type::Text, error);
        let stream = pool.stream(header.stream).map_err(damaged_text)?;
        let at = Timestamp::from_microsecond(self.at).map_err(|error| damaged(1, Type::Integer, error))?;
        let (meta, tags) = Meta::decode(header.meta).ok_or_else(|| damaged(1, Type::Blob, Damaged))?;
        Ok(Recorded {
            position: Position(self.position),
            stream,
            version: self.version,
            at,
            envelope: Envelope {
                id: Uuid::from_bytes(header.id),
                kind: pool.kind(header.kind),
                schema: header.schema,
                public: header.public,
                meta,
                tags,
                data,
            },
        })
    }
}

/// Which event a row of [`columns`] is, as far as that can be read.
pub(crate) fn whose(position: u64, row: &Row<'_>, older: Older) -> String {
    if position <= older.apart {
        let (stream, kind) = older::seems(row);
        return named(position, stream.as_deref(), kind.as_deref());
    }
    whose_stored(position, row.get_ref(1).ok().and_then(|stored| stored.as_blob().ok()))
}

/// As [`whose`], of the header as it is stored.
pub(crate) fn whose_stored(position: u64, stored: Option<&[u8]>) -> String {
    let (stream, kind) = stored.and_then(header::seems).unzip();
    named(position, stream, kind)
}

fn named(position: u64, stream: Option<&str>, kind: Option<&str>) -> String {
    let (kind, stream) = (kind.unwrap_or("?"), stream.unwrap_or("?"));
    format!("the event at {position} (`{kind}` of the stream `{stream}`)")
}

/// SQLite's integers are signed; positions and versions never reach the sign.
pub(crate) fn unsigned(value: i64) -> u64 {
    value.unsigned_abs()
}

/// The other way round.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[derive(Debug, thiserror::Error)]
#[error("the metadata of an event are damaged")]
struct Damaged;

/// What a row holds is not what was written.
#[cold]
pub(crate) fn mismatch() -> rusqlite::Error {
    damaged(1, Type::Integer, Mismatch)
}

#[cold]
fn damaged(
    column: usize,
    kind: Type,
    error: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, kind, Box::new(error))
}
