//! A state that was written down, so that loading need not fold every event from the first on.

use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::{Mutex, OnceCell};

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
    /// A state did not fit into a record. It was told, and is not tried at every turn any more.
    large: AtomicBool,
    /// Held by the one reader who makes up for a snapshot that is missing.
    overdue: Mutex<()>,
}

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

    /// The commit of what a root decided, with a snapshot in it when one is due. It costs no commit of its own, and
    /// needs no condition but the append's: when the append holds, the state is what the snapshot says.
    pub(super) async fn add<A: Aggregate>(&self, store: &Store, root: &Root<A>, commit: Commit) -> Commit {
        let (before, after) = (root.version(), root.version() + root.uncommitted().len() as u64);
        if !self.is_due::<A>(root.snapshot(), before, after) || self.prepare(store).await.is_err() {
            return commit;
        }
        let Ok(stream) = root.stream() else { return commit };
        match encode(root, after) {
            Ok(snapshot) => {
                let with = commit.clone().put(stream.as_str(), &snapshot);
                let fits = store.limits().check(&with);
                fits.map(|()| with).unwrap_or_else(|error| {
                    self.tell(&stream, &error);
                    commit
                })
            }
            Err(error) => {
                self.tell(&stream, &error);
                commit
            }
        }
    }

    fn is_due<A: Aggregate>(&self, snapshot: u64, before: u64, after: u64) -> bool {
        let every = A::SNAPSHOT_EVERY;
        if every == 0 || after - snapshot < every {
            return false;
        }
        // Of those that do not fit, every hundredth version or so is tried: a state can shrink.
        !self.large.load(Ordering::Relaxed) || (after - snapshot) / every > (before - snapshot) / every
    }

    /// Makes up for a snapshot that no update has written: all that is appended comes from elsewhere, or an update
    /// has yet to come since the state got another shape. One reader waits for it, the others do not.
    pub(super) async fn make_up<A: Aggregate>(
        &self,
        store: &Store,
        stream: &StreamId,
        root: &Root<A>,
        expected: Revision,
    ) {
        let missing = root.version() - root.snapshot() >= A::SNAPSHOT_EVERY.saturating_mul(2);
        if A::SNAPSHOT_EVERY == 0 || !missing || self.large.load(Ordering::Relaxed) {
            return;
        }
        let Ok(_turn) = self.overdue.try_lock() else { return };
        let snapshot = match encode(root, root.version()) {
            Ok(snapshot) => snapshot,
            Err(error) => return self.tell(stream, &error),
        };
        match store.commit(Commit::new().put_expecting(stream.as_str(), &snapshot, expected, None)).await {
            // Somebody else has written one.
            Ok(_) | Err(CommitError::Conflict(_)) => {}
            Err(error @ CommitError::Invalid(_)) => self.tell(stream, &error),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(%stream, error, "a snapshot could not be written");
            }
        }
    }

    /// A snapshot is only a short cut: without it nothing is lost, and once is often enough to say so.
    #[cold]
    fn tell(&self, stream: &StreamId, error: &(dyn std::error::Error + 'static)) {
        if !self.large.swap(true, Ordering::Relaxed) {
            tracing::warn!(%stream, error, "a state does not fit into a snapshot: loading folds all its events");
        }
    }
}

fn encode<A: Aggregate>(root: &Root<A>, version: u64) -> serde_json::Result<Snapshot> {
    let state = serde_json::value::to_raw_value(root.state())?;
    Ok(Snapshot { format: A::SNAPSHOT_VERSION, version, state })
}
