//! Where a view stands, in which version, and the rows that it writes there.

use std::collections::BTreeMap;
use std::time::Duration;

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::message::Timestamp;
use crate::store::{
    Collection, Commit, CommitError, LONGEST_NAME, Position, ReadError, Revision, Row, Store,
};

use super::control::{Control, Seen};
use super::fold::Definition;
use super::loaded::Loaded;
use super::parked::{Held, Parked, ParkedKey, Room};
use super::{Misfit, ViewError};

/// Every event at or before the position is in the rows, or parked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    pub(super) version: u32,
    pub(super) position: Position,
    /// The number of the room for events that could not be folded into these rows.
    #[serde(default)]
    pub(super) room: u32,
    /// The collections that the rows are in, for rows that are built beside the live ones.
    #[serde(default)]
    pub(super) beside: Vec<String>,
    /// How fast it goes, for rows that are built beside the live ones.
    #[serde(default)]
    pub(super) pace: Option<Pace>,
    /// The event that the building of rows beside the live ones stands before.
    #[serde(default)]
    pub(super) stopped: Option<Misfit>,
}

/// How fast rows are built, since the process began to work on them.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Pace {
    pub(super) begun_at: Timestamp,
    pub(super) since: Timestamp,
    pub(super) from: Position,
    pub(super) at: Timestamp,
}

impl Pace {
    /// Who has not come further for longer has given up.
    const LONGEST: Duration = Duration::from_secs(10);

    fn new(from: Position, now: Timestamp) -> Self {
        Self { begun_at: now, since: now, from, at: now }
    }

    /// Whether somebody works on the rows, as far as one can tell.
    fn is_going_on(&self, now: Timestamp) -> bool {
        self.at.checked_add(Self::LONGEST).is_ok_and(|end| now < end)
    }
}

impl Row for Checkpoint {
    const COLLECTION: &'static str = "purlin_projections";
}

/// The rows that a run works on.
pub(super) struct Target {
    pub(super) position: Position,
    /// The rows are built beside live ones.
    pub(super) building: bool,
    pub(super) loaded: Loaded,
    pub(super) parked: Parked,
    pub(super) key: String,
    pub(super) revision: Revision,
    version: u32,
    room: u32,
    beside: Vec<String>,
    pace: Option<Pace>,
    /// The position that is stored.
    stored: Position,
}

impl Target {
    /// The live rows, behind the checkpoint that was found.
    pub(super) async fn live(
        definition: &Definition,
        store: &Store,
        found: Option<&Stored>,
    ) -> Result<Self, ViewError> {
        let collections = definition.collections.iter().map(|live| (live.name.to_string(), live.clone()));
        Self::open(definition, store, definition.name.to_owned(), collections.collect(), found, None).await
    }

    /// The rows that are built beside the live ones, which have a room. Those that are begun get the next one.
    pub(super) async fn building(
        definition: &Definition,
        store: &Store,
        control: &mut Seen,
        live_room: u32,
        now: Timestamp,
    ) -> Result<Self, ViewError> {
        let key = building_key(definition.name, definition.version);
        let found = match Stored::read(store, &key).await? {
            Some(found) if found.checkpoint.beside == names(definition, found.checkpoint.room) => {
                // A program of the same version may have made them with other fields.
                let collections = beside(definition, found.checkpoint.room);
                store.commit(control.require(defining(collections))).await?;
                found
            }
            Some(other) if other.checkpoint.pace.is_some_and(|pace| pace.is_going_on(now)) => {
                let who = "another program of this version of the view builds it with other collections";
                return Err(CommitError::Unavailable(who.into()).into());
            }
            // One of the same version that had other collections cannot be gone on with.
            other => Self::begin(definition, store, control, (live_room, &key), (other, now)).await?,
        };
        let room = found.checkpoint.room;
        let live = definition.collections.iter().map(|live| live.name.to_string());
        let collections = live.zip(beside(definition, room)).collect();
        let position = found.checkpoint.position;
        let begun_at = found.checkpoint.pace.map_or(now, |pace| pace.begun_at);
        let pace = Pace { begun_at, ..Pace::new(position, now) };
        Self::open(definition, store, key, collections, Some(&found), Some(pace)).await
    }

