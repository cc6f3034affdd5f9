//! Commits on their way through one transaction.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, OptionalExtension, ToSql, params_from_iter};

use purlin::message::Timestamp;
use purlin::store::{
    Append, Appended, Change, Commit, CommitError, Committed, Conflict, Position, Revision, StreamId, Write,
    WriteKind,
};

use super::collections::{self, Tables};
use super::heads::Heads;
use super::{Queued, Ready};
use crate::checksum::Sum;
use crate::codec::{self, signed};
use crate::collection::Table;
use crate::engine::Shared;
use crate::error::{in_writer, unavailable};
use crate::header::{self, bodies};
use crate::index::run::LAST_VERSION;
use crate::index::{Head, Index, Key, KeyMap};
use crate::older::Shape;
use crate::{schema, tag};

/// Something that is in the file if, and only if, the transaction happened.
pub(super) enum Trace {
    Event {
        position: u64,
        shape: Shape,
        id: [u8; 16],
    },
    /// The last revision of all, which every transaction that touches records or collections writes down.
    Revision(u64),
}

/// What becomes true when the transaction happens.
pub(super) struct Applied {
    /// The last event's.
    pub(super) position: u64,
    pub(super) last: Timestamp,
    pub(super) revision: u64,
    /// What the index learns: stream, version, position.
    pub(super) appended: Vec<(Key, u64, u64)>,
    /// The collections, if any was changed.
    pub(super) tables: Option<Vec<Table>>,
    /// By what one sees that it has happened.
    pub(super) trace: Option<Trace>,
}

