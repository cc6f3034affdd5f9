//! The wrapper of a store's engine.

use crate::store::{Archived, BoxFuture, Commit, CommitError, Committed, Engine, Layer, StreamId};

use super::CrashPoints;

/// An engine whose commits and archivings are places to crash at; all else goes straight through.
#[derive(Debug)]
pub struct Guarded<E> {
    engine: E,
    points: CrashPoints,
}

impl<E: Engine> Guarded<E> {
    pub(super) fn new(engine: E, points: CrashPoints) -> Self {
        Self { engine, points }
    }
}

impl<E: Engine> Layer for Guarded<E> {
    fn inner(&self) -> &dyn Engine {
        &self.engine
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(async move {
            self.points.begin();
            let committed = self.engine.commit(commit).await?;
            self.points.applied();
            Ok(committed)
        })
    }

    fn archive(&self, streams: Vec<StreamId>, limit: usize) -> BoxFuture<'_, Result<Archived, CommitError>> {
        Box::pin(async move {
            self.points.begin();
            let archived = self.engine.archive(streams, limit).await?;
            self.points.applied();
            Ok(archived)
        })
    }
}
