//! What becomes of the commits of a group, decided from what is known of the store; no IO.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use bytes::Bytes;
use purlin::message::{Envelope, Timestamp, Uuid};
use purlin::store::{
    Append, Appended, Change, Commit, CommitError, Committed, Condition, Conflict, Expected, Position,
    Revision, Scalar, Write, WriteKind,
};

use super::Outcome;
use crate::codec::{Text, signed};
use crate::shared::Tables;
use crate::tag::Criteria;

/// What must be known of the store before a group can be decided.
#[derive(Default)]
pub(super) struct Asked<'a> {
    /// The streams that are appended to.
    pub(super) streams: Vec<&'a str>,
    /// What the first append to each of them expects.
    pub(super) expected: Vec<Expected>,
    /// The keys whose revisions matter, and what is expected where they are first mentioned, by collection.
    pub(super) keys: BTreeMap<&'a str, Vec<(&'a str, Revision)>>,
    /// The collections that are written.
    pub(super) written: HashSet<&'a str>,
    /// What must not have come, of all conditions in the order of their commits.
    pub(super) criteria: Criteria<'a>,
    /// Whether any event has tags.
    pub(super) tags: bool,
    /// Whether any append says when it happened.
    pub(super) dated: bool,
    /// Whether any commit writes or requires a record.
    pub(super) records: bool,
}

impl<'a> Asked<'a> {
    pub(super) fn by(commits: impl Iterator<Item = &'a Commit>, tables: &Tables) -> Self {
        let mut asked = Self::default();
        let (mut streams, mut keys) = (HashSet::new(), HashSet::new());
        for commit in commits {
            for append in &commit.appends {
                asked.dated |= append.at.is_some();
                asked.tags |= append.events.iter().any(|event| !event.tags.is_empty());
                if streams.insert(append.stream.as_str()) {
                    asked.streams.push(append.stream.as_str());
                    asked.expected.push(append.expected);
                }
            }
            let required = commit.requirements.iter().map(|r| (&*r.collection, r.key.as_str(), r.expected));
            let written = commit.writes.iter().map(|w| (&*w.collection, w.key.as_str(), w.expected));
            for (collection, key, expected) in required.chain(written) {
                let known = tables.named.contains_key(collection);
                if known && expected != Revision::Any && keys.insert((collection, key)) {
                    asked.keys.entry(collection).or_default().push((key, expected));
                }
            }
            commit.conditions.iter().for_each(|condition| asked.criteria.add(condition));
            asked.records |= !commit.writes.is_empty() || !commit.requirements.is_empty();
            asked.written.extend(commit.writes.iter().map(|write| &*write.collection));
        }
        asked
    }
}

/// What is known of the store, under its lock.
pub(super) struct Known<'a> {
    pub(super) position: u64,
    pub(super) revision: u64,
    pub(super) at: Timestamp,
    /// The last event's.
    pub(super) last: Timestamp,
    /// The last version of each stream.
    pub(super) versions: HashMap<&'a str, u64>,
    /// The revision of each key, by collection.
    pub(super) revisions: HashMap<&'a str, HashMap<&'a str, Option<u64>>>,
    /// The last position that each criterion of each condition finds, in the order in which they were asked.
    pub(super) excluded: VecDeque<Option<u64>>,
}

/// The events of a group, as the columns of a table. Their positions follow each other.
#[derive(Default)]
pub(super) struct Events<'a> {
    pub(super) streams: Vec<&'a str>,
    pub(super) versions: Vec<i64>,
    pub(super) kinds: Vec<&'a str>,
    pub(super) ids: Vec<Uuid>,
    pub(super) ats: Vec<i64>,
    pub(super) schemas: Vec<i32>,
    pub(super) publics: Vec<bool>,
    pub(super) metas: Vec<Option<Vec<u8>>>,
    pub(super) data: Vec<Text<'a>>,
    pub(super) tags: EventTags<'a>,
}

/// The tags of a group's events, as the columns of a table.
#[derive(Default)]
pub(super) struct EventTags<'a> {
    pub(super) tags: Vec<&'a str>,
    pub(super) positions: Vec<i64>,
    pub(super) kinds: Vec<&'a str>,
}

