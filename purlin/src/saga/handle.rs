//! The handle of a service's sagas.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::message::{Clock, Fault, FaultKind};
use crate::store::{Commit, CommitError, Expected, ReadError, Revision, Store};
use crate::telemetry::Metrics;

use super::desk::{Desk, Knock};
use super::directory::{Directory, ListSagas, RequestError, SagaPage};
use super::journal::{self, Entry, Payload};
use super::kind::{IntoKind, Kind};
use super::metrics::Seen;
use super::record::SagaRow;
use super::{Failure, SagaState, SagaView, scheduler};

/// The sagas of a service: what they are, and the door to those that run. Cheap to clone.
pub struct Sagas<S> {
    pub(super) store: Store,
    pub(super) services: Arc<S>,
    pub(super) clock: Clock,
    pub(super) kinds: Arc<BTreeMap<&'static str, Arc<Kind<S>>>>,
    pub(super) desk: Arc<Desk>,
    pub(super) directory: Directory,
    pub(super) in_memory: usize,
    pub(super) seen: Option<Seen>,
}

/// A saga cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Nothing is registered under this name.
    #[error("no function is registered for sagas of kind `{0}`")]
    UnknownKind(String),
    /// The input cannot be journalled.
    #[error("the input of a saga cannot be written")]
    Input(#[source] Failure),
}

impl Fault for StartError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::UnknownKind(_) => FaultKind::Bug,
            Self::Input(failure) => failure.kind,
        }
    }
}

