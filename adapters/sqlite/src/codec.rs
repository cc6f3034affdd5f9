//! Events as rows of the `_event` table.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use purlin::message::{Envelope, Meta, Timestamp, Uuid};
use purlin::store::{Position, Recorded, StreamId, StreamIdError};
use rusqlite::Row;
use rusqlite::types::Type;

use crate::checksum::{Header, Mismatch, Unchecked, data_fits};

/// What is read of an event to know which it is, in the order in which [`Seen::read`] wants it.
pub(crate) const HEADER: &str = "position, stream, version, kind, id, at, schema, public, meta, sum";

/// An event without its data; it is what was written.
pub(crate) struct Seen<'r> {
    pub(crate) position: u64,
    pub(crate) version: u64,
    pub(crate) at: i64,
    pub(crate) header: Header<'r>,
    sum: Option<i64>,
}

impl<'r> Seen<'r> {
    /// Of a row that begins with [`HEADER`].
    pub(crate) fn read(row: &'r Row<'_>, unchecked: Unchecked) -> rusqlite::Result<Self> {
        let header = Header {
            stream: row.get_ref(1)?.as_str()?,
            kind: row.get_ref(3)?.as_str()?,
            id: row.get_ref(4)?.as_blob()?,
            schema: row.get(6)?,
            public: row.get(7)?,
            meta: row.get_ref(8)?.as_blob_or_null()?.unwrap_or_default(),
        };
        let (position, version, at) = (unsigned(row.get(0)?), unsigned(row.get(2)?), row.get(5)?);
        let sum: Option<i64> = row.get(9)?;
        let fits = match sum {
            Some(sum) => header.fits(place(position, version, at), sum),
            None => position <= unchecked.position,
        };
        if fits { Ok(Self { position, version, at, header, sum }) } else { Err(mismatch()) }
    }
}

/// An event's place, as its checksum takes it.
pub(crate) fn place(position: u64, version: u64, at: i64) -> [u64; 3] {
    [position, version, at.cast_unsigned()]
}

/// The event of a row of [`HEADER`] and `data`.
pub(crate) fn read_event(row: &Row<'_>, unchecked: Unchecked) -> rusqlite::Result<Recorded> {
    Seen::read(row, unchecked)?.event(row, &mut Pool::default())
}

/// What the events of a page share: a kind or a stream that they have in common is kept once, and data stand side by
/// side in chunks, so that an event costs one allocation, of its stream's name, in place of three.
///
/// Who keeps the data of one event keeps the chunk that they are in, which is no larger than [`Pool::CHUNK`].
#[derive(Default)]
pub(crate) struct Pool {
    kinds: [Option<Arc<str>>; 8],
    oldest: usize,
    stream: Option<StreamId>,
    room: BytesMut,
    /// Bytes of the next chunk; 0: data stand alone.
    chunk: usize,
}

impl Pool {
    const CHUNK: usize = 64 << 10;

    /// For many events.
    pub(crate) fn of_page() -> Self {
        Self { chunk: 4 << 10, ..Self::default() }
    }

    fn kind(&mut self, kind: &str) -> Arc<str> {
        if let Some(known) = self.kinds.iter().flatten().find(|known| ***known == *kind) {
            return Arc::clone(known);
        }
        let kind: Arc<str> = kind.into();
        self.kinds[self.oldest] = Some(Arc::clone(&kind));
        self.oldest = (self.oldest + 1) % self.kinds.len();
        kind
    }

    fn stream(&mut self, name: &str) -> Result<StreamId, StreamIdError> {
        if let Some(stream) = self.stream.as_ref().filter(|stream| stream.as_str() == name) {
            return Ok(stream.clone());
        }
        let stream = StreamId::parse(name)?;
        self.stream = Some(stream.clone());
        Ok(stream)
    }

    fn data(&mut self, data: &[u8]) -> Bytes {
        if data.len() >= self.chunk / 4 {
            return Bytes::copy_from_slice(data);
        }
        if self.room.capacity() < data.len() {
            self.room = BytesMut::with_capacity(self.chunk);
            self.chunk = (2 * self.chunk).min(Self::CHUNK);
        }
        self.room.extend_from_slice(data);
        self.room.split().freeze()
    }
}

impl Seen<'_> {
    /// The event, with the data that stand behind its header.
    pub(crate) fn event(self, row: &Row<'_>, pool: &mut Pool) -> rusqlite::Result<Recorded> {
        let data = row.get_ref(10)?.as_bytes()?;
        if self.sum.is_some_and(|sum| !data_fits(data, sum)) {
            return Err(mismatch());
        }
        let header = self.header;
        let stream = pool.stream(header.stream).map_err(|error| damaged(1, Type::Text, error))?;
        let id = Uuid::from_slice(header.id).map_err(|error| damaged(4, Type::Blob, error))?;
        let at = Timestamp::from_microsecond(self.at).map_err(|error| damaged(5, Type::Integer, error))?;
        let (meta, tags) = Meta::decode(header.meta).ok_or_else(|| damaged(8, Type::Blob, Damaged))?;
        Ok(Recorded {
            position: Position(self.position),
            stream,
            version: self.version,
            at,
            envelope: Envelope {
                id,
                kind: pool.kind(header.kind),
                schema: header.schema,
                public: header.public,
                meta,
                tags,
                data: pool.data(data),
            },
        })
    }
}

/// Which event a row of [`HEADER`] is, as far as that can be read.
pub(crate) fn whose(position: u64, row: &Row<'_>) -> String {
    let text = |column| row.get::<_, String>(column).unwrap_or_else(|_| "?".to_owned());
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

/// What a row holds is not what was written.
#[cold]
pub(crate) fn mismatch() -> rusqlite::Error {
    damaged(9, Type::Integer, Mismatch)
}

fn damaged(
    column: usize,
    kind: Type,
    error: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, kind, Box::new(error))
}