/// A record as it is after the group.
pub(super) struct Put<'a> {
    pub(super) revision: u64,
    pub(super) position: u64,
    pub(super) due: Option<Timestamp>,
    pub(super) value: &'a Bytes,
    pub(super) fields: &'a [Scalar],
}

/// What is decided of a group.
pub(super) struct Decision<'a> {
    known: Known<'a>,
    tables: &'a Tables,
    pub(super) events: Events<'a>,
    /// Collection, key, and the record: none when it is deleted. The last write of a key is what counts.
    pub(super) records: HashMap<&'a str, BTreeMap<&'a str, Option<Put<'a>>>>,
    /// The events that have tags, and their positions.
    tagged: Vec<(u64, &'a Envelope)>,
    pub(super) outcomes: Vec<Outcome>,
    /// Whether any commit is applied.
    pub(super) applied: bool,
}

impl<'a> Decision<'a> {
    /// Decides each commit in order; each sees those that were applied before it.
    pub(super) fn of(
        commits: impl Iterator<Item = &'a Commit>,
        known: Known<'a>,
        tables: &'a Tables,
    ) -> Self {
        let (events, records) = (Events::default(), HashMap::new());
        let (tagged, outcomes) = (Vec::new(), Vec::new());
        let mut decision = Self { known, tables, events, records, tagged, outcomes, applied: false };
        for commit in commits {
            let outcome = decision.decide(commit);
            decision.applied |= outcome.is_ok();
            decision.outcomes.push(outcome);
        }
        decision
    }

    pub(super) fn position(&self) -> u64 {
        self.known.position
    }

    pub(super) fn revision(&self) -> u64 {
        self.known.revision
    }

    pub(super) fn at(&self) -> Timestamp {
        self.known.at
    }

    /// When the last event happened, or the last group, whichever came later.
    pub(super) fn last(&self) -> Timestamp {
        self.known.at.max(self.known.last)
    }

    /// The last version of each stream that was asked for.
    pub(super) fn versions(&self) -> impl Iterator<Item = (&'a str, u64)> {
        self.known.versions.iter().map(|(stream, version)| (*stream, *version))
    }

    fn decide(&mut self, commit: &'a Commit) -> Outcome {
        // Asked first, and of every commit: what was found is in the order of all conditions.
        let excluded = self.check_conditions(&commit.conditions);
        self.check(commit)?;
        excluded?;
        self.check_changes(&commit.changes)?;
        let at = self.known.at;
        self.known.revision = (self.known.revision + 1).max(at.as_microsecond().unsigned_abs());
        let appended = commit.appends.iter().map(|append| self.append(append)).collect();
        for write in &commit.writes {
            self.write(write);
        }
        let (position, revision) = (Position(self.known.position), self.known.revision);
        Ok(Committed { position, revision, at, appended, repeated: false })
    }

    /// Whether everything is as the commit expects, before any of it is applied.
    fn check(&self, commit: &'a Commit) -> Result<(), CommitError> {
        self.check_appends(&commit.appends).map_err(CommitError::Conflict)?;
        let required = commit.requirements.iter().map(|r| (&r.collection, &r.key, r.expected));
        let written = commit.writes.iter().map(|w| (&w.collection, &w.key, w.expected));
        for (collection, key, expected) in required.chain(written) {
            if !self.tables.named.contains_key(&**collection) {
                return Err(undefined(collection));
            }
            let actual = if expected == Revision::Any { None } else { self.revision_of(collection, key) };
            if !expected.admits(actual) {
                let (collection, key) = (collection.to_string(), key.clone());
                return Err(CommitError::Conflict(Conflict::Record { collection, key, expected, actual }));
            }
        }
        for write in &commit.writes {
            if let WriteKind::Put { of, .. } = &write.kind
                && let Some(table) = self.tables.named.get(&*write.collection)
                && table.definition.fields != *of
            {
                return Err(other_fields(write));
            }
        }
        Ok(())
    }