    async fn begin(
        definition: &Definition,
        store: &Store,
        control: &mut Seen,
        (live_room, key): (u32, &str),
        (before, now): (Option<Stored>, Timestamp),
    ) -> Result<Stored, ViewError> {
        let taken = store.collections().await?;
        // A collection of such a name may be somebody else's.
        let is_free = |room: &u32| {
            beside(definition, *room).all(|beside| taken.iter().all(|taken| taken.name != beside.name))
        };
        let first = control.row.rooms.max(live_room) + 1;
        let room = (first..).find(is_free).unwrap_or(first);
        let row = Control { rooms: room, ..control.row.clone() };
        let (version, position) = (definition.version, Position::START);
        let beside_names = names(definition, room);
        let checkpoint = Checkpoint {
            version,
            position,
            room,
            beside: beside_names,
            pace: Some(Pace::new(Position::START, now)),
            stopped: None,
        };
        let commit = control.replace(defining(beside(definition, room)), &row);
        let expected = before.as_ref().map_or(Revision::Absent, |before| Revision::Exact(before.revision));
        let given_up = before.into_iter().flat_map(|before| before.checkpoint.beside);
        let commit = given_up.fold(commit, Commit::drop_collection);
        let committed = store.commit(commit.put_expecting(key, &checkpoint, expected, None)).await?;
        control.replaced(row, committed.revision);
        Ok(Stored { checkpoint, revision: committed.revision, written_at: committed.position })
    }

    async fn open(
        definition: &Definition,
        store: &Store,
        key: String,
        collections: Vec<(String, Collection)>,
        found: Option<&Stored>,
        building: Option<Pace>,
    ) -> Result<Self, ViewError> {
        let position = found.map_or(Position::START, |found| found.checkpoint.position);
        let revision = found.map_or(Revision::Absent, |found| Revision::Exact(found.revision));
        let room = found.map_or(0, |found| found.checkpoint.room);
        // Where nothing was ever written there is nothing to read.
        let loaded = Loaded::new(collections, position == Position::START);
        let parked = Parked::load(store, Room::new(definition.name, room)).await?;
        Ok(Self {
            position,
            building: building.is_some(),
            loaded,
            parked,
            key,
            revision,
            version: definition.version,
            room,
            beside: found.map(|found| found.checkpoint.beside.clone()).unwrap_or_default(),
            pace: building,
            stored: position,
        })
    }

    /// Applies what was folded together with the checkpoint behind it, if the view is still wanted so.
    pub(super) async fn commit(
        &mut self,
        store: &Store,
        control: &Seen,
        more: Commit,
        to: Position,
        now: Timestamp,
    ) -> Result<(), CommitError> {
        if let Some(pace) = &mut self.pace {
            pace.at = now;
        }
        let checkpoint = self.checkpoint(to);
        let commit = self.loaded.commit(false).and(more);
        let commit = control.require(commit).put_expecting(&self.key, &checkpoint, self.revision, None);
        match store.commit(commit).await {
            Ok(committed) => {
                self.loaded.applied();
                self.revision = Revision::Exact(committed.revision);
                (self.position, self.stored) = (to, to);
                Ok(())
            }
            // Rows that were read, or written, before somebody was forgotten still say who he was.
            Err(error @ CommitError::Forgotten(_)) => {
                self.loaded.forget();
                Err(error)
            }
            Err(error) => {
                self.loaded.restart();
                Err(match error {
                    CommitError::Invalid(why) => self.refused(store, why).await,
                    error => error,
                })
            }
        }
    }

    /// Why the rows were refused: it need not be their fault. Collections that another version of the program has made
    /// are to be waited for.
    async fn refused(&self, store: &Store, why: String) -> CommitError {
        let there = match store.collections().await {
            Ok(there) => there,
            Err(error) => return CommitError::Unavailable(error.into()),
        };
        for collection in self.loaded.collections() {
            let (name, version) = (&collection.name, self.version);
            let otherwise = match there.iter().find(|there| there.name == *name) {
                Some(there) if there.fields == collection.fields => continue,
                Some(_) => "has other fields than",
                None => "is gone, which belongs to",
            };
            let what = format!(
                "the collection `{name}` {otherwise} version {version} of its view: does another run?"
            );
            return CommitError::Unavailable(what.into());
        }
        CommitError::Invalid(why)
    }

