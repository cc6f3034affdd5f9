//! Reads: connections of their own, so that no reader waits for the writer.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::TryStreamExt;
use futures_util::future::try_join_all;
use purlin::store::{
    Cause, EventQuery, Field, Limits, LogFilter, LogPage, Position, ReadError, Recorded, StreamId,
};
use tokio::time::Instant;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row, Statement};

use crate::codec::{COLUMNS, data_len, limit, read_events, signed, unsigned};
use crate::error::{is_lost, is_stale, unreadable};
use crate::link::{Link, Session, session};
use crate::names::Schema;
use crate::schema::CHANGES;
use crate::shared::{Shared, Tables};
use crate::tag;

/// A statement that reads, and its values.
pub(crate) struct Select {
    pub(crate) sql: String,
    values: Vec<Box<dyn ToSql + Sync + Send>>,
    /// It reads events.
    events: Option<Events>,
}

/// A statement of events, which otherwise is cut by the server once their data have too many bytes. That costs it more than
/// all the rest.
struct Events {
    /// The statement that is cut only here, where the rest is then thrown away: for events that are thought to be small.
    uncut: String,
    /// How many there can be.
    most: usize,
}

impl Select {
    pub(crate) fn new(sql: String) -> Self {
        Self { sql, values: Vec::new(), events: None }
    }

    /// The same for events, `most` at the most.
    fn of_events((sql, uncut): (String, String), most: usize) -> Self {
        Self { sql, values: Vec::new(), events: Some(Events { uncut, most }) }
    }

    /// What is said to the server when events have so many bytes.
    fn said(&self, size: &EventSize) -> &str {
        match &self.events {
            Some(Events { uncut, most }) if size.is_small(*most) => uncut,
            _ => &self.sql,
        }
    }

    /// The next value.
    pub(crate) fn with(mut self, value: impl ToSql + Sync + Send + 'static) -> Self {
        self.values.push(Box::new(value));
        self
    }

    /// Adds a value, and gives the mark that stands for it.
    pub(crate) fn mark(&mut self, value: impl ToSql + Sync + Send + 'static) -> String {
        self.values.push(Box::new(value));
        format!("${}", self.values.len())
    }

    async fn run(
        &self,
        session: &Session,
        statement: &Statement,
        size: &EventSize,
    ) -> Result<Vec<Row>, Error> {
        let values: Vec<&(dyn ToSql + Sync)> = self.values.iter().map(|value| &**value as _).collect();
        if self.events.is_none() {
            return session.client.query(statement, &values).await;
        }
        let mut rows = pin!(session.client.query_raw(statement, values).await?);
        let (mut events, mut bytes, mut largest) = (Vec::new(), 0, 0);
        while bytes < Limits::PAGE
            && let Some(row) = rows.try_next().await?
        {
            let data = data_len(&row)?;
            (bytes, largest) = (bytes + data, largest.max(data));
            events.push(row);
        }
        size.saw(events.len(), largest);
        Ok(events)
    }
}

/// The rows of each statement. All are prepared before the first is sent: they reach the server in this order.
async fn run_all(selects: &[Select], session: &Session, size: &EventSize) -> Result<Vec<Vec<Row>>, Error> {
    let mut statements = Vec::with_capacity(selects.len());
    for select in selects {
        statements.push(session.statement(select.said(size)).await?);
    }
    let prepared = selects.iter().zip(&statements);
    try_join_all(prepared.map(|(select, statement)| select.run(session, statement, size))).await
}

/// How many bytes the largest event had that was read lately; 0 as long as none was. It falls by half in some 6,000 events.
#[derive(Default)]
struct EventSize(AtomicUsize);

impl EventSize {
    /// Whether so many events are thought to be far from filling a page.
    fn is_small(&self, most: usize) -> bool {
        let largest = self.0.load(Ordering::Relaxed);
        largest > 0 && most.saturating_mul(largest) <= Limits::PAGE / 4
    }

    fn saw(&self, events: usize, largest: usize) {
        const SLOWLY: usize = 8192;
        let before = self.0.load(Ordering::Relaxed);
        let fallen = before - before.saturating_mul(events.min(SLOWLY / 8)).div_ceil(SLOWLY);
        if events > 0 {
            self.0.store(largest.max(fallen).max(1), Ordering::Relaxed);
        }
    }
}