impl<S: Send + Sync + 'static> Sagas<S> {
    /// How many sagas are in memory at a time, unless it is said.
    pub const IN_MEMORY: usize = 2048;

    /// No sagas yet; `services` is what their steps are given.
    pub fn new(store: &Store, services: S, clock: Clock) -> Self {
        Self {
            store: store.clone(),
            services: Arc::new(services),
            directory: Directory::new(store, clock.clone()).of_kinds(std::iter::empty()),
            clock,
            kinds: Arc::default(),
            desk: Arc::new(Desk::new()),
            in_memory: Self::IN_MEMORY,
            seen: None,
        }
    }

    /// Registers a kind of saga: an async function, or a [`Function`](super::Function) that says more of it.
    ///
    /// The name is stored with each saga: under it the function must be found again after a restart.
    pub fn register<M>(mut self, name: &'static str, kind: impl IntoKind<S, M>) -> Self {
        let mut kinds = BTreeMap::clone(&self.kinds);
        kinds.insert(name, Arc::new(kind.into_kind()));
        self.directory = self.directory.of_kinds(kinds.keys().copied());
        self.kinds = Arc::new(kinds);
        self
    }

    /// Keeps at most so many sagas in memory; the others wait in the store. While some wait, a saga that only pauses
    /// leaves memory for them, so that those whose callee is away do not hold up those who could go on.
    pub fn in_memory(mut self, sagas: usize) -> Self {
        self.in_memory = sagas.max(1);
        self
    }

    /// Shows how many sagas are in memory, do not go on by themselves or belong to another program, and counts what is
    /// tried again and what has ended. The metrics are those of one store: `of` is its service.
    pub fn metrics(mut self, metrics: &Metrics, of: &str) -> Self {
        self.seen = Some(Seen::register(metrics, of));
        self
    }

    /// Makes the collections of sagas in the store, if they are not there: before the first start is committed.
    pub async fn prepare(&self) -> Result<(), CommitError> {
        self.directory.prepare().await
    }

    /// The start of a saga, to be joined in a commit; afterwards [`kick`](Self::kick) it.
    ///
    /// The commit conflicts if the saga was started before.
    pub fn start<I: Serialize>(&self, kind: &str, id: Uuid, input: &I) -> Result<Commit, StartError> {
        let unknown = || StartError::UnknownKind(kind.to_owned());
        let definition = self.kinds.get(kind).ok_or_else(unknown)?;
        let input = Payload::of(input).map_err(StartError::Input)?;
        let now = self.clock.now();
        let deadline = definition.deadline.and_then(|deadline| now.checked_add(deadline).ok());
        let started = Entry::Started { kind: kind.to_owned(), input, deadline };
        let started =
            started.envelope().map_err(|error| StartError::Input(Failure::bug(error.to_string())))?;
        let row = SagaRow {
            kind: kind.to_owned(),
            state: SagaState::Running,
            reason: None,
            error: None,
            started_at: now,
            deadline,
            ended_at: None,
            pauses: Vec::new(),
        };
        let stream = journal::stream(id).expect("a UUID can be a stream's key");
        Ok(Commit::new().append(stream, Expected::NoStream, [started]).put_expecting(
            id.to_string(),
            &row,
            Revision::Absent,
            Some(now),
        ))
    }

    /// Says that a saga was started, or that something was asked of it. It is only a hint: without it the same
    /// happens, up to a second later.
    pub fn kick(&self, id: Uuid) {
        self.desk.knock(Knock::Heed(id));
    }

    /// Asks a saga to stop and to undo what it did; to be joined in a commit, then [`kick`](Self::kick) it.
    pub fn cancel(&self, id: Uuid, reason: impl Into<String>) -> Commit {
        self.directory.cancel(id, reason)
    }

    /// Sends a saga a message; to be joined in a commit, then [`kick`](Self::kick) it. It is kept until the saga
    /// waits for it.
    pub fn signal<T: Serialize>(&self, id: Uuid, name: &str, data: &T) -> Result<Commit, Failure> {
        self.directory.signal(id, name, data)
    }

    /// Tells a stuck or blocked saga to go on, or one that pauses not to wait.
    pub async fn retry(&self, id: Uuid) -> Result<(), RequestError> {
        self.directory.retry(id).await?;
        self.kick(id);
        Ok(())
    }

    /// Some sagas.
    pub async fn list(&self, wanted: ListSagas) -> Result<SagaPage, ReadError> {
        self.directory.list(wanted).await
    }

    /// A saga and its steps, those included that are under way in this process.
    pub async fn show(&self, id: Uuid) -> Result<Option<SagaView>, ReadError> {
        self.directory.show_with(id, self.desk.running(id)).await
    }

    /// Waits until a saga is over, or does not go on by itself, and shows it.
    pub async fn wait(&self, id: Uuid, patience: Duration) -> Result<SagaView, WaitError> {
        let mut changes = self.store.watch();
        let waited = tokio::time::timeout(patience, async {
            loop {
                let row = self.store.get::<SagaRow>(&id.to_string()).await?;
                match row.ok_or(WaitError::Unknown(id))?.state {
                    SagaState::Running | SagaState::Compensating => {}
                    _ => return self.show(id).await?.ok_or(WaitError::Unknown(id)),
                }
                if changes.changed().await.is_err() {
                    return Err(WaitError::StillRunning(id));
                }
            }
        });
        waited.await.unwrap_or(Err(WaitError::StillRunning(id)))
    }

    /// The store that the sagas live in.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The sagas for those who only look and ask.
    pub fn directory(&self) -> Directory {
        self.directory.clone()
    }

    /// Runs the sagas until `shutdown`; what is not over then goes on with the next run, in this process or another.
    ///
    /// One run at a time: a second one waits until the first has ended.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), CommitError> {
        scheduler::run(self, shutdown).await
    }
}

impl<S> Clone for Sagas<S> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            services: Arc::clone(&self.services),
            clock: self.clock.clone(),
            kinds: Arc::clone(&self.kinds),
            desk: Arc::clone(&self.desk),
            directory: self.directory.clone(),
            in_memory: self.in_memory,
            seen: self.seen.clone(),
        }
    }
}

/// A saga was waited for in vain.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// There is no such saga.
    #[error("there is no saga {0}")]
    Unknown(Uuid),
    /// It takes longer.
    #[error("saga {0} is still running")]
    StillRunning(Uuid),
    /// The store cannot be read.
    #[error("the saga cannot be read")]
    Read(#[from] ReadError),
}

impl Fault for WaitError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Unknown(_) => FaultKind::NotFound,
            Self::StillRunning(_) => FaultKind::Timeout,
            Self::Read(error) => error.kind(),
        }
    }
}
