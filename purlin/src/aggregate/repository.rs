//! Loads aggregates, lets them decide, and commits what they decided.

use std::fmt::Display;
use std::marker::PhantomData;
use std::sync::Arc;

use tokio::time::Instant;

use crate::message::{UnknownName, check_names};
use crate::store::{Append, Commit, CommitError, Conflict, Recorded, Revision, Store, StreamId};

use super::snapshot::{Found, Snapshots};
use super::turns::Turns;
use super::{Aggregate, IntoEvents, LoadError, Root, SnapshotPolicy, UpdateError};

/// How many events are read at once.
const PAGE: usize = 512;

/// How often a decision is made anew because somebody else was faster.
const ATTEMPTS: usize = 100;

/// The aggregates of one kind in a store; cheap to clone.
pub struct Repository<A> {
    store: Store,
    snapshots: Arc<Snapshots>,
    turns: Arc<Turns>,
    /// What the event enum says of its past and cannot be.
    misnamed: Option<UnknownName>,
    kind: PhantomData<fn() -> A>,
}

/// What an aggregate decided, to be committed together with other things.
pub struct Change<A: Aggregate> {
    /// The aggregate as it will be, its events still uncommitted.
    pub root: Root<A>,
    /// The append for the commit ([`Commit::append_all`]).
    pub append: Append,
}

impl<A: Aggregate> From<Change<A>> for Commit {
    fn from(change: Change<A>) -> Self {
        Self::new().append_all(change.append)
    }
}

impl<A: Aggregate> Repository<A> {
    /// The aggregates in `store`.
    pub fn new(store: &Store) -> Self {
        let (snapshots, turns, misnamed) = (Arc::default(), Arc::default(), check_names::<A::Event>().err());
        Self { store: store.clone(), snapshots, turns, misnamed, kind: PhantomData }
    }

    /// The aggregate as it is now; one that nothing has happened to has version 0.
    pub async fn load(&self, id: impl Display) -> Result<Root<A>, LoadError> {
        if let Some(misnamed) = self.misnamed {
            return Err(misnamed.into());
        }
        let id = id.to_string();
        let stream = StreamId::new(A::CATEGORY, &id)?;
        let Found { mut root, revision } = self.start(&stream, &id).await?;
        let began = A::SNAPSHOTS.after.map(|_| Instant::now());
        self.follow(&mut root, &stream).await?;
        root.took_long(began.is_some_and(|began| A::SNAPSHOTS.is_slow(began.elapsed())));
        self.snapshots.make_up(&self.store, &stream, &mut root, revision).await;
        Ok(root)
    }

    /// The last snapshot, or the beginning.
    async fn start(&self, stream: &StreamId, id: &str) -> Result<Found<A>, LoadError> {
        if A::SNAPSHOTS == SnapshotPolicy::NEVER {
            return Ok(Found { root: Root::new(id), revision: Revision::Absent });
        }
        Ok(self.snapshots.read(&self.store, stream, id).await?)
    }

    /// Folds in what is behind a snapshot. The last event that it stands for is read again: one that stands for more
    /// events than there are is of another log, and stands for nothing.
    async fn follow(&self, root: &mut Root<A>, stream: &StreamId) -> Result<(), LoadError> {
        let mut from = root.version().max(1);
        loop {
            let (events, more) = self.store.read_stream_page(stream, from, PAGE).await?;
            let follows = events.first().is_some_and(|event| event.version == from);
            if root.version() == from && !follows {
                tracing::warn!(%stream, version = from, "a snapshot of events that are not there is ignored");
                (*root, from) = (Root::new(root.id()), 1);
                continue;
            }
            let seen = root.version();
            for recorded in events.iter().filter(|event| event.version > seen) {
                match recorded.read()? {
                    Some(event) => root.replay(&event),
                    None => root.pass_over(),
                }
            }
            if !more {
                return Ok(());
            }
            from = root.version() + 1;
        }
    }

