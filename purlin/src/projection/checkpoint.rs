//! Where a view stands, in which version, and the rows that it writes there.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::message::Timestamp;
use crate::store::{Collection, Commit, CommitError, Position, ReadError, Revision, Row, Store};

use super::control::{Control, Seen};
use super::fold::Definition;
use super::loaded::Loaded;
use super::parked::{Held, Parked, ParkedKey, Room};
use super::{Misfit, ViewError};

/// How long one who makes the collections to build in is waited for, twice as long with each room that was begun since the live
/// one, up to a minute: of two who are slow, one comes to his end. And how often another life looks.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(20);

/// Every event at or before the position is in the rows, or parked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    pub(super) version: u32,
    pub(super) position: Position,
    /// The rows of this version have been built beside the live ones and are to take their name.
    pub(super) swapping: bool,
    /// The number of the room for events that could not be folded into these rows.
    #[serde(default)]
    pub(super) room: u32,
    /// How fast it goes, for rows that are built beside the live ones; none before their collections are made.
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

    /// The rows that are built beside the live ones, which have a room.
    ///
    /// Only who was given a room makes its collections, and nothing is built in it before he has noted that they are made:
    /// one who slept over it makes nothing under a name that has rows, or had. Whoever finds a room whose collections are
    /// not made leaves it, and takes another.
    pub(super) async fn building(
        definition: &Definition,
        store: &Store,
        control: &mut Seen,
        live_room: u32,
        now: Timestamp,
    ) -> Result<Self, ViewError> {
        let key = building_key(definition.name, definition.version);
        let mut found = Stored::read(store, &key).await?;
        if let Some(unmade) = found.as_ref().filter(|found| !found.is_made()) {
            let begun = unmade.checkpoint.room.saturating_sub(live_room).clamp(1, 6);
            found = Stored::made(store, &key, PATIENCE * (1 << (begun - 1))).await?;
        }
        let is_usable = match &found {
            Some(found) => found.is_made() && is_as_defined(definition, store, found.checkpoint.room).await?,
            None => false,
        };
        let found = match found {
            Some(found) if is_usable => found,
            found => Self::begin(definition, store, control, (live_room, &key, now), found).await?,
        };
        let collections = built_collections(definition, found.checkpoint.room);
        let from = found.checkpoint.position;
        let begun_at = found.checkpoint.pace.map_or(now, |pace| pace.begun_at);
        let pace = Pace { begun_at, since: now, from, at: now };
        Self::open(definition, store, key, collections.collect(), Some(&found), Some(pace)).await
    }

    /// Takes the next room, in place of one that was given up, makes its collections, and notes that.
    async fn begin(
        definition: &Definition,
        store: &Store,
        control: &mut Seen,
        (live_room, key, now): (u32, &str, Timestamp),
        given_up: Option<Stored>,
    ) -> Result<Stored, ViewError> {
        let room = control.row.rooms.max(live_room) + 1;
        let mut row = Control { rooms: room, ..control.row.clone() };
        row.gone.extend(given_up.as_ref().map(|given_up| given_up.checkpoint.room));
        let expected = given_up.map_or(Revision::Absent, |given_up| Revision::Exact(given_up.revision));
        let (version, position) = (definition.version, Position::START);
        let unmade = Checkpoint { version, position, swapping: false, room, pace: None, stopped: None };
        let commit = control.replace(Commit::new(), &row).put_expecting(key, &unmade, expected, None);
        let committed = store.commit(commit).await?;
        control.replaced(row, committed.revision);
        for (_, beside) in built_collections(definition, room) {
            store.define_collection(beside).await?;
        }
        let pace = Pace { begun_at: now, since: now, from: position, at: now };
        let (checkpoint, expected) =
            (Checkpoint { pace: Some(pace), ..unmade }, Revision::Exact(committed.revision));
        match store.commit(Commit::new().put_expecting(key, &checkpoint, expected, None)).await {
            Ok(noted) => Ok(Stored { checkpoint, revision: noted.revision, written_at: noted.position }),
            Err(error) => {
                // Another took it for given up, and may have cleared it away before all was made. It was nobody else's.
                if matches!(error, CommitError::Conflict(_)) {
                    for (_, beside) in built_collections(definition, room) {
                        store.drop_collection(&beside.name).await?;
                    }
                }
                Err(error.into())
            }
        }
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
        Checkpoint { version, position, swapping: false, room, pace, stopped: None }
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

/// The collections of a room, each behind the name of the live one.
fn built_collections(definition: &Definition, room: u32) -> impl Iterator<Item = (String, Collection)> {
    definition
        .collections
        .iter()
        .map(move |live| (live.name.to_string(), live.named(building_name(&live.name, room))))
}

/// Whether the collections of a room are those that this program would make.
async fn is_as_defined(definition: &Definition, store: &Store, room: u32) -> Result<bool, ReadError> {
    let there = store.collections().await?;
    Ok(built_collections(definition, room).all(|(_, beside)| there.contains(&beside)))
}

pub(super) fn building_name(collection: &str, room: u32) -> String {
    format!("{collection}_v{room}")
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

    /// Whether the collections that it is of were noted to be made, when they are beside the live ones.
    fn is_made(&self) -> bool {
        self.checkpoint.pace.is_some()
    }

    /// What is stored once its collections are made, or when nobody has written it for so long.
    async fn made(store: &Store, key: &str, patience: Duration) -> Result<Option<Self>, ReadError> {
        let (mut since, mut before) = (Instant::now(), None);
        loop {
            let found = Self::read(store, key).await?;
            let Some(unmade) = found.as_ref().filter(|found| !found.is_made()) else { return Ok(found) };
            if before.replace(unmade.revision) != Some(unmade.revision) {
                since = Instant::now();
            } else if since.elapsed() >= patience {
                return Ok(found);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
