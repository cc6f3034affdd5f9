//! Removing snapshots: those that no program of today reads, or all. Nothing is lost with them but time.

use futures_util::future::join_all;

use crate::message::{Fault, FaultKind};
use crate::store::{Commit, CommitError, Query, ReadError, Record, Revision, Store, own_of_any};

use super::snapshot::Snapshot;
use super::{Aggregate, Repository};

/// How many snapshots are looked at, and removed, at once.
const PIECE: usize = 32;

/// What became of the snapshots that were looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// They are gone.
    pub removed: u64,
    /// They are there as before, or were written meanwhile.
    pub kept: u64,
}

/// Snapshots could not be looked at, or not be removed; those before are gone.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// The store cannot read them.
    #[error("the snapshots could not be read")]
    Read(#[from] ReadError),
    /// The store cannot remove them.
    #[error("snapshots could not be removed")]
    Write(#[from] CommitError),
}

impl Fault for PruneError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Read(error) => error.kind(),
            Self::Write(error) => error.kind(),
        }
    }
}

impl<A: Aggregate> Repository<A> {
    /// Removes this kind's snapshots that the program does not read: those of another
    /// [`Aggregate::SNAPSHOT_VERSION`], and damaged ones.
    ///
    /// It goes through all of them piece by piece, beside everything else that is done. Dropped at any point, it has
    /// done a part of its work.
    pub async fn prune_snapshots(&self) -> Result<Pruned, PruneError> {
        let unread =
            |record: &Record| !record.decode().is_ok_and(|snapshot: Snapshot| snapshot.is_read_by::<A>());
        remove(self.store(), Some(A::CATEGORY), unread).await
    }
}

/// Removes all snapshots of a store, its tenants' included, or those of the streams of a category; the next loads fold all
/// events again.
///
/// It may be called while aggregates are loaded and updated; those that are written meanwhile may stay. Of each other category
/// of each tenant some are read, and the rest is passed over.
pub async fn drop_snapshots(store: &Store, category: Option<&str>) -> Result<Pruned, PruneError> {
    remove(store, category, |_| true).await
}

async fn remove(
    store: &Store,
    category: Option<&str>,
    unwanted: impl Fn(&Record) -> bool,
) -> Result<Pruned, PruneError> {
    store.define::<Snapshot>().await?;
    let begin = category.map(|category| format!("{category}-")).unwrap_or_default();
    // A tenant's name stands before that of his stream.
    let concerned = |key: &str| own_of_any(key).starts_with(&begin);
    let (mut pruned, mut after) = (Pruned::default(), None);
    loop {
        let page = store.list::<Snapshot>(Query::all().limit(PIECE).after(after)).await?;
        let (unwanted, wanted): (Vec<_>, Vec<_>) =
            page.records.iter().filter(|record| concerned(&record.key)).partition(|record| unwanted(record));
        pruned.kept += wanted.len() as u64;
        for removed in join_all(unwanted.into_iter().map(|record| delete(store, record))).await {
            *if removed? { &mut pruned.removed } else { &mut pruned.kept } += 1;
        }
        let Some(last) = page.next else { return Ok(pruned) };
        after = Some(if concerned(&last) { last } else { behind_its_kind(last) });
    }
}

/// What stands behind all snapshots of a tenant's streams of a category, and before all others that follow one of these.
fn behind_its_kind(key: String) -> String {
    let own = own_of_any(&key);
    let tenant = &key[..key.len() - own.len()];
    match own.split_once('-') {
        // A dot follows the dash in the order of bytes.
        Some((category, _)) => format!("{tenant}{category}."),
        None => key,
    }
}

/// Removes a snapshot, unless another has taken its place.
async fn delete(store: &Store, record: &Record) -> Result<bool, CommitError> {
    let gone = Commit::new().delete::<Snapshot>(&record.key, Revision::Exact(record.revision));
    match store.commit(gone).await {
        Ok(_) => Ok(true),
        Err(CommitError::Conflict(_)) => Ok(false),
        Err(error) => Err(error),
    }
}