/// Applies commits inside a transaction of the writer. It learns nothing about whether the transaction happens.
pub(super) struct Batch<'a> {
    connection: &'a Connection,
    index: &'a Index,
    tables: &'a Tables,
    heads: &'a mut Heads,
    shared: &'a Shared,
    at: Timestamp,
    /// The last event's.
    last: Timestamp,
    position: u64,
    revision: u64,
    appended: Vec<(Key, u64, u64)>,
    /// The last version of each append's stream before it, of the commit that is being applied.
    before: Vec<u64>,
    first: Option<(u64, [u8; 16])>,
    touched: bool,
    /// The collections as a commit has changed them, which is the last one then.
    changed: Option<Vec<Table>>,
    insert: CachedStatement<'a>,
    header: Vec<u8>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(
        connection: &'a Connection,
        shared: &'a Shared,
        (index, tables): (&'a Index, &'a Tables),
        heads: &'a mut Heads,
        (position, revision, at, last): (u64, u64, Timestamp, Timestamp),
    ) -> rusqlite::Result<Self> {
        let insert = connection.prepare_cached(codec::insert(shared.older))?;
        let (appended, before, header) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self {
            connection,
            index,
            tables,
            heads,
            shared,
            position,
            revision,
            at,
            last,
            appended,
            before,
            first: None,
            touched: false,
            changed: None,
            insert,
            header,
        })
    }

    /// What was applied. The last revision is written down with the records, so that none is given out twice.
    pub(super) fn finish(self) -> rusqlite::Result<Applied> {
        let Self { position, last, revision, appended, first, touched, changed, shared, .. } = self;
        let shape = |position| shared.older.shape(position);
        let mut trace = first.map(|(position, id)| Trace::Event { position, shape: shape(position), id });
        if touched {
            schema::set_revision(self.connection, revision)?;
            trace = Some(Trace::Revision(revision));
        }
        Ok(Applied { position, last, revision, appended, tables: changed, trace })
    }

    /// Finds the ends of all streams that are not in mind, together: that takes less time than one after the other.
    pub(super) fn prepare(&mut self, waiting: &[Queued]) {
        let keys = waiting.iter().flat_map(|queued| &queued.ready.keys).copied();
        let unknown =
            keys.filter(|key| !self.heads.has(*key) && self.index.tail.last_version(*key).is_none());
        let unknown: Vec<Key> = unknown.collect();
        // One alone is found when it is wanted.
        if unknown.len() > 1 {
            for (key, head) in self.index.heads(self.connection, unknown) {
                self.heads.set(key, head);
            }
        }
    }

    /// Applies a commit, or says why it cannot be; an error of SQLite is the whole transaction's.
    pub(super) fn apply(&mut self, ready: &Ready) -> rusqlite::Result<Result<Committed, CommitError>> {
        let Ready { commit, keys, sums, .. } = ready;
        if let Err(refused) = self.check(commit, keys)? {
            return Ok(Err(refused));
        }
        self.revision = (self.revision + 1).max(self.at.as_microsecond().unsigned_abs());
        let mut appended = Vec::with_capacity(commit.appends.len());
        let mut bodies = bodies(&ready.bodies);
        for (n, (append, key)) in commit.appends.iter().zip(keys).enumerate() {
            appended.push(self.append(append, *key, self.before[n], &mut bodies)?);
        }
        for (write, sum) in commit.writes.iter().zip(sums) {
            self.write(write, *sum)?;
        }
        if !commit.changes.is_empty() {
            self.changed = collections::change(self.connection, commit, self.tables)?;
            self.touched |= self.changed.is_some();
        }
        let (position, revision, at) = (Position(self.position), self.revision, self.at);
        Ok(Ok(Committed { position, revision, at, appended, repeated: false }))
    }

    /// Whether everything is as the commit expects, before any of it is applied.
    fn check(&mut self, commit: &Commit, keys: &[Key]) -> rusqlite::Result<Result<(), CommitError>> {
        if let Err(conflict) = self.check_appends(&commit.appends, keys)? {
            return Ok(Err(CommitError::Conflict(conflict)));
        }
        let ends = self.before.iter().zip(&commit.appends).map(|(n, append)| n + append.events.len() as u64);
        if ends.max() > Some(LAST_VERSION) {
            return Ok(Err(full(commit)));
        }
        let required = commit.requirements.iter().map(|r| (&r.collection, &r.key, r.expected));
        let written = commit.writes.iter().map(|w| (&w.collection, &w.key, w.expected));
        for (collection, key, expected) in required.chain(written) {
            let Some(table) = self.tables.get(collection.as_ref()) else {
                return Ok(Err(undefined(collection)));
            };
            if expected == Revision::Any {
                continue;
            }
            let actual = table.revision(self.connection, key)?;
            if actual.is_none()
                && let Err(damaged) = self.shared.damage().knows_all_of(collection)
            {
                return Ok(Err(unavailable(damaged)));
            }
            if !expected.admits(actual) {
                let (collection, key) = (collection.to_string(), key.clone());
                return Ok(Err(CommitError::Conflict(Conflict::Record {
                    collection,
                    key,
                    expected,
                    actual,
                })));
            }
        }
        for condition in &commit.conditions {
            let after = condition.after;
            if after.0 > self.position {
                return Ok(Err(CommitError::ahead(after, Position(self.position))));
            }
            if let Some(found) = tag::excluded(self.connection, condition)? {
                return Ok(Err(CommitError::Conflict(Conflict::Condition { after, found })));
            }
        }
        for change in &commit.changes {
            if let Change::Swap { from, .. } = change
                && !self.tables.contains_key(from)
            {
                return Ok(Err(undefined(from)));
            }
        }
        for write in &commit.writes {
            if let WriteKind::Put { of, .. } = &write.kind
                && let Some(table) = self.tables.get(write.collection.as_ref())
                && table.definition.fields != *of
            {
                return Ok(Err(other_fields(write)));
            }
        }
        Ok(Ok(()))
    }

    fn check_appends(&mut self, appends: &[Append], keys: &[Key]) -> rusqlite::Result<Result<(), Conflict>> {
        self.before.clear();
        // What earlier appends of the same commit add; most commits have but one.
        let mut staged = KeyMap::default();
        for (append, key) in appends.iter().zip(keys) {
            let mut actual = self.head(&append.stream, *key)?.version;
            if appends.len() > 1 {
                let version = staged.entry(*key).or_insert(actual);
                actual = *version;
                *version += append.events.len() as u64;
            }
            if !append.expected.admits(actual) {
                let (stream, expected) = (append.stream.clone(), append.expected);
                return Ok(Err(Conflict::Stream { stream, expected, actual }));
            }
            self.before.push(actual);
        }
        Ok(Ok(()))
    }

    /// A stream's last version, earlier commits of this transaction included.
    fn head(&mut self, stream: &StreamId, key: Key) -> rusqlite::Result<Head> {
        if let Some(head) = self.heads.get(key) {
            return Ok(head);
        }
        let head = self.index.head(self.connection, key);
        let head = head.map_err(|error| in_writer(error, || format!("the end of the stream `{stream}`")))?;
        self.heads.set(key, head);
        Ok(head)
    }

    fn append<'b>(
        &mut self,
        append: &Append,
        key: Key,
        mut version: u64,
        bodies: &mut impl Iterator<Item = (Sum, &'b [u8])>,
    ) -> rusqlite::Result<Appended> {
        self.last = append.at.unwrap_or(self.at).max(self.last);
        let (first, at) = (Position(self.position + 1), self.last.as_microsecond());
        for (event, body) in append.events.iter().zip(bodies) {
            self.position += 1;
            version += 1;
            let place = [self.position, version, at.cast_unsigned()];
            header::pack(body, place, &mut self.header);
            self.insert.execute((signed(self.position), self.header.as_slice(), Text(&event.data)))?;
            if !event.tags.is_empty() {
                tag::insert(self.connection, self.position, event)?;
            }
            self.appended.push((key, version, self.position));
            self.first.get_or_insert((self.position, *event.id.as_bytes()));
        }
        self.heads.set(key, Head { version });
        Ok(Appended { first, version })
    }

    fn write(&mut self, write: &Write, sum: Sum) -> rusqlite::Result<()> {
        let table = &self.tables[write.collection.as_ref()];
        self.touched = true;
        match &write.kind {
            WriteKind::Delete => {
                self.connection.prepare_cached(&table.delete)?.execute([&write.key])?;
            }
            WriteKind::Put { value, fields, due, .. } => {
                let (revision, position) = (signed(self.revision), signed(self.position));
                let due = due.map(|due| due.as_microsecond());
                let (value, sum) = (Text(value), sum.numbers([self.revision, self.position]).stored());
                let columns: Vec<_> = table.columns_of(fields).collect();
                let fixed: [&dyn ToSql; 6] = [&write.key, &revision, &position, &due, &value, &sum];
                let values = fixed.into_iter().chain(columns.iter().map(|column| column as &dyn ToSql));
                self.connection.prepare_cached(&table.put)?.execute(params_from_iter(values))?;
            }
        }
        Ok(())
    }
}

