//! Loads aggregates, lets them decide, and commits what they decided.

use std::fmt::Display;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::message::{DecodeError, EncodeError, Fault, FaultKind, decode};
use crate::store::{
    Append, Commit, CommitError, Conflict, ReadError, Recorded, Revision, Store, StreamId, StreamIdError,
};

use super::snapshot::{Found, Snapshots};
use super::turns::Turns;
use super::{Aggregate, IntoEvents, Root};

/// How many events are read at once.
const PAGE: usize = 512;

/// How often a decision is made anew because somebody else was faster.
const ATTEMPTS: usize = 100;

/// The aggregates of one kind in a store; cheap to clone.
pub struct Repository<A> {
    store: Store,
    snapshots: Arc<Snapshots>,
    turns: Arc<Turns>,
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
        Self { store: store.clone(), snapshots: Arc::default(), turns: Arc::default(), kind: PhantomData }
    }

    /// The aggregate as it is now; one that nothing has happened to has version 0.
    pub async fn load(&self, id: impl Display) -> Result<Root<A>, LoadError> {
        let id = id.to_string();
        let stream = StreamId::new(A::KIND, &id)?;
        let Found { mut root, revision } = self.start(&stream, &id).await?;
        loop {
            let (events, more) = self.store.read_stream_page(&stream, root.version() + 1, PAGE).await?;
            for event in &events {
                root.replay(&read::<A>(event)?);
            }
            if !more {
                break;
            }
        }
        self.snapshots.make_up(&self.store, &stream, &mut root, revision).await;
        Ok(root)
    }

    /// The last snapshot, or the beginning.
    async fn start(&self, stream: &StreamId, id: &str) -> Result<Found<A>, LoadError> {
        if A::SNAPSHOT_EVERY == 0 {
            return Ok(Found { root: Root::new(id), revision: Revision::Absent });
        }
        self.snapshots.prepare(&self.store).await.map_err(LoadError::Prepare)?;
        Ok(self.snapshots.read(&self.store, stream, id).await?)
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
        let stream = StreamId::new(A::KIND, &id).map_err(LoadError::from)?;
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
        let with = self.snapshots.add(&self.store, root, &commit).await;
        let with_snapshot = with.is_some();
        self.store.commit(with.unwrap_or(commit)).await?;
        root.committed(with_snapshot);
        Ok(())
    }

    /// At most `limit` of its events from a version on, as they stand in the log.
    pub async fn history(
        &self,
        id: impl Display,
        from: u64,
        limit: usize,
    ) -> Result<Vec<(Recorded, A::Event)>, LoadError> {
        let stream = StreamId::new(A::KIND, id)?;
        let events = self.store.read_stream(&stream, from, limit).await?;
        events.into_iter().map(|event| read::<A>(&event).map(|content| (event, content))).collect()
    }
}

impl<A> Clone for Repository<A> {
    fn clone(&self) -> Self {
        let (snapshots, turns) = (Arc::clone(&self.snapshots), Arc::clone(&self.turns));
        Self { store: self.store.clone(), snapshots, turns, kind: PhantomData }
    }
}

fn read<A: Aggregate>(event: &Recorded) -> Result<A::Event, LoadError> {
    decode(&event.envelope.kind, &event.envelope.data).map_err(|source| LoadError::Unreadable {
        stream: event.stream.clone(),
        version: event.version,
        source,
    })
}

/// An aggregate could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The identity cannot name a stream.
    #[error("this cannot be the identity of an aggregate")]
    Id(#[from] StreamIdError),
    /// The store could not be read.
    #[error("the events could not be read")]
    Read(#[from] ReadError),
    /// The collection of snapshots could not be made.
    #[error("the snapshots could not be prepared")]
    Prepare(#[source] CommitError),
    /// An event does not fit the aggregate's event type.
    #[error("event {version} of stream `{stream}` cannot be read")]
    Unreadable {
        /// Its stream.
        stream: StreamId,
        /// Its version there.
        version: u64,
        /// What does not fit.
        #[source]
        source: DecodeError,
    },
}

impl Fault for LoadError {
    fn kind(&self) -> FaultKind {
        match self {
            // The kind is the program's, the rest of the name its caller's.
            Self::Id(StreamIdError::Category) => FaultKind::Bug,
            Self::Id(_) => FaultKind::NotFound,
            Self::Read(error) => error.kind(),
            Self::Prepare(error) => error.kind(),
            Self::Unreadable { .. } => FaultKind::Bug,
        }
    }
}

/// An aggregate was not changed.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError<E> {
    /// The decision itself refused.
    #[error(transparent)]
    Refused(E),
    /// It could not be loaded.
    #[error("the aggregate could not be loaded")]
    Load(#[from] LoadError),
    /// What was decided cannot be written.
    #[error("what was decided cannot be written")]
    Encode(#[source] EncodeError),
    /// The store did not take it.
    #[error("what was decided could not be committed")]
    Commit(#[source] CommitError),
    /// Others were faster, a hundred times in a row.
    #[error("too many others change the same aggregate")]
    Contended,
}

impl<E: Fault> Fault for UpdateError<E> {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Refused(error) => error.kind(),
            Self::Load(error) => error.kind(),
            Self::Encode(_) => FaultKind::Bug,
            Self::Commit(error) => error.kind(),
            Self::Contended => FaultKind::Overloaded,
        }
    }

    fn code(&self) -> &str {
        match self {
            Self::Refused(error) => error.code(),
            other => other.kind().as_str(),
        }
    }
}
