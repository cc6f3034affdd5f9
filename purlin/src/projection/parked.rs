//! Events that could not be folded, and the later ones of their keys that wait behind them.
//!
//! The events themselves stay in the log; what is kept is where they stand, and what was wrong. An event that does not
//! fit will not fit a minute later, unlike a message whose handler could not reach somebody: so nothing here is tried
//! again by the clock, only by a new start of the program, or when an operator says so.

use std::collections::BTreeMap;

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::message::Timestamp;
use crate::store::{
    Commit, Field, Limits, Position, Query, ReadError, Record, Recorded, Revision, Row, Store,
};

use super::batch::Left;

/// A key whose events wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ParkedKey {
    pub(super) view: String,
    pub(super) key: String,
    /// The position of its first event.
    pub(super) head: Position,
    /// How many events wait, the first included.
    pub(super) count: u64,
    /// It is to be tried again.
    pub(super) retry: bool,
}

impl Row for ParkedKey {
    const COLLECTION: &'static str = "purlin_view_parked_keys";
    const FIELDS: &'static [Field] = &[Field::text("view"), Field::text("key")];
}

/// An event that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ParkedEvent {
    pub(super) view: String,
    pub(super) key: String,
    pub(super) position: Position,
    pub(super) stream: String,
    pub(super) kind: String,
    pub(super) parked_at: Timestamp,
    /// How often it was tried; 0 while it has only waited behind another.
    pub(super) attempts: u32,
    pub(super) last_attempt: Option<Timestamp>,
    /// What was wrong when it was last tried.
    pub(super) reason: Option<String>,
}

impl Row for ParkedEvent {
    const COLLECTION: &'static str = "purlin_view_parked_events";
    const FIELDS: &'static [Field] = &[Field::text("view"), Field::text("key")];
}

impl ParkedEvent {
    fn new(view: &str, key: &str, event: &Recorded, now: Timestamp) -> Self {
        Self {
            view: view.to_owned(),
            key: key.to_owned(),
            position: event.position,
            stream: event.stream.to_string(),
            kind: event.envelope.kind.to_string(),
            parked_at: now,
            attempts: 0,
            last_attempt: None,
            reason: None,
        }
    }

    /// The event after it was tried and did not fit.
    pub(super) fn failed(self, reason: String, now: Timestamp) -> Self {
        Self { attempts: self.attempts + 1, last_attempt: Some(now), reason: Some(reason), ..self }
    }
}

/// Which rows of a view an event was to be folded into: the live ones, or those of one of the builds beside them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Room {
    view: String,
    prefix: String,
}

impl Room {
    pub(super) fn new(view: &str, number: u32) -> Self {
        Self { view: view.to_owned(), prefix: format!("{view}#{number}/") }
    }

    /// What the records of all rooms of a view begin with.
    pub(super) fn all(view: &str) -> String {
        format!("{view}#")
    }

    /// Whether a record of the view lies in this room.
    pub(super) fn holds(&self, record_key: &str) -> bool {
        record_key.starts_with(&self.prefix)
    }

    /// The record of a key. One that is longer than records' keys may be is told from others by its hash.
    pub(super) fn key_id(&self, key: &str) -> String {
        let most = Limits::default().key.saturating_sub(self.prefix.len());
        if key.len() <= most {
            return format!("{}{key}", self.prefix);
        }
        let hash = digest(&SHA256, key.as_bytes());
        let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let room = most.saturating_sub(hash.len() + 1);
        let begin = (0..=room).rev().find(|end| key.is_char_boundary(*end)).unwrap_or_default();
        format!("{}{}~{hash}", self.prefix, &key[..begin])
    }

    pub(super) fn event_id(&self, position: Position) -> String {
        format!("{}{:020}", self.prefix, position.0)
    }

    /// The room and the rest of a record's key.
    pub(super) fn of(view: &str, record_key: &str) -> Option<Self> {
        let rest = record_key.strip_prefix(&Self::all(view))?;
        let (number, _) = rest.split_once('/')?;
        Some(Self::new(view, number.parse().ok()?))
    }
}

