//! Events as rows of the `_event` table.

use std::sync::Arc;

use bytes::Bytes;
use purlin::message::{Envelope, Meta, Timestamp, TraceContext, Uuid};
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
    let meta = match row.get_ref(8)?.as_blob_or_null()? {
        None => Meta::default(),
        Some(meta) => decode_meta(meta).ok_or_else(|| damaged(8, Type::Blob, Damaged))?,
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

const TRACE: u8 = 1;
const CORRELATION: u8 = 2;
const CAUSATION: u8 = 4;

/// A byte that says which parts are there, then the parts; nothing at all when there are none.
pub(crate) fn encode_meta(meta: &Meta, into: &mut Vec<u8>) {
    into.clear();
    if *meta == Meta::default() {
        return;
    }
    into.push(0);
    if let Some(trace) = meta.trace {
        into[0] |= TRACE;
        into.extend_from_slice(&trace.trace_id.to_be_bytes());
        into.extend_from_slice(&trace.span_id.to_be_bytes());
        into.push(trace.flags);
    }
    for (bit, id) in [(CORRELATION, meta.correlation), (CAUSATION, meta.causation)] {
        if let Some(id) = id {
            into[0] |= bit;
            into.extend_from_slice(id.as_bytes());
        }
    }
}

fn decode_meta(bytes: &[u8]) -> Option<Meta> {
    let (&parts, mut rest) = bytes.split_first()?;
    let mut take = |len: usize| {
        let (part, behind) = rest.split_at_checked(len)?;
        rest = behind;
        Some(part)
    };
    let mut meta = Meta::default();
    if parts & TRACE != 0 {
        meta.trace = Some(TraceContext {
            trace_id: u128::from_be_bytes(take(16)?.try_into().ok()?),
            span_id: u64::from_be_bytes(take(8)?.try_into().ok()?),
            flags: take(1)?[0],
        });
    }
    if parts & CORRELATION != 0 {
        meta.correlation = Uuid::from_slice(take(16)?).ok();
    }
    if parts & CAUSATION != 0 {
        meta.causation = Uuid::from_slice(take(16)?).ok();
    }
    Some(meta)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_are_read_back_whatever_is_absent() {
        let trace = Some(TraceContext { trace_id: 7, span_id: 8, flags: 1 });
        let (one, two) = (Some(Uuid::from_u128(1)), Some(Uuid::from_u128(2)));
        for trace in [None, trace] {
            for correlation in [None, one] {
                for causation in [None, two] {
                    let meta = Meta { trace, correlation, causation };
                    let mut bytes = Vec::new();
                    encode_meta(&meta, &mut bytes);
                    assert_eq!(decode_meta(&bytes).unwrap_or_default(), meta);
                    assert!(
                        bytes.is_empty()
                            || decode_meta(&bytes[..bytes.len() - 1]).is_none_or(|cut| cut != meta)
                    );
                }
            }
        }
    }
}
