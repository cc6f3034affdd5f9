//! Events as rows of the `_event` view, and texts that PostgreSQL takes.

use std::error::Error;

use bytes::BytesMut;
use purlin::message::Envelope;
use purlin::message::{Meta, Tags, Timestamp, Uuid};
use purlin::store::pool::Pool;
use purlin::store::{Commit, CommitError, Position, ReadError, Record, Recorded, Scalar, WriteKind};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// The columns, in the order in which [`read_events`] wants them.
pub(crate) const COLUMNS: &str = "position, stream, version, kind, id, at, schema, public, meta, data";

/// Which of them is the event's data.
const DATA: usize = 9;

/// Events that are made before others have their turn on a thread: a usual page.
const TURN: usize = 1024;

/// The events of rows of [`COLUMNS`].
pub(crate) async fn read_events(rows: &[Row]) -> Result<Vec<Recorded>, ReadError> {
    let mut pool = if rows.len() > 1 { Pool::of_page() } else { Pool::default() };
    in_turns(rows, |row| read_event(row, &mut pool)).await
}

/// Makes something of each row. Who has many lets others have their turn meanwhile.
async fn in_turns<R, T, E>(rows: &[R], mut make: impl FnMut(&R) -> Result<T, E>) -> Result<Vec<T>, E> {
    let mut made = Vec::with_capacity(rows.len());
    for rows in rows.chunks(TURN) {
        if !made.is_empty() {
            tokio::task::yield_now().await;
        }
        for row in rows {
            made.push(make(row)?);
        }
    }
    Ok(made)
}

/// How many bytes the data of an event have.
pub(crate) fn data_len(row: &Row) -> Result<usize, tokio_postgres::Error> {
    row.try_get::<_, Text<'_>>(DATA).map(|data| data.0.len())
}

fn read_event(row: &Row, pool: &mut Pool) -> Result<Recorded, ReadError> {
    let position: i64 = row.try_get(0).map_err(damaged("an event"))?;
    let what = || format!("the event at position {position}");
    let damaged = |error: tokio_postgres::Error| unreadable(what(), error);
    let text = |column| row.try_get::<_, Text<'_>>(column).map_err(damaged);
    let name = |column| str::from_utf8(text(column)?.0).map_err(|error| unreadable(what(), error));
    let at: i64 = row.try_get(5).map_err(damaged)?;
    let schema: i32 = row.try_get(6).map_err(damaged)?;
    let (meta, tags) = match row.try_get::<_, Option<&[u8]>>(8).map_err(damaged)? {
        None => (Meta::default(), Tags::none()),
        Some(meta) => Meta::decode(meta).ok_or_else(|| unreadable(what(), Damaged))?,
    };
    Ok(Recorded {
        position: Position(unsigned(position)),
        stream: pool.stream(name(1)?).map_err(|error| unreadable(what(), error))?,
        version: unsigned(row.try_get(2).map_err(damaged)?),
        at: Timestamp::from_microsecond(at).map_err(|error| unreadable(what(), error))?,
        envelope: Envelope {
            id: row.try_get::<_, Uuid>(4).map_err(damaged)?,
            kind: pool.kind(name(3)?),
            schema: u16::try_from(schema).map_err(|error| unreadable(what(), error))?,
            public: row.try_get(7).map_err(damaged)?,
            meta,
            tags,
            data: pool.data(text(DATA)?.0),
        },
    })
}

/// The record of a row of [`collection::COLUMNS`](crate::collection::COLUMNS).
pub(crate) fn read_record(row: &Row) -> Result<Record, ReadError> {
    let damaged = damaged("a record");
    let due: Option<i64> = row.try_get(3).map_err(damaged)?;
    let due = due.map(Timestamp::from_microsecond).transpose();
    Ok(Record {
        key: row.try_get(0).map_err(damaged)?,
        revision: unsigned(row.try_get(1).map_err(damaged)?),
        position: Position(unsigned(row.try_get(2).map_err(damaged)?)),
        due: due.map_err(|error| unreadable("a record's time".into(), error))?,
        value: row.try_get::<_, String>(4).map_err(damaged)?.into(),
    })
}

/// PostgreSQL's integers are signed; positions and versions never reach the sign.
pub(crate) fn unsigned(value: i64) -> u64 {
    value.unsigned_abs()
}

/// The other way round.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A count as a limit of SQL.
pub(crate) fn limit(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn damaged(what: &'static str) -> impl Fn(tokio_postgres::Error) -> ReadError + Copy {
    move |error| unreadable(what.into(), error)
}

fn unreadable(what: String, error: impl Error + Send + Sync + 'static) -> ReadError {
    ReadError::Unreadable { what, source: error.into() }
}

#[derive(Debug, thiserror::Error)]
#[error("the metadata of an event are damaged")]
struct Damaged;

/// A text as bytes: such as were seen to be [`storable`], or come from a server whose encoding is UTF-8, and need not be
/// looked at here.
#[derive(Debug)]
pub(crate) struct Text<'a>(pub(crate) &'a [u8]);

impl ToSql for Text<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(self.0);
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::TEXT
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Text<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::TEXT
    }
}

/// Refuses a commit with a text that PostgreSQL cannot store, before it can spoil a group.
pub(crate) fn storable(commit: &Commit) -> Result<(), CommitError> {
    let text = |text: &str, what: &str| match text.contains('\0') {
        false => Ok(()),
        true => Err(CommitError::Invalid(format!("{what} has a NUL byte, which PostgreSQL cannot store"))),
    };
    let json = |bytes: &[u8], what: &str| match std::str::from_utf8(bytes) {
        Ok(json) => text(json, what),
        Err(_) => Err(CommitError::Invalid(format!("{what} is not UTF-8"))),
    };
    for event in commit.appends.iter().flat_map(|append| &append.events) {
        text(&event.kind, "the kind of an event")?;
        json(&event.data, "the data of an event")?;
    }
    for requirement in &commit.requirements {
        text(&requirement.key, "a record's key")?;
    }
    for write in &commit.writes {
        text(&write.key, "a record's key")?;
        if let WriteKind::Put { value, fields, .. } = &write.kind {
            json(value, "a record's value")?;
            for field in fields {
                if let Scalar::Text(field) = field {
                    text(field, "an indexed field")?;
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn who_makes_many_events_leaves_others_their_turn_and_who_makes_a_usual_page_does_not_wait() {
        for (rows, expected) in [(0, 0), (1, 0), (TURN, 0), (TURN + 1, 1), (3 * TURN, 2)] {
            let all: Vec<usize> = (0..rows).collect();
            let (mut made, mut turns) = (pin!(in_turns(&all, |row| Ok::<_, ReadError>(row + 1))), 0);
            let made = loop {
                match made.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(made) => break made.unwrap(),
                    Poll::Pending => turns += 1,
                }
            };
            assert!(made.iter().copied().eq(1..=rows), "{rows}");
            assert_eq!(turns, expected, "{rows}");
        }
    }

    #[test]
    fn a_text_with_a_nul_byte_is_refused_and_one_that_speaks_of_it_is_not() {
        use purlin::store::{Expected, StreamId};
        let with = |kind: &str, data: &'static str| {
            let stream = StreamId::new("thing", 1).unwrap();
            storable(&Commit::new().append(stream, Expected::Any, [Envelope::raw(kind, data)]))
        };
        assert!(with("kind", "\"\\u0000\"").is_ok());
        assert!(matches!(with("kind", "\"\0\""), Err(CommitError::Invalid(_))));
        assert!(matches!(with("ki\0nd", "1"), Err(CommitError::Invalid(_))));
    }
}
