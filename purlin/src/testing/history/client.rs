//! A client: does operations on a store, and writes down what it asked and heard.

use std::collections::HashMap;
use std::time::Duration;

use uuid::Uuid;

use crate::message::Envelope;
use crate::store::{
    Commit, CommitError, Committed, Conflict, EventQuery, Expected, Field, LogFilter, Position, Query,
    ReadError, Record, Recorded, Revision, Row as _, Store, StreamId,
};

use super::{Answer, Ask, Clash, Done, Event, Expect, Journal, Mark, Row, Wanted};

/// The kind of all events.
const KIND: &str = "history.happened";

/// How long a commit's own id is remembered: longer than a history lasts.
const KEEP: Duration = Duration::from_secs(24 * 3600);

/// The record that clients write.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct Written {
    by: u64,
}

impl crate::store::Row for Written {
    const COLLECTION: &'static str = "history_records";
    const FIELDS: &'static [Field] = &[Field::integer("by")];
}

/// The record by which one sees that a commit happened ([`Wanted::is_marked`]).
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct Marked {
    by: u64,
}

impl crate::store::Row for Marked {
    const COLLECTION: &'static str = "history_marks";
}

/// What an event holds.
#[derive(serde::Serialize, serde::Deserialize)]
struct Content {
    by: u64,
    nth: u32,
}

/// One client of a store.
pub(super) struct Client {
    store: Store,
    journal: Journal,
    /// The last version that it knows of each stream.
    pub(super) versions: HashMap<u32, u64>,
    /// The last revision that it knows of each record.
    pub(super) revisions: HashMap<u32, Option<u64>>,
    /// Up to where it has read the log.
    pub(super) read: u64,
}

impl Client {
    pub(super) fn new(store: Store, journal: Journal) -> Self {
        Self { store, journal, versions: HashMap::new(), revisions: HashMap::new(), read: 0 }
    }

    /// Asks, hears, writes both down, and learns from it.
    pub(super) async fn ask(&mut self, ask: Ask) {
        let number = self.journal.asked(ask.clone());
        let answer = match &ask {
            Ask::Commit(wanted) => self.commit(number, wanted).await,
            Ask::Stream { stream, from, limit } => self.stream(*stream, *from, *limit).await,
            Ask::Log { after, limit, tag } => self.log(*after, *limit, *tag).await,
            Ask::Record(key) => self.record(*key).await,
            Ask::Records => self.records().await,
        };
        self.learn(&ask, &answer);
        self.journal.answered(number, answer);
    }

    async fn commit(&self, number: u64, wanted: &Wanted) -> Answer {
        match self.store.commit(build(number, wanted)).await {
            Ok(Committed { position, revision, repeated: true, .. }) => {
                Answer::Repeated { position: position.0, revision }
            }
            Ok(committed) => Answer::Committed(Done {
                position: committed.position.0,
                revision: committed.revision,
                at: committed.at.as_microsecond(),
                appended: committed.appended.iter().map(|one| (one.first.0, one.version)).collect(),
            }),
            Err(CommitError::Conflict(conflict)) => Answer::Conflict(clash(&conflict)),
            Err(error) => Answer::Refused(whole(&error)),
        }
    }

    async fn stream(&self, stream: u32, from: u64, limit: usize) -> Answer {
        match self.store.read_stream(&stream_id(stream), from, limit).await {
            Ok(events) => Answer::Stream(events.iter().map(event).collect()),
            Err(error) => unread(&error),
        }
    }

    /// Engines may give pages that are short; who wants all reads on until there is no more.
    async fn log(&self, after: u64, limit: usize, tag: Option<u32>) -> Answer {
        let filter = tag.map_or_else(LogFilter::all, |tag| LogFilter::matching(tagged(tag)));
        let (mut events, mut through) = (Vec::new(), Position(after));
        while events.len() < limit {
            let page = self.store.read_log(through, &filter, limit - events.len()).await;
            match page {
                Err(error) => return unread(&error),
                Ok(page) if page.through == through => break,
                Ok(page) => {
                    through = page.through;
                    events.extend(page.events.iter().map(event));
                }
            }
        }
        Answer::Log { events, through: through.0 }
    }

