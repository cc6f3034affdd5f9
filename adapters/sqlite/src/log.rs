//! The log as readers see it: parts of it, and parts of streams.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use purlin::store::pool::Pool;
use purlin::store::{EventQuery, Limits, LogFilter, Position, ReadError, Recorded, StreamId};
use rusqlite::{Connection, Row};

use crate::archive::{Cold, Scan};
use crate::codec::{Seen, data_of, mismatch, read_event, select, select_at, signed, stored, whose};
use crate::error::unreadable_as;
use crate::index::Lookup;
use crate::older::Older;
use crate::part::{Most, Part};
use crate::reader::Reader;
use crate::tag;

/// How many events with a tag are looked at at once at the least: others of the filter's parts may not want them.
const FEW: usize = 256;

/// Data that are not wanted are read in vain, if they are so short that they lie in the page of their header (of 4,096
/// bytes).
const SHORT_DATA: &str = "CASE WHEN octet_length(data) < 3584 THEN data END";

/// Events for which a page makes room at once, when all are wanted.
const ROOM: usize = 4096;

/// The wanted events behind `after` and up to `until`.
///
/// Every event is looked at, wanted or not: one that is missing, or damaged so that it seems unwanted, is told.
fn read(
    Reader { hot, cold }: &mut Reader,
    (after, until): (Position, Position),
    filter: &LogFilter,
    most: Most,
    older: Older,
) -> Result<Part, ReadError> {
    let part = Part::new(until.max(after), most);
    if until <= after {
        return Ok(part);
    }
    let log = |error| unreadable_as(error, || format!("the log between {after} and {until}"));
    let transaction = hot.transaction().map_err(log)?;
    let (coarse, pool) = (Coarse::of(filter), Pool::of_page());
    let all = *filter == LogFilter::all();
    let mut walk = Walk { part, pool, coarse, filter, all, older };
    let mut select = transaction.prepare_cached(&walk.statement(after)).map_err(log)?;
    let mut rows = Scan::new(select.query([signed(after.0), signed(until.0)]).map_err(log)?);
    if all {
        let room = usize::try_from(until.0 - after.0).unwrap_or(ROOM);
        walk.part.reserve(ROOM.min(room));
    }
    let hot = (&mut rows, &*transaction);
    let Some(gap) = walk.go(after.0 + 1..until.0 + 1, hot, None)? else { return Ok(walk.part) };
    // From here on both are read side by side. The archive is looked at later than the store: see `archive`.
    let missing = |error| unreadable_as(error, || format!("the event at {gap}"));
    let archive = cold.archive_of(gap).map_err(missing)?.ok_or_else(|| missing(mismatch()))?;
    let mut select = archive.prepare_cached(&walk.statement(Position(gap - 1))).map_err(missing)?;
    let mut archived = Scan::new(select.query([signed(gap - 1), signed(until.0)]).map_err(missing)?);
    let hot = (&mut rows, &*transaction);
    match walk.go(gap..until.0 + 1, hot, Some((&mut archived, archive, cold)))? {
        None => Ok(walk.part),
        Some(position) => Err(unreadable_as(mismatch(), || format!("the event at {position}"))),
    }
}

/// On the way through a part of the log.
struct Walk<'a> {
    part: Part,
    pool: Pool,
    coarse: Coarse,
    filter: &'a LogFilter,
    /// Nothing is asked at all.
    all: bool,
    older: Older,
}

impl Walk<'_> {
    /// The rows between two positions. When not all are wanted, without data that are long: see [`Walk::take`].
    fn statement(&self, after: Position) -> String {
        let data = if self.coarse.admits_all() { "data" } else { SHORT_DATA };
        let which = "WHERE position > ?1 AND position <= ?2 ORDER BY position";
        select(self.older.shape(after.0 + 1), data, which)
    }

    /// Takes what is wanted of these positions, until the page is full; the first position that is not there.
    fn go(
        &mut self,
        positions: Range<u64>,
        (rows, hot): (&mut Scan<'_>, &Connection),
        mut archived: Option<(&mut Scan<'_>, &Connection, &Cold)>,
    ) -> Result<Option<u64>, ReadError> {
        let older = self.older;
        for position in positions {
            if self.part.is_full() {
                self.part.through = Position(position - 1);
                break;
            }
            let missing = |error| unreadable_as(error, || format!("the event at {position}"));
            match (rows.at(position).map_err(missing)?, &mut archived) {
                (Some(row), _) => {
                    let damaged = |error| unreadable_as(error, || whose(position, row, older));
                    self.take(position, row, hot).map_err(damaged)?;
                }
                (None, Some((archived, file, cold))) => {
                    let Some(row) = archived.at(position).map_err(missing)? else {
                        return Ok(Some(position));
                    };
                    let damaged = |error| unreadable_as(error, || cold.whose(position, row));
                    self.take(position, row, file).map_err(damaged)?;
                }
                (None, None) => return Ok(Some(position)),
            }
        }
        Ok(None)
    }

    fn take(&mut self, position: u64, row: &Row<'_>, file: &Connection) -> rusqlite::Result<()> {
        if self.all
            && let Some((header, data)) = stored(position, row, self.older)?
        {
            self.part.pack(position, header, data);
            return Ok(());
        }
        let seen = Seen::at(position, row, self.older)?;
        if !self.coarse.admits(&seen) {
            return Ok(());
        }
        let Some(data) = data_of(row)? else {
            let mut select = file.prepare_cached(select_at(self.older.shape(position)))?;
            let mut rows = select.query([signed(position)])?;
            let row = rows.next()?.ok_or_else(mismatch)?;
            let seen = Seen::at(position, row, self.older)?;
            return self.keep(seen, data_of(row)?.ok_or_else(mismatch)?);
        };
        self.keep(seen, data)
    }

    /// Takes an event, if its data are as wanted as its header.
    fn keep(&mut self, seen: Seen<'_>, data: &[u8]) -> rusqlite::Result<()> {
        seen.check(data)?;
        if self.coarse.is_exact
            && let Some(stored) = seen.stored
        {
            self.part.pack(seen.position, stored, data);
            return Ok(());
        }
        let mut event = seen.event(Bytes::new(), &mut self.pool)?;
        if self.filter.admits(&event) {
            // Data share a chunk: of what is not wanted none is to lie there.
            event.envelope.data = self.pool.data(data);
            self.part.push(event);
        }
        Ok(())
    }
}

/// What of a filter is asked of an event's header before its data are looked at: all that it admits is admitted here.
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

    fn admits_all(&self) -> bool {
        !self.public && !self.births && self.streams.is_none() && self.kinds.is_empty()
    }

    fn admits(&self, seen: &Seen<'_>) -> bool {
        let header = &seen.header;
        let within = |(from, to): &(String, String)| (from.as_str()..to.as_str()).contains(&header.stream);
        (header.public || !self.public)
            && (seen.version == 1 || !self.births)
            && self.streams.as_ref().is_none_or(within)
            && (self.kinds.is_empty() || self.kinds.iter().any(|kind| **kind == *header.kind))
    }
}

