//! Events as rows of the `_event` table.

use std::sync::Arc;

use bytes::Bytes;
use purlin::message::{Envelope, Meta, Tags, Timestamp, Uuid};
use purlin::store::{Position, Recorded, StreamId};
use rusqlite::Row;
use rusqlite::types::Type;

/// The columns, in the order in which [`read_event`] wants them.
pub(crate) const COLUMNS: &str = "position, stream, version, kind, id, at, schema, public, meta, data";

/// The event of a row of [`COLUMNS`].
pub(crate) fn read_event(row: &Row<'_>) -> rusqlite::Result<Recorded> {
    let stream = row.get_ref(1)?.as_str()?;
    let stream = StreamId::parse(stream).map_err(|error| damaged(1, Type::Text, error))?;
    let id = Uuid::from_slice(row.get_ref(4)?.as_blob()?).map_err(|error| damaged(4, Type::Blob, error))?;
    let at = Timestamp::from_microsecond(row.get(5)?).map_err(|error| damaged(5, Type::Integer, error))?;
    let (meta, tags) = match row.get_ref(8)?.as_blob_or_null()? {
        None => (Meta::default(), Tags::none()),
        Some(meta) => Meta::decode(meta).ok_or_else(|| damaged(8, Type::Blob, Damaged))?,
    };
    Ok(Recorded {
        position: Position(unsigned(row.get(0)?)),
        stream,
        version: unsigned(row.get(2)?),
        at,
        envelope: Envelope {
            id,
            kind: Arc::from(row.get_ref(3)?.as_str()?),
            schema: row.get(6)?,
            public: row.get(7)?,
            meta,
            tags,
            data: Bytes::copy_from_slice(row.get_ref(9)?.as_bytes()?),
        },
    })
}

/// Which event a row of [`COLUMNS`] is, as far as that can be read.
pub(crate) fn whose(row: &Row<'_>) -> String {
    let text = |column| row.get::<_, String>(column).unwrap_or_else(|_| "?".to_owned());
    let position = row.get::<_, i64>(0).unwrap_or_default();
    format!("the event at {position} (`{}` of the stream `{}`)", text(3), text(1))
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

fn damaged(
    column: usize,
    kind: Type,
    error: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, kind, Box::new(error))
}