impl Trace {
    /// Whether it is there.
    pub(super) fn is_in(&self, connection: &Connection) -> rusqlite::Result<bool> {
        match self {
            Self::Event { position, shape, id } => {
                let found = connection.query_row(codec::select_at(*shape), [signed(*position)], |row| {
                    Ok(header::has_id(row.get_ref(1)?.as_blob()?, id))
                });
                Ok(found.optional()?.unwrap_or(false))
            }
            Self::Revision(revision) => Ok(schema::revision(connection)? == *revision),
        }
    }
}

#[cold]
fn full(commit: &Commit) -> CommitError {
    let streams: Vec<&str> = commit.appends.iter().map(|append| append.stream.as_str()).collect();
    CommitError::Invalid(format!("a stream has {LAST_VERSION} events at the most: {}", streams.join(", ")))
}

#[cold]
fn undefined(collection: &str) -> CommitError {
    CommitError::Invalid(format!("the collection `{collection}` is not defined in this store"))
}

#[cold]
fn other_fields(write: &Write) -> CommitError {
    CommitError::Invalid(format!("the collection `{}` is defined with other fields", write.collection))
}

/// JSON, as the text that SQLite's JSON functions read.
struct Text<'a>(&'a [u8]);

impl ToSql for Text<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(self.0)))
    }
}
