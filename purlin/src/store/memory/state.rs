//! What a store in memory has, and how a commit changes it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use crate::message::{Envelope, Timestamp};
use crate::store::pool::Pool;
use crate::store::{
    Append, Appended, Archived, Change, Collection, Commit, CommitError, Condition, Conflict, Position,
    Query, ReadError, Record, Recorded, Scalar, StreamId, WriteKind,
};

#[derive(Default)]
pub(super) struct State {
    pub(super) events: Vec<Recorded>,
    pub(super) pool: Pool,
    pub(super) streams: HashMap<StreamId, Vec<usize>>,
    /// How many events of a stream, from its first, are archived. Nothing lies anywhere else for it.
    pub(super) archived: HashMap<StreamId, usize>,
    pub(super) collections: BTreeMap<String, Table>,
    pub(super) revision: u64,
    pub(super) at: Timestamp,
    /// The last event's.
    pub(super) last: Timestamp,
    pub(super) closed: bool,
}

pub(super) struct Table {
    pub(super) definition: Collection,
    pub(super) records: BTreeMap<String, Record>,
}

impl State {
    pub(super) fn check(&self, commit: &Commit) -> Result<(), CommitError> {
        let mut staged: HashMap<&StreamId, u64> = HashMap::new();
        for append in &commit.appends {
            let version = staged.entry(&append.stream).or_insert_with(|| self.version(&append.stream));
            if !append.expected.admits(*version) {
                let (stream, expected, actual) = (append.stream.clone(), append.expected, *version);
                return Err(CommitError::Conflict(Conflict::Stream { stream, expected, actual }));
            }
            *version += append.events.len() as u64;
        }
        let required = commit.requirements.iter().map(|r| (&r.collection, &r.key, r.expected));
        let written = commit.writes.iter().map(|w| (&w.collection, &w.key, w.expected));
        for (collection, key, expected) in required.chain(written) {
            let table = self.table(collection).map_err(|error| CommitError::Invalid(error.to_string()))?;
            let actual = table.records.get(key).map(|record| record.revision);
            if !expected.admits(actual) {
                let (collection, key) = (collection.to_string(), key.clone());
                return Err(CommitError::Conflict(Conflict::Record { collection, key, expected, actual }));
            }
        }
        for Condition { query, after } in &commit.conditions {
            let head = Position(self.events.len() as u64);
            if *after > head {
                return Err(CommitError::ahead(*after, head));
            }
            let behind = self.events.iter().rev().take_while(|event| event.position > *after);
            if let Some(event) = behind.into_iter().find(|event| query.matches(&event.envelope)) {
                let (after, found) = (*after, event.position);
                return Err(CommitError::Conflict(Conflict::Condition { after, found }));
            }
        }
        for change in &commit.changes {
            if let Change::Swap { from, .. } = change {
                self.table(from).map_err(|error| CommitError::Invalid(error.to_string()))?;
            }
        }
        for write in &commit.writes {
            if let WriteKind::Put { of, .. } = &write.kind
                && self
                    .collections
                    .get(&*write.collection)
                    .is_some_and(|table| table.definition.fields != *of)
            {
                return Err(CommitError::Invalid(format!(
                    "the collection `{}` is defined with other fields",
                    write.collection
                )));
            }
        }
        Ok(())
    }

    fn version(&self, stream: &StreamId) -> u64 {
        self.streams.get(stream).map_or(0, |events| events.len() as u64)
    }

    pub(super) fn append(&mut self, append: &Append) -> Appended {
        let first = Position(self.events.len() as u64 + 1);
        self.last = append.at.unwrap_or(self.at).max(self.last);
        for envelope in &append.events {
            let index = self.events.len();
            let versions = self.streams.entry(append.stream.clone()).or_default();
            versions.push(index);
            self.events.push(Recorded {
                position: Position(index as u64 + 1),
                stream: append.stream.clone(),
                version: versions.len() as u64,
                at: self.last,
                envelope: Envelope {
                    id: envelope.id,
                    kind: self.pool.kind(&envelope.kind),
                    schema: envelope.schema,
                    public: envelope.public,
                    meta: envelope.meta,
                    tags: envelope.tags.clone(),
                    data: self.pool.data(&envelope.data),
                },
            });
        }
        Appended { first, version: self.version(&append.stream) }
    }