    async fn record(&self, key: u32) -> Answer {
        match self.store.get_record(Written::COLLECTION, &key.to_string()).await {
            Ok(record) => Answer::Record(record.as_ref().map(row)),
            Err(error) => unread(&error),
        }
    }

    async fn records(&self) -> Answer {
        match self.store.list::<Written>(Query::all().limit(1000)).await {
            Ok(page) => Answer::Records(page.records.iter().map(row).collect()),
            Err(error) => unread(&error),
        }
    }

    fn learn(&mut self, ask: &Ask, answer: &Answer) {
        match (ask, answer) {
            (Ask::Commit(wanted), Answer::Committed(done)) => {
                let ends = wanted.appends.iter().zip(&done.appended);
                self.versions.extend(ends.map(|((stream, ..), (_, version))| (*stream, *version)));
                let written = wanted.writes.iter();
                self.revisions.extend(written.map(|(key, _, put)| (*key, put.then_some(done.revision))));
            }
            (_, Answer::Conflict(Clash::Stream(stream, _, actual))) => {
                self.versions.insert(*stream, *actual);
            }
            (_, Answer::Conflict(Clash::Record(key, _, actual))) => {
                self.revisions.insert(*key, *actual);
            }
            (_, Answer::Stream(events)) => {
                self.versions.extend(events.iter().map(|event| (event.stream, event.version)));
            }
            (_, Answer::Log { events, through }) => {
                self.read = self.read.max(*through);
                self.versions.extend(events.iter().map(|event| (event.stream, event.version)));
            }
            (Ask::Record(key), Answer::Record(row)) => {
                self.revisions.insert(*key, row.as_ref().map(|row| row.revision));
            }
            (_, Answer::Records(rows)) => {
                self.revisions.extend(rows.iter().map(|row| (row.key, Some(row.revision))));
            }
            _ => {}
        }
    }
}

/// What is stored, read by somebody who waits until it can be.
pub(super) async fn whole_log(store: &Store) -> Result<Vec<Event>, ReadError> {
    let (mut events, mut after) = (Vec::new(), Position::START);
    loop {
        let page = store.read_log(after, &LogFilter::all(), 1000).await?;
        if page.through == after {
            return Ok(events);
        }
        after = page.through;
        events.extend(page.events.iter().map(event));
    }
}

/// All records that clients wrote.
pub(super) async fn all_records(store: &Store) -> Result<Vec<Row>, ReadError> {
    Ok(all::<Written>(store).await?.iter().map(row).collect())
}

/// All marks of commits.
pub(super) async fn all_marks(store: &Store) -> Result<Vec<Mark>, ReadError> {
    let mark = |record: &Record| Mark {
        by: record.decode::<Marked>().map_or(0, |marked| marked.by),
        revision: record.revision,
        position: record.position.0,
    };
    Ok(all::<Marked>(store).await?.iter().map(mark).collect())
}

async fn all<R: crate::store::Row>(store: &Store) -> Result<Vec<Record>, ReadError> {
    let (mut records, mut query) = (Vec::new(), Query::all().limit(1000));
    loop {
        let page = store.list::<R>(query.clone()).await?;
        records.extend(page.records);
        match page.next {
            Some(next) => query = query.after(Some(next)),
            None => return Ok(records),
        }
    }
}

/// The commit that an operation asks for.
fn build(number: u64, wanted: &Wanted) -> Commit {
    let mut commit = Commit::new();
    let mut nth = 0..;
    for (stream, expect, count) in &wanted.appends {
        let events = nth.by_ref().take(*count as usize).map(|nth| envelope(number, nth, wanted.tag));
        commit = commit.append(stream_id(*stream), version(*expect), events);
    }
    for (key, expect) in &wanted.requires {
        commit = commit.require::<Written>(key.to_string(), revision(*expect));
    }
    for (key, expect, put) in &wanted.writes {
        let (key, expected) = (key.to_string(), revision(*expect));
        commit = match put {
            true => commit.put_expecting(key, &Written { by: number }, expected, None),
            false => commit.delete::<Written>(key, expected),
        };
    }
    for (tag, after) in &wanted.unless {
        commit = commit.unless(tagged(*tag), Position(*after));
    }
    if wanted.is_marked() {
        commit = commit.put(number.to_string(), &Marked { by: number });
    }
    match wanted.id {
        // Below the processes' numbers, so that it is no event's.
        Some(id) => commit.with_id(Uuid::from_u64_pair(0, id + 1), KEEP),
        None => commit,
    }
}

