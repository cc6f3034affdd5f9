//! The log as readers see it: parts of it, and parts of streams.

use purlin::store::{EventQuery, Limits, LogFilter, LogPage, Position, ReadError, Recorded, StreamId};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::codec::{COLUMNS, read_event, signed, whose};
use crate::error::unreadable_as;
use crate::index::Lookup;
use crate::tag;

/// How many events with a tag are looked at at once at the least: others of the filter's parts may not want them.
const FEW: usize = 256;

/// The wanted events behind `after` and up to `until`.
pub(crate) fn read(
    connection: &mut Connection,
    after: Position,
    until: Position,
    filter: &LogFilter,
    limit: usize,
) -> Result<LogPage, ReadError> {
    let mut page = LogPage { events: Vec::new(), through: until.max(after) };
    if until <= after {
        return Ok(page);
    }
    let log = |error| unreadable_as(error, || format!("the log between {after} and {until}"));
    let transaction = connection.transaction().map_err(log)?;
    let (sql, values) = statement(after, until, filter);
    let mut select = transaction.prepare_cached(&sql).map_err(log)?;
    let mut rows = select.query(params_from_iter(values)).map_err(log)?;
    let mut bytes = 0;
    while let Some(row) = rows.next().map_err(log)? {
        if page.events.len() == limit || bytes >= Limits::PAGE {
            page.through = page.events.last().map_or(after, |event| event.position);
            break;
        }
        let event = read_event(row).map_err(|error| unreadable_as(error, || whose(row)))?;
        // Whose stream it is cannot always be asked in SQL.
        if filter.admits(&event) {
            bytes += event.envelope.data.len();
            page.events.push(event);
        }
    }
    Ok(page)
}

/// As [`read`], for a filter whose events an index of tags finds, wherever they are.
pub(crate) fn read_tagged(
    connection: &mut Connection,
    after: Position,
    until: Position,
    (filter, query): (&LogFilter, &EventQuery),
    limit: usize,
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
        let event = event_at(&transaction, position)
            .map_err(|error| unreadable_as(error, || format!("the event at {position}")))?;
        if filter.admits(&event) {
            bytes += event.envelope.data.len();
            page.events.push(event);
        }
    }
    Ok(page)
}

fn statement(after: Position, until: Position, filter: &LogFilter) -> (String, Vec<Value>) {
    let mut sql = format!("SELECT {COLUMNS} FROM _event WHERE position > ? AND position <= ?");
    let mut values = vec![Value::Integer(signed(after.0)), Value::Integer(signed(until.0))];
    if filter.public {
        sql.push_str(" AND public");
    }
    if filter.births {
        sql.push_str(" AND version = 1");
    }
    if let Some((from, to)) = filter.streams() {
        sql.push_str(" AND stream >= ? AND stream < ?");
        values.extend([Value::Text(from), Value::Text(to)]);
    }
    if let Some(query) = &filter.matching {
        let (condition, of) = tag::matching(query);
        sql.push_str(" AND ");
        sql.push_str(&condition);
        values.extend(of);
    }
    sql.push_str(" ORDER BY position");
    (sql, values)
}

/// The events of a stream with versions in `from..to`, one way or the other, cut once their data reach
/// [`Limits::PAGE`].
pub(crate) fn read_stream(
    connection: &mut Connection,
    stream: &StreamId,
    lookup: &Lookup,
    versions: std::ops::Range<u64>,
    backwards: bool,
) -> Result<Vec<Recorded>, ReadError> {
    let index = |error| unreadable_as(error, || format!("the index of the stream `{stream}`"));
    let transaction = connection.transaction().map_err(index)?;
    let mut positions = lookup.positions(&transaction, versions.start, versions.end).map_err(index)?;
    if backwards {
        positions.reverse();
    }
    let (mut events, mut bytes) = (Vec::new(), 0);
    for position in positions {
        let event = event_at(&transaction, position)
            .map_err(|error| unreadable_as(error, || format!("the event at {position} of `{stream}`")))?;
        if event.stream == *stream {
            bytes += event.envelope.data.len();
            events.push(event);
        }
        if bytes >= Limits::PAGE {
            break;
        }
    }
    Ok(events)
}

fn event_at(connection: &Connection, position: u64) -> rusqlite::Result<Recorded> {
    const SELECT: &str = "SELECT position, stream, version, kind, id, at, schema, public, meta, data FROM _event WHERE position = ?1";
    connection.prepare_cached(SELECT)?.query_row([signed(position)], read_event)
}
