//! The log as readers see it: parts of it, and parts of streams.

use std::ops::Range;
use std::sync::Arc;

use purlin::store::{EventQuery, Limits, LogFilter, LogPage, Position, ReadError, Recorded, StreamId};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::checksum::Unchecked;
use crate::codec::{HEADER, Pool, Seen, mismatch, read_event, signed, whose};
use crate::error::unreadable_as;
use crate::index::Lookup;
use crate::tag;

/// How many events with a tag are looked at at once at the least: others of the filter's parts may not want them.
const FEW: usize = 256;

/// Events for which a page makes room at once, when all are wanted.
const ROOM: usize = 4096;

/// The wanted events behind `after` and up to `until`.
///
/// Every event is looked at, wanted or not: one that is missing, or damaged so that it seems unwanted, is told.
pub(crate) fn read(
    connection: &mut Connection,
    (after, until): (Position, Position),
    filter: &LogFilter,
    limit: usize,
    unchecked: Unchecked,
) -> Result<LogPage, ReadError> {
    let mut page = LogPage { events: Vec::new(), through: until.max(after) };
    if until <= after {
        return Ok(page);
    }
    let log = |error| unreadable_as(error, || format!("the log between {after} and {until}"));
    let transaction = connection.transaction().map_err(log)?;
    let coarse = Coarse::of(filter);
    let (sql, values) = coarse.statement(after, until);
    let mut select = transaction.prepare_cached(&sql).map_err(log)?;
    let mut rows = select.query(params_from_iter(values)).map_err(log)?;
    if *filter == LogFilter::all() {
        page.events.reserve(limit.min(ROOM).min(usize::try_from(until.0 - after.0).unwrap_or(ROOM)));
    }
    let (mut bytes, mut pool) = (0, Pool::of_page());
    for position in after.0 + 1..=until.0 {
        if page.events.len() == limit || bytes >= Limits::PAGE {
            page.through = Position(position - 1);
            break;
        }
        let missing = |error| unreadable_as(error, || format!("the event at {position}"));
        let row = rows.next().map_err(missing)?.ok_or_else(|| missing(mismatch()))?;
        let damaged = |error| unreadable_as(error, || whose(position, row));
        let seen = Seen::read(row, unchecked).map_err(damaged)?;
        if seen.position != position {
            return Err(missing(mismatch()));
        }
        if !coarse.admits(&seen) {
            continue;
        }
        let event = seen.event(row, &mut pool).map_err(damaged)?;
        if coarse.is_exact || filter.admits(&event) {
            bytes += event.envelope.data.len();
            page.events.push(event);
        }
    }
    Ok(page)
}

/// What of a filter is asked of an event's row before its data are read: all that it admits is admitted here.
struct Coarse {
    public: bool,
    births: bool,
    streams: Option<(String, String)>,
    /// Any of them; empty: all.
    kinds: Vec<Arc<str>>,
    /// Nothing but this is asked.
    is_exact: bool,
}

impl Coarse {
    fn of(filter: &LogFilter) -> Self {
        let criteria = filter.matching.as_ref().map(EventQuery::criteria).unwrap_or_default();
        let kinds = match criteria.iter().any(|criterion| criterion.kinds.is_empty()) {
            true => Vec::new(),
            false => criteria.iter().flat_map(|criterion| criterion.kinds.iter().cloned()).collect(),
        };
        let is_exact = filter.matching.is_none() && filter.tenant.is_none();
        Self { public: filter.public, births: filter.births, streams: filter.streams(), kinds, is_exact }
    }

    fn admits(&self, seen: &Seen<'_>) -> bool {
        let header = &seen.header;
        let within = |(from, to): &(String, String)| (from.as_str()..to.as_str()).contains(&header.stream);
        (header.public || !self.public)
            && (seen.version == 1 || !self.births)
            && self.streams.as_ref().is_none_or(within)
            && (self.kinds.is_empty() || self.kinds.iter().any(|kind| **kind == *header.kind))
    }