    /// Loads, decides, and commits what was decided; when somebody else was faster, on the new state again.
    ///
    /// The decision is called once for each attempt. A decision of no events commits nothing. Callers of this
    /// repository (and its clones) who want the same aggregate take turns once one of them was too slow, for as long
    /// as others wait; nobody waits for a caller of another aggregate.
    ///
    /// Dropping the future does not undo a commit that is under way, and whether it happened is then not known. Who
    /// wants to ask again commits a [`Repository::change`] under an id ([`Commit::with_id`]).
    pub async fn update<D, E>(
        &self,
        id: impl Display,
        decide: impl Fn(&A) -> Result<D, E>,
    ) -> Result<Root<A>, UpdateError<E>>
    where
        D: IntoEvents<A::Event>,
    {
        let id = id.to_string();
        let stream = StreamId::new(A::CATEGORY, &id).map_err(LoadError::from)?;
        let mut attempts = self.turns.of(&stream);
        attempts.begin().await;
        for _ in 0..ATTEMPTS {
            let Change { mut root, append } = self.change(&id, &decide).await?;
            if append.events.is_empty() {
                return Ok(root);
            }
            match self.commit(&mut root, append).await {
                Ok(()) => return Ok(root),
                Err(CommitError::Conflict(Conflict::Stream { .. })) => attempts.lost().await,
                Err(error) => return Err(UpdateError::Commit(error)),
            }
        }
        Err(UpdateError::Contended)
    }

    /// Loads and decides, and leaves it to the caller to commit the decision together with other things. On a
    /// conflict he calls again.
    pub async fn change<D, E>(
        &self,
        id: impl Display,
        decide: impl Fn(&A) -> Result<D, E>,
    ) -> Result<Change<A>, UpdateError<E>>
    where
        D: IntoEvents<A::Event>,
    {
        let mut root = self.load(id).await?;
        let events = decide(root.state()).map_err(UpdateError::Refused)?.into_events();
        for event in events {
            root.record(event);
        }
        let stream = root.stream().map_err(LoadError::from)?;
        let append = root.append(stream).map_err(UpdateError::Encode)?;
        Ok(Change { root, append })
    }

    /// Commits what was recorded in a root, if nobody else changed the aggregate since it was loaded.
    pub async fn save(&self, root: &mut Root<A>) -> Result<(), UpdateError<std::convert::Infallible>> {
        let stream = root.stream().map_err(LoadError::from)?;
        let append = root.append(stream).map_err(UpdateError::Encode)?;
        if !append.events.is_empty() {
            self.commit(root, append).await.map_err(UpdateError::Commit)?;
        }
        Ok(())
    }

    /// Commits what was recorded in a root, and a snapshot with it when one is due.
    async fn commit(&self, root: &mut Root<A>, append: Append) -> Result<(), CommitError> {
        let commit = Commit::new().append_all(append);
        if let Some(with_snapshot) = self.snapshots.add(&self.store, root, &commit).await {
            match self.store.commit(with_snapshot).await {
                Ok(_) => {
                    root.committed(true);
                    return Ok(());
                }
                // Something is wrong with the snapshot, or with its collection: the events go without it.
                Err(error @ (CommitError::Invalid(_) | CommitError::Forgotten(_))) => {
                    self.snapshots.refused(root, &error);
                }
                Err(error) => return Err(error),
            }
        }
        self.store.commit(commit).await?;
        root.committed(false);
        Ok(())
    }

    /// At most `limit` of its events from a version on, as they stand in the log. Those of retired kinds are left out:
    /// when there are fewer, there are no more.
    pub async fn history(
        &self,
        id: impl Display,
        from: u64,
        limit: usize,
    ) -> Result<Vec<(Recorded, A::Event)>, LoadError> {
        let stream = StreamId::new(A::CATEGORY, id)?;
        let (mut from, mut history) = (from.max(1), Vec::new());
        while history.len() < limit {
            let wanted = limit - history.len();
            let events = self.store.read_stream(&stream, from, wanted).await?;
            from += events.len() as u64;
            let last = events.len() < wanted;
            for recorded in events {
                if let Some(event) = recorded.read()? {
                    history.push((recorded, event));
                }
            }
            if last {
                break;
            }
        }
        Ok(history)
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }
}

impl<A> Clone for Repository<A> {
    fn clone(&self) -> Self {
        let (snapshots, turns) = (Arc::clone(&self.snapshots), Arc::clone(&self.turns));
        Self { store: self.store.clone(), snapshots, turns, misnamed: self.misnamed, kind: PhantomData }
    }
}
