//! Where a view stands, in which version, and which collection its rows go to; a new version's way to the live name.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::store::{Collection, Commit, CommitError, Position, Query, ReadError, Revision, Row, Store};

use super::view::Inner;
use super::{Projection, ViewError};

/// Every event at or before the position is in the rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    version: u32,
    position: Position,
    /// The rows of this version have been built beside the live ones and are to take their name.
    swapping: bool,
}

impl Row for Checkpoint {
    const COLLECTION: &'static str = "purlin_projections";
}

/// The rows that a run works on.
pub(super) struct Target {
    pub(super) collection: Collection,
    pub(super) position: Position,
    /// The rows are built beside live ones of an earlier version.
    pub(super) building: bool,
    version: u32,
    key: String,
    /// The position that is stored.
    stored: Position,
    revision: Revision,
}

impl Target {
    /// Finds where the view stands; finishes or clears away what other versions left behind.
    pub(super) async fn open<P: Projection>(view: &Inner<P>) -> Result<Self, ViewError> {
        let store = &view.store;
        store.define::<Checkpoint>().await?;
        view.define().await?;
        finish_swap::<P>(store).await?;
        let live = Stored::read(store, P::NAME).await?;
        let stored = live.as_ref().map_or(P::VERSION, |live| live.checkpoint.version);
        if stored > P::VERSION {
            return Err(ViewError::Newer { view: P::NAME, stored, known: P::VERSION });
        }
        let building = stored < P::VERSION;
        clear_away::<P>(store, building.then_some(P::VERSION)).await?;
        let (key, name, found) = if building {
            let key = building_key::<P>(P::VERSION);
            let found = Stored::read(store, &key).await?;
            (key, building_name::<P>(P::VERSION), found)
        } else {
            (P::NAME.to_owned(), view.collection().to_owned(), live)
        };
        let collection = Collection { name: Cow::Owned(name), ..P::Row::collection() };
        if building {
            store.define_collection(collection.clone()).await?;
        }
        let position = found.as_ref().map_or(Position::START, |found| found.checkpoint.position);
        let revision = found.map_or(Revision::Absent, |found| Revision::Exact(found.revision));
        Ok(Self { collection, position, building, version: P::VERSION, key, stored: position, revision })
    }

    /// Applies rows together with the checkpoint behind them.
    pub(super) async fn commit(
        &mut self,
        store: &Store,
        rows: Commit,
        to: Position,
    ) -> Result<(), CommitError> {
        let checkpoint = Checkpoint { version: self.version, position: to, swapping: false };
        let commit = rows.put_expecting(&self.key, &checkpoint, self.revision, None);
        let committed = store.commit(commit).await?;
        self.revision = Revision::Exact(committed.revision);
        (self.position, self.stored) = (to, to);
        Ok(())
    }

    /// How many positions the stored checkpoint is behind.
    pub(super) fn unstored(&self) -> u64 {
        self.position.0 - self.stored.0
    }

    /// Gives the rows that were built the live name. The old version's writers are fenced first: the checkpoint that
    /// their commits expect is replaced.
    pub(super) async fn go_live<P: Projection>(self, store: &Store) -> Result<(), ViewError> {
        let live = Stored::read(store, P::NAME).await?;
        let expected = live.map_or(Revision::Absent, |live| Revision::Exact(live.revision));
        let checkpoint = Checkpoint { version: self.version, position: self.position, swapping: true };
        let commit = Commit::new()
            .put_expecting(P::NAME, &checkpoint, expected, None)
            .delete::<Checkpoint>(&self.key, self.revision);
        store.commit(commit).await?;
        finish_swap::<P>(store).await
    }
}

/// Does what is left to do when a run ended between deciding on a swap and having done it.
async fn finish_swap<P: Projection>(store: &Store) -> Result<(), ViewError> {
    let Some(live) = Stored::read(store, P::NAME).await? else { return Ok(()) };
    if !live.checkpoint.swapping {
        return Ok(());
    }
    let from = building_name::<P>(live.checkpoint.version);
    if exists(store, &from).await? {
        match store.swap(&from, P::Row::COLLECTION).await {
            // An earlier run's swap came through meanwhile.
            Err(CommitError::Invalid(_)) if !exists(store, &from).await? => {}
            other => other?,
        }
    }
    let checkpoint = Checkpoint { swapping: false, ..live.checkpoint };
    let done = Commit::new().put_expecting(P::NAME, &checkpoint, Revision::Exact(live.revision), None);
    store.commit(done).await?;
    Ok(())
}

/// Removes what was built of versions other than `wanted`.
async fn clear_away<P: Projection>(store: &Store, wanted: Option<u32>) -> Result<(), ViewError> {
    let query = Query::all().prefix(format!("{}@", P::NAME));
    for record in store.list::<Checkpoint>(query).await?.records {
        let version = record.decode::<Checkpoint>()?.version;
        if Some(version) != wanted {
            store.drop_collection(&building_name::<P>(version)).await?;
            let gone = Commit::new().delete::<Checkpoint>(&record.key, Revision::Exact(record.revision));
            store.commit(gone).await?;
        }
    }
    Ok(())
}

async fn exists(store: &Store, collection: &str) -> Result<bool, ReadError> {
    match store.list_records(collection, Query::all().limit(1)).await {
        Ok(_) => Ok(true),
        Err(ReadError::Invalid(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

fn building_name<P: Projection>(version: u32) -> String {
    format!("{}_v{version}", P::Row::COLLECTION)
}

fn building_key<P: Projection>(version: u32) -> String {
    format!("{}@{version}", P::NAME)
}

/// A checkpoint as it was read.
struct Stored {
    checkpoint: Checkpoint,
    revision: u64,
}

impl Stored {
    async fn read(store: &Store, key: &str) -> Result<Option<Self>, ReadError> {
        let Some(record) = store.get_record(Checkpoint::COLLECTION, key).await? else { return Ok(None) };
        Ok(Some(Self { checkpoint: record.decode()?, revision: record.revision }))
    }
}