    /// The rows between two positions, with the data of those that are admitted: those of the others are not read.
    fn statement(&self, after: Position, until: Position) -> (String, Vec<Value>) {
        let (mut conditions, mut values) = (Vec::new(), Vec::new());
        if self.public {
            conditions.push("public".to_owned());
        }
        if self.births {
            conditions.push("version = 1".to_owned());
        }
        if let Some((from, to)) = &self.streams {
            conditions.push("stream >= ? AND stream < ?".to_owned());
            values.extend([Value::Text(from.clone()), Value::Text(to.clone())]);
        }
        if !self.kinds.is_empty() {
            conditions.push(format!("kind IN ({})", vec!["?"; self.kinds.len()].join(", ")));
            values.extend(self.kinds.iter().map(|kind| Value::Text(kind.to_string())));
        }
        let data = match conditions.is_empty() {
            true => "data".to_owned(),
            false => format!("CASE WHEN {} THEN data END", conditions.join(" AND ")),
        };
        values.extend([Value::Integer(signed(after.0)), Value::Integer(signed(until.0))]);
        let sql = format!(
            "SELECT {HEADER}, {data} FROM _event WHERE position > ? AND position <= ? ORDER BY position"
        );
        (sql, values)
    }
}

/// As [`read`], for a filter whose events an index of tags finds, wherever they are.
pub(crate) fn read_tagged(
    connection: &mut Connection,
    (after, until): (Position, Position),
    (filter, query): (&LogFilter, &EventQuery),
    limit: usize,
    unchecked: Unchecked,
) -> Result<LogPage, ReadError> {
    let log = |error| unreadable_as(error, || format!("the log between {after} and {until}"));
    let mut page = LogPage { events: Vec::new(), through: until.max(after) };
    if until <= after || limit == 0 {
        return Ok(LogPage { through: after, ..page });
    }
    let transaction = connection.transaction().map_err(log)?;
    let (positions, through) = tag::find(&transaction, query, after, until, limit.max(FEW)).map_err(log)?;
    page.through = through;
    let mut bytes = 0;
    for position in positions {
        if page.events.len() == limit || bytes >= Limits::PAGE {
            page.through = page.events.last().map_or(after, |event| event.position);
            break;
        }
        let event = event_at(&transaction, position, None, unchecked)?;
        if filter.admits(&event) {
            bytes += event.envelope.data.len();
            page.events.push(event);
        }
    }
    Ok(page)
}

/// The events of a stream with some versions, one way or the other, cut once their data reach [`Limits::PAGE`].
pub(crate) fn read_stream(
    connection: &mut Connection,
    stream: &StreamId,
    lookup: &Lookup,
    versions: Range<u64>,
    backwards: bool,
    unchecked: Unchecked,
) -> Result<Vec<Recorded>, Unread> {
    let transaction = connection.transaction().map_err(Unread::Index)?;
    let mut positions =
        lookup.positions(&transaction, versions.start, versions.end).map_err(Unread::Index)?;
    if backwards {
        positions.reverse();
    }
    let (mut events, mut bytes, mut before) = (Vec::new(), 0, None);
    for position in positions {
        let event = event_at(&transaction, position, Some(stream), unchecked).map_err(Unread::Event)?;
        let follows = match before {
            None if backwards => event.version + 1 == versions.end,
            None => event.version == versions.start.max(1),
            Some(before) if backwards => event.version + 1 == before,
            Some(before) => event.version == before + 1,
        };
        if !follows || event.stream != *stream {
            return Err(Unread::Index(mismatch()));
        }
        before = Some(event.version);
        bytes += event.envelope.data.len();
        events.push(event);
        if bytes >= Limits::PAGE {
            break;
        }
    }
    Ok(events)
}

/// Why a part of a stream could not be read.
pub(crate) enum Unread {
    /// The index is not what was written, or cannot be read.
    Index(rusqlite::Error),
    /// An event is not what was written.
    Event(ReadError),
}

/// An event that an index names.
fn event_at(
    connection: &Connection,
    position: u64,
    stream: Option<&StreamId>,
    unchecked: Unchecked,
) -> Result<Recorded, ReadError> {
    const SELECT: &str = "SELECT position, stream, version, kind, id, at, schema, public, meta, sum, data FROM _event WHERE position = ?1";
    let missing = |error| {
        unreadable_as(error, || match stream {
            Some(stream) => format!("the event at {position} of the stream `{stream}`"),
            None => format!("the event at {position}"),
        })
    };
    let mut select = connection.prepare_cached(SELECT).map_err(missing)?;
    let mut rows = select.query([signed(position)]).map_err(missing)?;
    let row = rows.next().map_err(missing)?.ok_or_else(|| missing(mismatch()))?;
    read_event(row, unchecked).map_err(|error| unreadable_as(error, || whose(position, row)))
}
