//! A state that was written down, so that loading need not fold every event from the first on.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::{Mutex as AsyncMutex, OnceCell};

use crate::store::{Commit, CommitError, ReadError, Revision, Row, Store, StreamId};

use super::{Aggregate, Root};

/// The record of a snapshot, under its stream's name.
#[derive(Serialize, Deserialize)]
struct Snapshot {
    format: u32,
    version: u64,
    state: Box<RawValue>,
}

impl Row for Snapshot {
    const COLLECTION: &'static str = "purlin_snapshots";
}

/// What a repository knows about its snapshots.
#[derive(Default)]
pub(super) struct Snapshots {
    ready: OnceCell<()>,
    /// The aggregates whose state did not fit into a record, and the version at which that was last tried.
    large: Mutex<HashMap<StreamId, u64>>,
    /// Held by the one reader who makes up for a snapshot that is missing.
    overdue: AsyncMutex<()>,
}

/// So many aggregates whose state is too large are known at most. Then they are forgotten, and each is tried, and
/// told of, once more.
const LARGE: usize = 1024;

/// An aggregate as of its last snapshot.
pub(super) struct Found<A: Aggregate> {
    pub(super) root: Root<A>,
    /// The record that is there, of whatever format.
    pub(super) revision: Revision,
}

impl Snapshots {
    /// Makes the collection that snapshots live in.
    pub(super) async fn prepare(&self, store: &Store) -> Result<(), CommitError> {
        self.ready.get_or_try_init(|| store.define::<Snapshot>()).await.map(drop)
    }

    /// The aggregate as of its last snapshot, or its beginning when none of this format is there.
    pub(super) async fn read<A: Aggregate>(
        &self,
        store: &Store,
        stream: &StreamId,
        id: &str,
    ) -> Result<Found<A>, ReadError> {
        let record = store.get_record(Snapshot::COLLECTION, stream.as_str()).await?;
        let Some(record) = record else {
            return Ok(Found { root: Root::new(id), revision: Revision::Absent });
        };
        let (snapshot, revision) = (record.decode::<Snapshot>()?, Revision::Exact(record.revision));
        if snapshot.format != A::SNAPSHOT_VERSION {
            return Ok(Found { root: Root::new(id), revision });
        }
        let root = match serde_json::from_str(snapshot.state.get()) {
            Ok(state) => Root::at(id, state, snapshot.version),
            Err(error) => {
                tracing::warn!(%stream, %error, "a snapshot does not fit its aggregate and is ignored");
                Root::new(id)
            }
        };
        Ok(Found { root, revision })
    }

    /// The commit of what a root decided with a snapshot in it, when one is due. It costs no commit of its own, and
    /// needs no condition but the append's: when the append holds, the state is what the snapshot says.
    pub(super) async fn add<A: Aggregate>(
        &self,
        store: &Store,
        root: &Root<A>,
        commit: &Commit,
    ) -> Option<Commit> {
        let (stream, after) = (root.stream().ok()?, root.version() + root.uncommitted().len() as u64);
        let due = A::SNAPSHOT_EVERY > 0 && after - root.snapshot() >= A::SNAPSHOT_EVERY;
        if !due || self.is_large::<A>(&stream, after) || self.prepare(store).await.is_err() {
            return None;
        }
        let snapshot = encode(root, after).map_err(|error| self.tell(&stream, after, &error)).ok()?;
        let with = commit.clone().put(stream.as_str(), &snapshot);
        store.limits().check(&with).map_err(|error| self.tell(&stream, after, &error)).ok()?;
        Some(with)
    }

    /// Whether a state was too large not long ago: it is not tried at every turn, but a state can shrink.
    fn is_large<A: Aggregate>(&self, stream: &StreamId, version: u64) -> bool {
        self.large().get(stream).is_some_and(|tried| version < tried.saturating_add(A::SNAPSHOT_EVERY))
    }

    fn large(&self) -> MutexGuard<'_, HashMap<StreamId, u64>> {
        self.large.lock().expect("no panic happens under the lock of what is too large")
    }

    /// Makes up for a snapshot that no update has written: all that is appended comes from elsewhere, or an update
    /// has yet to come since the state got another shape. One reader waits for it, the others do not.
    pub(super) async fn make_up<A: Aggregate>(
        &self,
        store: &Store,
        stream: &StreamId,
        root: &mut Root<A>,
        expected: Revision,
    ) {
        let missing = root.version() - root.snapshot() >= A::SNAPSHOT_EVERY.saturating_mul(2);
        if A::SNAPSHOT_EVERY == 0 || !missing || self.is_large::<A>(stream, root.version()) {
            return;
        }
        let Ok(_turn) = self.overdue.try_lock() else { return };
        let snapshot = match encode(root, root.version()) {
            Ok(snapshot) => snapshot,
            Err(error) => return self.tell(stream, root.version(), &error),
        };
        match store.commit(Commit::new().put_expecting(stream.as_str(), &snapshot, expected, None)).await {
            Ok(_) => root.snapshot_written(),
            // Somebody else has written one.
            Err(CommitError::Conflict(_)) => {}
            Err(error @ CommitError::Invalid(_)) => self.tell(stream, root.version(), &error),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(%stream, error, "a snapshot could not be written");
            }
        }
    }

    /// A snapshot is only a short cut: without it nothing is lost, and once is often enough to say so.
    #[cold]
    fn tell(&self, stream: &StreamId, version: u64, error: &(dyn std::error::Error + 'static)) {
        let mut large = self.large();
        if large.len() >= LARGE && !large.contains_key(stream) {
            large.clear();
        }
        if large.insert(stream.clone(), version).is_none() {
            tracing::warn!(%stream, error, "a state does not fit into a snapshot: loading folds all its events");
        }
    }
}

fn encode<A: Aggregate>(root: &Root<A>, version: u64) -> serde_json::Result<Snapshot> {
    let state = serde_json::value::to_raw_value(root.state())?;
    Ok(Snapshot { format: A::SNAPSHOT_VERSION, version, state })
}