    /// Takes note of keys that the last commit has put.
    pub(super) fn parked(&mut self, keys: BTreeMap<String, ParkedKey>) {
        let revision = self.revision;
        self.parked.keys.extend(keys.into_iter().map(|(key, row)| (key, Held { row, revision })));
    }

    pub(super) fn checkpoint(&self, position: Position) -> Checkpoint {
        let (version, room, pace) = (self.version, self.room, self.pace);
        Checkpoint { version, position, room, beside: self.beside.clone(), pace, stopped: None }
    }

    /// Leaves word of the event that these rows cannot get past.
    pub(super) async fn stop(
        &mut self,
        store: &Store,
        control: &Seen,
        misfit: Misfit,
    ) -> Result<(), CommitError> {
        let checkpoint = Checkpoint { stopped: Some(misfit), ..self.checkpoint(self.position) };
        let commit = control.require(Commit::new());
        let committed =
            store.commit(commit.put_expecting(&self.key, &checkpoint, self.revision, None)).await?;
        (self.revision, self.stored) = (Revision::Exact(committed.revision), self.position);
        Ok(())
    }

    /// How many positions the stored checkpoint is behind.
    pub(super) fn unstored(&self) -> u64 {
        self.position.0 - self.stored.0
    }
}

/// What the rows of a collection are called while they are built beside it. Of a name that is too long for that, the
/// first letters and a hash are left.
fn building_name(collection: &str, room: u32) -> String {
    const LEFT: usize = 24;
    let name = format!("{collection}_v{room}");
    if name.len() <= LONGEST_NAME {
        return name;
    }
    let hash = digest(&SHA256, collection.as_bytes());
    let hash = hash.as_ref().first_chunk().copied().map_or(0, u32::from_be_bytes);
    let first: String = collection.chars().take(LEFT).collect();
    format!("{first}_{hash:08x}_v{room}")
}

/// The collections of rows that are built in a room.
pub(super) fn beside(definition: &Definition, room: u32) -> impl Iterator<Item = Collection> {
    definition.collections.iter().map(move |live| live.named(building_name(&live.name, room)))
}

fn names(definition: &Definition, room: u32) -> Vec<String> {
    beside(definition, room).map(|beside| beside.name.into_owned()).collect()
}

fn defining(collections: impl Iterator<Item = Collection>) -> Commit {
    collections.fold(Commit::new(), Commit::define)
}

pub(super) fn building_key(view: &str, version: u32) -> String {
    format!("{view}@{version}")
}

/// A checkpoint as it was read.
pub(super) struct Stored {
    pub(super) checkpoint: Checkpoint,
    pub(super) revision: u64,
    /// Up to where the store's log went when it was written.
    pub(super) written_at: Position,
}

impl Stored {
    pub(super) async fn read(store: &Store, key: &str) -> Result<Option<Self>, ReadError> {
        let Some(record) = store.get_record(Checkpoint::COLLECTION, key).await? else { return Ok(None) };
        let (checkpoint, revision) = (record.decode()?, record.revision);
        Ok(Some(Self { checkpoint, revision, written_at: record.position }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_beside_have_names_that_a_store_takes_however_long_those_of_the_live_ones_are() {
        assert_eq!(building_name("orders", 12), "orders_v12");
        let [one, other] = ["a", "b"].map(|end| format!("{}{end}", "orders_".repeat(7).get(..47).unwrap()));
        let names = [&one, &other].map(|name| building_name(name, u32::MAX));
        assert!(names.iter().all(|name| name.len() <= LONGEST_NAME), "{names:?}");
        assert_ne!(names[0], names[1]);
        assert_eq!(building_name(&one, 1), building_name(&one, 1));
    }
}