/// A page of the log behind a position, of which so much is looked through; what an index of tags finds is looked for up
/// to its end.
pub(crate) fn page(
    reader: &mut Reader,
    after: Position,
    (until, head): (Position, Position),
    filter: &LogFilter,
    most: Most,
    older: Older,
) -> Result<Part, ReadError> {
    match &filter.matching {
        Some(query) if query.is_by_tag() => read_tagged(reader, (after, head), (filter, query), most, older),
        _ => read(reader, (after, until), filter, most, older),
    }
}

/// As [`read`], for a filter whose events an index of tags finds, wherever they are. An event that has not the tags by
/// which it was found is told; one that the index does not find is not missed.
fn read_tagged(
    Reader { hot, cold }: &mut Reader,
    (after, until): (Position, Position),
    (filter, query): (&LogFilter, &EventQuery),
    most: Most,
    older: Older,
) -> Result<Part, ReadError> {
    let log = |error| unreadable_as(error, || format!("the log between {after} and {until}"));
    if until <= after || most.events == 0 {
        return Ok(Part::new(after, most));
    }
    let transaction = hot.transaction().map_err(log)?;
    let looked_at = most.events.max(FEW);
    let (positions, through) = tag::find(&transaction, query, after, until, looked_at).map_err(log)?;
    let (mut part, mut last) = (Part::new(through, most), after);
    for position in positions {
        if part.is_full() {
            part.through = last;
            break;
        }
        let event = event_at((&transaction, cold), position, None, older)?;
        if !query.matches(&event.envelope) {
            return Err(unreadable_as(mismatch(), || format!("the tags of the event at {position}")));
        }
        if filter.admits(&event) {
            last = event.position;
            part.push(event);
        }
    }
    Ok(part)
}

/// The events of a stream with some versions, one way or the other, cut once their data reach [`Limits::PAGE`].
pub(crate) fn read_stream(
    Reader { hot, cold }: &mut Reader,
    stream: &StreamId,
    lookup: &Lookup,
    versions: Range<u64>,
    backwards: bool,
    older: Older,
) -> Result<Vec<Recorded>, Unread> {
    let transaction = hot.transaction().map_err(Unread::Index)?;
    let mut positions =
        lookup.positions(&transaction, versions.start, versions.end).map_err(Unread::Index)?;
    if backwards {
        positions.reverse();
    }
    let (mut events, mut bytes, mut before) = (Vec::new(), 0, None);
    for position in positions {
        let event = event_at((&transaction, cold), position, Some(stream), older).map_err(Unread::Event)?;
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
    (hot, cold): (&Connection, &Cold),
    position: u64,
    stream: Option<&StreamId>,
    older: Older,
) -> Result<Recorded, ReadError> {
    let sql = select_at(older.shape(position));
    let missing = |error| {
        unreadable_as(error, || match stream {
            Some(stream) => format!("the event at {position} of the stream `{stream}`"),
            None => format!("the event at {position}"),
        })
    };
    let mut select = hot.prepare_cached(sql).map_err(missing)?;
    let mut rows = select.query([signed(position)]).map_err(missing)?;
    if let Some(row) = rows.next().map_err(missing)? {
        return read_event(row, older).map_err(|error| unreadable_as(error, || whose(position, row, older)));
    }
    let archive = cold.archive_of(position).map_err(missing)?.ok_or_else(|| missing(mismatch()))?;
    let mut select = archive.prepare_cached(sql).map_err(missing)?;
    let mut rows = select.query([signed(position)]).map_err(missing)?;
    let row = rows.next().map_err(missing)?.ok_or_else(|| missing(mismatch()))?;
    read_event(row, older).map_err(|error| unreadable_as(error, || cold.whose(position, row)))
}