fn stream_id(number: u32) -> StreamId {
    StreamId::new("history", number).expect("a category and a number make a name")
}

fn envelope(by: u64, nth: u32, tag: Option<u32>) -> Envelope {
    let data = serde_json::to_vec(&Content { by, nth }).expect("two numbers are JSON");
    let envelope = Envelope { id: event_id(by, nth), ..Envelope::raw(KIND, data) };
    envelope.tagged(tag.map(tag_name))
}

fn tag_name(tag: u32) -> String {
    format!("history:{tag}")
}

fn tagged(tag: u32) -> EventQuery {
    EventQuery::tagged([tag_name(tag)])
}

fn event_id(by: u64, nth: u32) -> Uuid {
    Uuid::from_u64_pair(by, u64::from(nth))
}

fn version(expect: Expect) -> Expected {
    match expect {
        Expect::Any => Expected::Any,
        Expect::Nothing => Expected::NoStream,
        Expect::Exactly(version) => Expected::Version(version),
    }
}

fn revision(expect: Expect) -> Revision {
    match expect {
        Expect::Any => Revision::Any,
        Expect::Nothing => Revision::Absent,
        Expect::Exactly(revision) => Revision::Exact(revision),
    }
}

fn clash(conflict: &Conflict) -> Clash {
    if let Conflict::Stream { stream, expected, actual } = conflict {
        let expect = match expected {
            Expected::Any => Expect::Any,
            Expected::NoStream => Expect::Nothing,
            Expected::Version(version) => Expect::Exactly(*version),
        };
        return Clash::Stream(stream_number(stream), expect, *actual);
    }
    if let Conflict::Record { collection, key, expected, actual } = conflict
        && let (Written::COLLECTION, Ok(key)) = (collection.as_str(), key.parse())
    {
        let expect = match expected {
            Revision::Any => Expect::Any,
            Revision::Absent => Expect::Nothing,
            Revision::Exact(revision) => Expect::Exactly(*revision),
        };
        return Clash::Record(key, expect, *actual);
    }
    if let Conflict::Condition { after, found } = conflict {
        return Clash::Condition(after.0, found.0);
    }
    Clash::Other(conflict.to_string())
}

/// The number of a stream; one that no client has for what no client wrote.
fn stream_number(stream: &StreamId) -> u32 {
    stream.key().parse().ok().filter(|number| stream_id(*number) == *stream).unwrap_or(u32::MAX)
}

fn event(recorded: &Recorded) -> Event {
    let content = serde_json::from_slice::<Content>(&recorded.envelope.data).ok();
    // The id and the content say the same, or it is nobody's.
    let content = content.filter(|Content { by, nth }| recorded.envelope.id == event_id(*by, *nth));
    let Content { by, nth } = content.unwrap_or(Content { by: 0, nth: 0 });
    Event {
        position: recorded.position.0,
        stream: stream_number(&recorded.stream),
        version: recorded.version,
        at: recorded.at.as_microsecond(),
        by,
        nth,
        tag: recorded.envelope.tags.iter().find_map(|tag| tag.strip_prefix("history:")?.parse().ok()),
    }
}

fn row(record: &Record) -> Row {
    let by = record.decode::<Written>().map_or(0, |written| written.by);
    Row {
        key: record.key.parse().unwrap_or(u32::MAX),
        revision: record.revision,
        position: record.position.0,
        by,
    }
}

fn unread(error: &ReadError) -> Answer {
    Answer::Unread(whole(error))
}

/// The error and its causes.
fn whole(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