    /// Whether whatever takes another's name is there.
    fn check_changes(&self, changes: &[Change]) -> Result<(), CommitError> {
        let missing = changes.iter().find_map(|change| match change {
            Change::Swap { from, .. } if !self.tables.named.contains_key(from) => Some(from),
            _ => None,
        });
        missing.map_or(Ok(()), |from| Err(undefined(from)))
    }

    fn check_conditions(&mut self, conditions: &[Condition]) -> Result<(), CommitError> {
        let mut first = Ok(());
        for Condition { query, after } in conditions {
            let criteria = query.criteria().len().min(self.known.excluded.len());
            let stored = self.known.excluded.drain(..criteria).flatten().max();
            let earlier = self.tagged.iter().rev().take_while(|(position, _)| *position > after.0);
            let earlier =
                earlier.filter(|(_, event)| query.matches(event)).map(|(position, _)| *position).next();
            let head = Position(self.known.position);
            let refused = match stored.max(earlier).map(Position) {
                _ if *after > head => CommitError::ahead(*after, head),
                Some(found) => CommitError::Conflict(Conflict::Condition { after: *after, found }),
                None => continue,
            };
            first = first.and(Err(refused));
        }
        first
    }

    fn check_appends(&self, appends: &[Append]) -> Result<(), Conflict> {
        // What earlier appends of the same commit add.
        let mut staged: HashMap<&str, u64> = HashMap::new();
        for append in appends {
            let name = append.stream.as_str();
            let version = staged.entry(name).or_insert_with(|| self.version_of(name));
            if !append.expected.admits(*version) {
                let (stream, expected, actual) = (append.stream.clone(), append.expected, *version);
                return Err(Conflict::Stream { stream, expected, actual });
            }
            *version += append.events.len() as u64;
        }
        Ok(())
    }

    fn version_of(&self, stream: &str) -> u64 {
        self.known.versions.get(stream).copied().unwrap_or_default()
    }

    fn revision_of(&self, collection: &str, key: &str) -> Option<u64> {
        let written = self.records.get(collection).and_then(|records| records.get(key));
        match written {
            Some(record) => record.as_ref().map(|put| put.revision),
            None => *self.known.revisions.get(collection)?.get(key)?,
        }
    }

    fn append(&mut self, append: &'a Append) -> Appended {
        let first = Position(self.known.position + 1);
        let name = append.stream.as_str();
        let version = self.known.versions.entry(name).or_default();
        self.known.last = append.at.unwrap_or(self.known.at).max(self.known.last);
        for event in &append.events {
            self.known.position += 1;
            *version += 1;
            self.events.streams.push(name);
            self.events.versions.push(signed(*version));
            self.events.kinds.push(&event.kind);
            self.events.ids.push(event.id);
            self.events.ats.push(self.known.last.as_microsecond());
            self.events.schemas.push(i32::from(event.schema));
            self.events.publics.push(event.public);
            let mut meta = Vec::new();
            event.meta.encode(&event.tags, &mut meta);
            self.events.metas.push(Some(meta).filter(|meta| !meta.is_empty()));
            self.events.data.push(Text(&event.data));
            if !event.tags.is_empty() {
                self.tagged.push((self.known.position, event));
            }
            for tag in event.tags.iter() {
                self.events.tags.tags.push(tag);
                self.events.tags.positions.push(signed(self.known.position));
                self.events.tags.kinds.push(&event.kind);
            }
        }
        Appended { first, version: *version }
    }

    fn write(&mut self, write: &'a Write) {
        let (revision, position) = (self.known.revision, self.known.position);
        let record = match &write.kind {
            WriteKind::Put { value, fields, due, .. } => {
                Some(Put { revision, position, due: *due, value, fields })
            }
            WriteKind::Delete => None,
        };
        self.records.entry(&write.collection).or_default().insert(&write.key, record);
    }
}

#[cold]
fn undefined(collection: &str) -> CommitError {
    CommitError::Invalid(format!("the collection `{collection}` is not defined in this store"))
}

#[cold]
fn other_fields(write: &Write) -> CommitError {
    CommitError::Invalid(format!("the collection `{}` is defined with other fields", write.collection))
}