    pub(super) fn write(&mut self, commit: &Commit) {
        let (revision, position) = (self.revision, Position(self.events.len() as u64));
        for write in &commit.writes {
            let table = self.collections.get_mut(&*write.collection).expect("checked before");
            match &write.kind {
                WriteKind::Put { value, due, .. } => {
                    let (key, value, due) = (write.key.clone(), value.clone(), *due);
                    table.records.insert(key.clone(), Record { key, revision, position, due, value });
                }
                WriteKind::Delete => drop(table.records.remove(&write.key)),
            }
        }
    }

    /// Changes the collections; whatever takes another's name was found to be there.
    pub(super) fn change(&mut self, change: Change) {
        match change {
            Change::Define(definition) => match self.collections.get_mut(&*definition.name) {
                Some(table) => table.definition = definition,
                None => {
                    let name = definition.name.to_string();
                    self.collections.insert(name, Table { definition, records: BTreeMap::new() });
                }
            },
            Change::Swap { from, to } => {
                if let Some(mut table) = self.collections.remove(&from) {
                    table.definition = table.definition.named(&to);
                    self.collections.insert(to, table);
                }
            }
            Change::Drop(name) => drop(self.collections.remove(&name)),
        }
    }

    pub(super) fn archive(&mut self, streams: Vec<StreamId>, limit: usize) -> Archived {
        let mut done = Archived::default();
        for stream in streams {
            let Some(events) = self.streams.get(&stream) else { continue };
            let archived = self.archived.entry(stream).or_default();
            let left = &events[*archived..events.len() - 1];
            let room = limit - usize::try_from(done.events).unwrap_or(limit).min(limit);
            let moved = &left[..left.len().min(room)];
            done.more |= moved.len() < left.len();
            done.events += moved.len() as u64;
            done.bytes += moved.iter().map(|n| self.events[*n].envelope.data.len() as u64).sum::<u64>();
            *archived += moved.len();
        }
        done
    }

    pub(super) fn table(&self, name: &str) -> Result<&Table, ReadError> {
        self.collections.get(name).ok_or_else(|| {
            ReadError::Invalid(format!("the collection `{name}` is not defined in this store"))
        })
    }
}

impl Table {
    /// The records with the query's prefix behind the key that a page ended with, in the query's order.
    pub(super) fn page(&self, query: &Query) -> Box<dyn Iterator<Item = &Record> + '_> {
        let (prefix, after) = (query.prefix.clone().unwrap_or_default(), query.after.as_deref());
        let end = query.prefix.as_ref().map(|prefix| format!("{prefix}{}", char::MAX));
        let (mut from, mut to) =
            (Bound::Included(&*prefix), end.as_deref().map_or(Bound::Unbounded, Bound::Excluded));
        match after {
            Some(after) if query.descending && end.as_deref().is_none_or(|end| after < end) => {
                to = Bound::Excluded(after);
            }
            Some(after) if !query.descending && after >= &*prefix => from = Bound::Excluded(after),
            _ => {}
        }
        // A range may not end before it begins.
        if matches!((from, to), (Bound::Included(from) | Bound::Excluded(from), Bound::Excluded(to)) if from >= to)
        {
            return Box::new(std::iter::empty());
        }
        let records = self.records.range::<str, _>((from, to)).map(|(_, record)| record);
        if query.descending { Box::new(records.rev()) } else { Box::new(records) }
    }

    /// Whether the record has these values, which its fields can have.
    pub(super) fn admits(&self, record: &Record, equal: &[(String, Scalar)]) -> Result<bool, ReadError> {
        if equal.is_empty() {
            return Ok(true);
        }
        for (name, wanted) in equal {
            let field = self.definition.fields.iter().find(|field| field.name == name);
            let Some(field) = field else { return Ok(false) };
            if !field.admits(&record.value, wanted) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