/// A parked key as it was read or written last. Whoever changes it expects to find it so: the view and an operator may
/// both be about to.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) row: ParkedKey,
    pub(super) revision: Revision,
}

impl Held {
    pub(super) fn of(record: &Record) -> Result<Self, ReadError> {
        Ok(Self { row: record.decode()?, revision: Revision::Exact(record.revision) })
    }

    /// Puts a key in place of this one.
    pub(super) fn replace(&self, commit: Commit, room: &Room, row: &ParkedKey) -> Commit {
        commit.put_expecting(room.key_id(&row.key), row, self.revision, None)
    }
}

/// The parked keys of a view's rows, as the view knows them.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) room: Room,
    pub(super) keys: BTreeMap<String, Held>,
}

impl Parked {
    pub(super) async fn load(store: &Store, room: Room) -> Result<Self, ReadError> {
        let mut keys = BTreeMap::new();
        for record in records::<ParkedKey>(store, &room.prefix).await? {
            let held = Held::of(&record)?;
            keys.insert(held.row.key.clone(), held);
        }
        Ok(Self { room, keys })
    }

    /// How many events wait.
    pub(super) fn events(&self) -> u64 {
        self.keys.values().map(|held| held.row.count).sum()
    }

    /// Parks what was left of a batch; gives the keys as they will be.
    pub(super) fn park(
        &self,
        mut commit: Commit,
        left: Vec<Left>,
        events: &[Recorded],
        now: Timestamp,
    ) -> (Commit, BTreeMap<String, ParkedKey>) {
        let mut changed = BTreeMap::<String, ParkedKey>::new();
        for Left { index, key, reason } in left {
            let event = &events[index];
            let new = || ParkedKey {
                view: self.room.view.clone(),
                key: key.clone(),
                head: event.position,
                count: 0,
                retry: false,
            };
            let known = || self.keys.get(&key).map(|held| held.row.clone());
            changed.entry(key.clone()).or_insert_with(|| known().unwrap_or_else(new)).count += 1;
            let parked = ParkedEvent::new(&self.room.view, &key, event, now);
            let parked = match reason {
                Some(reason) => parked.failed(reason, now),
                None => parked,
            };
            commit = commit.put(self.room.event_id(event.position), &parked);
        }
        for (key, row) in &changed {
            let expected = self.keys.get(key).map_or(Revision::Absent, |held| held.revision);
            commit = commit.put_expecting(self.room.key_id(key), row, expected, None);
        }
        (commit, changed)
    }

    /// Takes the first event of a key away; gives the key as it will be, if others wait.
    pub(super) async fn advance(
        store: &Store,
        room: &Room,
        held: &Held,
    ) -> Result<(Commit, Option<ParkedKey>), ReadError> {
        let key = &held.row;
        let head = room.event_id(key.head);
        let query = Query::all().and("key", key.key.as_str()).prefix(room.prefix.as_str());
        let next = store.list::<ParkedEvent>(query.after(Some(head.clone())).limit(1)).await?;
        let commit = Commit::new().delete::<ParkedEvent>(head, Revision::Any);
        match next.records.first() {
            Some(record) => {
                let head = record.decode::<ParkedEvent>()?.position;
                let row =
                    ParkedKey { head, count: key.count.saturating_sub(1).max(1), retry: true, ..key.clone() };
                Ok((held.replace(commit, room, &row), Some(row)))
            }
            None => Ok((commit.delete::<ParkedKey>(room.key_id(&key.key), held.revision), None)),
        }
    }
}

/// All records of a collection whose keys begin so. What is parked is bounded.
pub(super) async fn records<R: Row>(store: &Store, prefix: &str) -> Result<Vec<Record>, ReadError> {
    let (mut records, mut after) = (Vec::new(), None);
    loop {
        let query = Query::all().prefix(prefix).after(after).limit(1000);
        let page = store.list::<R>(query).await?;
        records.extend(page.records);
        after = page.next;
        if after.is_none() {
            return Ok(records);
        }
    }
}