/// The connections that read, in turn.
pub(crate) struct Readers {
    links: Vec<Link>,
    next: AtomicUsize,
    size: EventSize,
    patience: Duration,
}

impl Readers {
    pub(crate) fn new(links: Vec<Link>, patience: Duration) -> Self {
        Self { links, next: AtomicUsize::new(0), size: EventSize::default(), patience }
    }

    /// The rows of a statement.
    pub(crate) async fn ask(&self, select: Select) -> Result<Vec<Row>, ReadError> {
        let mut rows = self.ask_all(vec![select]).await?;
        Ok(rows.pop().unwrap_or_default())
    }

    /// The rows of each statement, asked in order on one connection.
    pub(crate) async fn ask_all(&self, selects: Vec<Select>) -> Result<Vec<Vec<Row>>, ReadError> {
        self.ask_over(&mut self.in_turn(), selects).await
    }

    /// The connection whose turn it is.
    fn in_turn(&self) -> Link {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.links.len();
        self.links[turn].clone()
    }

    /// The rows of each statement, asked in order over this connection. A read that a lost connection cut off is done
    /// again; it changes nothing.
    async fn ask_over(&self, link: &mut Link, selects: Vec<Select>) -> Result<Vec<Vec<Row>>, ReadError> {
        let (mut failed, mut lost): (Option<Arc<Session>>, Option<Instant>) = (None, None);
        let mut pause = Duration::ZERO;
        loop {
            let session = session(link, failed.as_ref()).await;
            let session = session.map_err(|error| ReadError::Unavailable(Cause::from(error)))?;
            match run_all(&selects, &session, &self.size).await {
                Ok(rows) => return Ok(rows),
                Err(error)
                    if is_lost(&error) && lost.get_or_insert_with(Instant::now).elapsed() < self.patience =>
                {
                    // It may have been said in words, by a pool that has lost its server and keeps us.
                    session.discard();
                    failed = Some(session);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).clamp(Duration::from_millis(10), Duration::from_millis(500));
                }
                Err(error) => return Err(unreadable(error)),
            }
        }
    }

    /// As [`Readers::ask`]; none when a table or column of it is not there any more.
    pub(crate) async fn ask_unless_stale(&self, select: Select) -> Result<Option<Vec<Row>>, ReadError> {
        match self.ask(select).await {
            Err(ReadError::Unavailable(error)) if error.downcast_ref::<Error>().is_some_and(is_stale) => {
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    /// Reads the collections again.
    pub(crate) async fn refresh(&self, shared: &Shared) -> Result<(), ReadError> {
        let rows = self.ask(Select::new(collections_sql(&shared.schema))).await?;
        shared.set_tables(read_collections(shared, &rows).map_err(unreadable)?);
        Ok(())
    }
}

/// The statement of [`read_collections`]; at least one row, so that the count of changes is always told.
pub(crate) fn collections_sql(schema: &Schema) -> String {
    format!(
        "SELECT m.value::bigint, c.name, c.fields FROM {} AS m LEFT JOIN {} AS c ON TRUE WHERE m.name = '{CHANGES}'",
        schema.table("_meta"),
        schema.table("_collection"),
    )
}

/// The collections that a store has. What is as it was known is kept.
pub(crate) fn read_collections(shared: &Shared, rows: &[Row]) -> Result<Tables, Error> {
    let known = shared.tables();
    let mut tables = Tables::default();
    for row in rows {
        tables.generation = row.try_get(0)?;
        let Some(name) = row.try_get::<_, Option<String>>(1)? else { continue };
        let before = known.named.get(&name);
        let fields_before: Vec<_> =
            known.named.values().flat_map(|table| table.definition.fields.iter()).collect();
        let fields: Vec<_> = row
            .try_get::<_, &str>(2)?
            .split_whitespace()
            .filter_map(|field| Field::parse(field, &fields_before))
            .collect();
        let table = match before {
            Some(table) if *table.definition.fields == fields[..] => Arc::clone(table),
            _ => {
                let definition =
                    purlin::store::Collection { name: name.clone().into(), fields: fields.into() };
                Arc::new(crate::collection::Table::new(&shared.schema, definition))
            }
        };
        tables.named.insert(name, table);
    }
    Ok(tables)
}

/// The statement of events, cut once their data reach [`Limits::PAGE`] bytes; and the one that is not cut.
fn events(schema: &Schema, conditions: &str, order: &str, most: &str) -> (String, String) {
    let event = schema.table("_event");
    let uncut =
        format!("SELECT {COLUMNS} FROM {event} AS e WHERE {conditions} ORDER BY {order} LIMIT {most}");
    let cut = format!(
        "SELECT {COLUMNS} FROM (\
         SELECT *, sum(octet_length(data)) OVER (ORDER BY {order} ROWS UNBOUNDED PRECEDING) - octet_length(data) AS before \
         FROM ({uncut}) AS wanted) AS page WHERE before < {} ORDER BY {order}",
        Limits::PAGE,
    );
    (cut, uncut)
}

/// A part of a stream.
pub(crate) fn stream(schema: &Schema, stream: &StreamId, from: u64, most: usize) -> Select {
    let conditions = format!("{} AND version >= $2", schema.of_stream("e", "$1::text"));
    Select::of_events(events(schema, &conditions, "version", "$3"), most)
        .with(stream.as_str().to_owned())
        .with(signed(from))
        .with(limit(most))
}

/// A part of a stream, the newest first.
pub(crate) fn stream_back(schema: &Schema, stream: &StreamId, before: u64, most: usize) -> Select {
    let conditions = format!("{} AND version < $2", schema.of_stream("e", "$1::text"));
    Select::of_events(events(schema, &conditions, "version DESC", "$3"), most)
        .with(stream.as_str().to_owned())
        .with(signed(before))
        .with(limit(most))
}

/// How many positions are looked through for wanted events at once at the most.
const WINDOW: u64 = 50_000;

/// A part of the log: the statements of [`read_page`].
///
/// The head is read first. Whatever it says is in the snapshot of the second statement too, because positions become
/// visible in order.
pub(crate) fn log(schema: &Schema, after: Position, filter: &LogFilter, most: usize) -> Vec<Select> {
    let head = format!("SELECT coalesce(max(position), 0) FROM {}", schema.table("_hot"));
    let until = signed(after.0.saturating_add(WINDOW));
    let mut page = Select::new(String::new()).with(signed(after.0)).with(until).with(limit(most));
    let mut conditions = "position > $1 AND position <= $2".to_owned();
    if filter.public {
        conditions.push_str(" AND public");
    }
    if filter.births {
        conditions.push_str(" AND version = 1");
    }
    if let Some((from, to)) = filter.streams() {
        let (from, to) = (page.mark(from), page.mark(to));
        conditions.push_str(&format!(" AND stream >= {from} AND stream < {to}"));
    } else if let Some(tenant) = &filter.tenant {
        // A tenant's mark stands behind the first dash of a stream's name.
        let begins = page.mark(format!("{tenant}~"));
        conditions.push_str(&format!(" AND starts_with(substr(stream, strpos(stream, '-') + 1), {begins})"));
    }
    if let Some(query) = &filter.matching {
        conditions.push_str(" AND ");
        conditions.push_str(&tag::matching(schema, query, &mut page));
    }
    let (cut, uncut) = events(schema, &conditions, "position", "$3");
    page.sql = cut;
    page.events = Some(Events { uncut, most });
    vec![Select::new(head), page]
}

/// How many events with a tag are looked at at once at the least: others of the filter's parts may not want them.
const FEW: usize = 256;

impl Readers {
    /// A part of the log whose events an index of tags finds, wherever they are.
    pub(crate) async fn tagged(
        &self,
        schema: &Schema,
        after: Position,
        (filter, query): (&LogFilter, &EventQuery),
        most: usize,
    ) -> Result<LogPage, ReadError> {
        let many = most.max(FEW);
        let head = Select::new(format!("SELECT coalesce(max(position), 0) FROM {}", schema.table("_hot")));
        // Another connection may be one to a server that lags.
        let mut link = self.in_turn();
        let answers = self.ask_over(&mut link, vec![head, tag::find(schema, query, after, many)]).await?;
        let head: i64 = answers[0].first().map_or(Ok(0), |row| row.try_get(0)).map_err(unreadable)?;
        let head = Position(unsigned(head)).max(after);
        let (positions, mut through) = tag::found(&answers[1], head, many).map_err(unreadable)?;
        if positions.is_empty() || most == 0 {
            let through = if most == 0 { after } else { through };
            return Ok(LogPage { events: Vec::new(), through });
        }
        let wanted = events(schema, "position = ANY ($1::bigint[])", "position", "$2");
        let wanted = Select::of_events(wanted, many).with(positions.clone()).with(limit(many));
        let mut rows = self.ask_over(&mut link, vec![wanted]).await?;
        let mut found = read_events(&rows.pop().unwrap_or_default()).await?;
        // Large events are cut, and the connection may have been made anew, to a server that lags: what was not read is left
        // for the next page.
        let read =
            found.iter().zip(&positions).take_while(|(event, wanted)| signed(event.position.0) == **wanted);
        let read = read.count();
        found.truncate(read);
        if read < positions.len() {
            through = found.last().map_or(after, |event| event.position);
        }
        let mut wanted = found.into_iter().filter(|event| filter.admits(event));
        let page: Vec<Recorded> = wanted.by_ref().take(most).collect();
        if wanted.next().is_some()
            && let Some(last) = page.last()
        {
            through = last.position;
        }
        Ok(LogPage { events: page, through })
    }
}

/// How far the rows of [`log`] go.
pub(crate) fn through(after: Position, most: usize, answers: &[Vec<Row>]) -> Result<Position, ReadError> {
    let [head, events] = answers else {
        return Err(ReadError::Invalid("a page is read by two statements".into()));
    };
    let position = |row: &Row| row.try_get::<_, i64>(0).map(unsigned).map_err(unreadable);
    let head = head.first().map_or(Ok(0), position)?;
    let until = head.min(after.0.saturating_add(WINDOW)).max(after.0);
    let mut bytes = 0;
    for event in events {
        bytes += data_len(event).map_err(unreadable)?;
    }
    let cut = events.len() >= most || bytes >= Limits::PAGE;
    match events.last().map(position).transpose()? {
        // There may be more behind the last one.
        Some(last) if cut && last <= until => Ok(Position(last)),
        None if most == 0 => Ok(after),
        _ => Ok(Position(until)),
    }
}

/// The page that the rows of [`log`] make, which go so far. Where all events are wanted none of them may be missing: the page
/// ends before the first that is, and who goes on there hears of it.
pub(crate) async fn read_page(
    (after, through): (Position, Position),
    all: bool,
    answers: &[Vec<Row>],
) -> Result<LogPage, ReadError> {
    let mut events = read_events(answers.last().map_or(&[], Vec::as_slice)).await?;
    // What came in between the two statements is left for the next page.
    events.retain(|event| event.position <= through);
    let missing = if all { first_missing(after, through, &events) } else { None };
    let Some(missing) = missing else { return Ok(LogPage { events, through }) };
    if missing.0 == after.0 + 1 {
        let what = format!("the event at {missing}");
        return Err(ReadError::Unreadable { what, source: Missing.into() });
    }
    events.retain(|event| event.position < missing);
    Ok(LogPage { events, through: Position(missing.0 - 1) })
}

/// A position that no event has.
#[derive(Debug, thiserror::Error)]
#[error("it is not there, and positions have no gaps")]
struct Missing;

/// The first position of a part of the log that none of its events has.
fn first_missing(after: Position, through: Position, events: &[Recorded]) -> Option<Position> {
    if through <= after {
        return None;
    }
    let mut positions = (after.0 + 1..=through.0).map(Position);
    let mut there = events.iter().map(|event| event.position);
    positions.find(|position| there.next() != Some(*position))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_large_event_it_takes_thousands_until_they_are_thought_to_be_small_again() {
        let size = EventSize::default();
        assert!(!size.is_small(1), "nothing is known");
        size.saw(1000, 200);
        assert!(size.is_small(1000));
        size.saw(1000, 1 << 20);
        assert!(!size.is_small(3));
        let mut events = 0;
        while !size.is_small(1000) {
            size.saw(1, 200);
            events += 1;
        }
        assert!(events > 20_000, "{events}");
    }
}
