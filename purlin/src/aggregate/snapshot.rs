//! A state that was written down, so that loading need not fold every event from the first on.

use std::collections::HashMap;
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::Mutex as AsyncMutex;

use crate::message::{Fault, storing};
use crate::store::{Commit, CommitError, ReadError, Record, Revision, Row, Store, StreamId};

use super::{Aggregate, Root};

/// The record of a snapshot, under its stream's name.
#[derive(Serialize, Deserialize)]
pub(super) struct Snapshot {
    format: u32,
    version: u64,
    state: Box<RawValue>,
}

impl Row for Snapshot {
    const COLLECTION: &'static str = "purlin_snapshots";
}

impl Snapshot {
    /// Whether it is of the version that the program writes.
    pub(super) fn is_read_by<A: Aggregate>(&self) -> bool {
        self.format == A::SNAPSHOT_VERSION
    }
}

/// What a repository knows about its snapshots.
#[derive(Default)]
pub(super) struct Snapshots {
    /// Whether their collection is there, as far as is known.
    ready: AtomicBool,
    preparing: AsyncMutex<()>,
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
    async fn prepare(&self, store: &Store) -> Result<(), CommitError> {
        if self.ready.load(Ordering::Acquire) {
            return Ok(());
        }
        let _turn = self.preparing.lock().await;
        if !self.ready.load(Ordering::Acquire) {
            store.define::<Snapshot>().await?;
            self.ready.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// The aggregate as of its last snapshot, or its beginning when none is there that this program can read. Only a
    /// store that cannot be read at the moment is an error: all else costs no more than time.
    pub(super) async fn read<A: Aggregate>(
        &self,
        store: &Store,
        stream: &StreamId,
        id: &str,
    ) -> Result<Found<A>, ReadError> {
        // On a store that takes no writes there are snapshots all the same.
        if let Err(error) = self.prepare(store).await {
            tracing::debug!(%stream, error = &error as &dyn Error, "the snapshots could not be prepared");
        }
        let record = match store.get_record(Snapshot::COLLECTION, stream.as_str()).await {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(Found { root: Root::new(id), revision: Revision::Absent }),
            Err(error) if error.kind().is_transient() => return Err(error),
            Err(error) => {
                // Its collection is gone, or what is stored is damaged.
                self.ready.store(false, Ordering::Release);
                _ = self.prepare(store).await;
                tell_damaged(stream, &error);
                return Ok(Found { root: Root::new(id), revision: Revision::Any });
            }
        };
        let root = understand(&record, id).unwrap_or_else(|error| {
            tell_damaged(stream, &error);
            None
        });
        Ok(Found { root: root.unwrap_or_else(|| Root::new(id)), revision: Revision::Exact(record.revision) })
    }

    /// The commit of what a root decided with a snapshot in it, when one is due. It costs no commit of its own, and
    /// needs no condition but the append's: when the append holds, the state is what the snapshot says.
    pub(super) async fn add<A: Aggregate>(
        &self,
        store: &Store,
        root: &Root<A>,
        commit: &Commit,
    ) -> Option<Commit> {
        if !A::SNAPSHOTS.is_due(root.behind_snapshot(), root.is_slow()) {
            return None;
        }
        let (stream, after) = (root.stream().ok()?, root.version() + root.uncommitted().len() as u64);
        if self.is_large::<A>(&stream, after) || self.prepare(store).await.is_err() {
            return None;
        }
        let snapshot = encode(root, after).map_err(|error| self.tell(&stream, after, &error)).ok()?;
        let with = commit.clone().put(stream.as_str(), &snapshot);
        store.limits().check(&with).map_err(|error| self.tell(&stream, after, &error)).ok()?;
        Some(with)
    }

    /// A commit was refused that had a snapshot in it: for some time this aggregate is committed without one.
    #[cold]
    pub(super) fn refused<A: Aggregate>(&self, root: &Root<A>, error: &CommitError) {
        self.ready.store(false, Ordering::Release);
        if let Ok(stream) = root.stream() {
            self.tell(&stream, root.version(), error);
        }
    }

    /// Whether a state was too large not long ago: it is not tried at every turn, but a state can shrink.
    fn is_large<A: Aggregate>(&self, stream: &StreamId, version: u64) -> bool {
        self.large().get(stream).is_some_and(|tried| version < tried.saturating_add(A::SNAPSHOTS.retry()))
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
        let overdue = A::SNAPSHOTS.is_overdue(root.behind_snapshot(), root.is_slow());
        if !overdue || self.is_large::<A>(stream, root.version()) {
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
            Err(error @ (CommitError::Invalid(_) | CommitError::Forgotten(_))) => {
                self.tell(stream, root.version(), &error);
            }
            Err(error) => {
                let error = &error as &dyn Error;
                tracing::warn!(%stream, error, "a snapshot could not be written");
            }
        }
    }

    /// A snapshot is only a short cut: without it nothing is lost, and once is often enough to say so.
    #[cold]
    fn tell(&self, stream: &StreamId, version: u64, error: &(dyn Error + 'static)) {
        let mut large = self.large();
        if large.len() >= LARGE && !large.contains_key(stream) {
            large.clear();
        }
        if large.insert(stream.clone(), version).is_none() {
            tracing::warn!(%stream, error, "a state cannot be kept as a snapshot: loading folds all its events");
        }
    }
}

/// The aggregate that a record holds; none if it is of another version.
fn understand<A: Aggregate>(record: &Record, id: &str) -> Result<Option<Root<A>>, ReadError> {
    let snapshot: Snapshot = record.decode()?;
    if !snapshot.is_read_by::<A>() {
        return Ok(None);
    }
    let state =
        storing(|| serde_json::from_str(snapshot.state.get())).map_err(|source| ReadError::Unreadable {
            what: format!("the state in the record `{}`", record.key),
            source: source.into(),
        })?;
    Ok(Some(Root::at(id, state, snapshot.version)))
}

#[cold]
fn tell_damaged(stream: &StreamId, error: &ReadError) {
    tracing::warn!(%stream, error = error as &dyn Error, "a snapshot cannot be read and is ignored");
}

fn encode<A: Aggregate>(root: &Root<A>, version: u64) -> serde_json::Result<Snapshot> {
    let state = storing(|| serde_json::value::to_raw_value(root.state()))?;
    Ok(Snapshot { format: A::SNAPSHOT_VERSION, version, state })
}
