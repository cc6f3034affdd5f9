//! The sagas of a store, for those who look and ask from outside.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;
use uuid::Uuid;

use crate::message::{Clock, Fault, FaultKind, Timestamp, new_id};
use crate::store::{Commit, CommitError, Query, ReadError, Record, Revision, Store};

use super::error::told;
use super::journal::{self, Entry, Payload};
use super::record::{Request, SagaRow};
use super::view::Running;
use super::writer::Stop;
use super::{Failure, SagaState, SagaView};

/// The sagas of a store, whoever runs them: they can be listed, shown, cancelled, told to go on.
///
/// What is asked of a saga is a record; the engine that runs the store's sagas, in this process or another, takes
/// note of it within a second.
#[derive(Debug, Clone)]
pub struct Directory {
    store: Store,
    clock: Clock,
    /// The kinds of saga that this program has the functions of, if it is known.
    kinds: Option<Arc<BTreeSet<&'static str>>>,
}

/// Which sagas to list, and from where on.
#[derive(Debug, Clone, Default)]
pub struct ListSagas {
    /// Only those in this state.
    pub state: Option<SagaState>,
    /// Only those of this kind.
    pub kind: Option<String>,
    /// Only those behind this id.
    pub after: Option<Uuid>,
    /// At most so many; 0 means [`Query::DEFAULT_LIMIT`].
    pub limit: usize,
}

/// Some sagas, and where to go on.
#[derive(Debug, Clone, Default)]
pub struct SagaPage {
    /// The sagas, in the order of their ids.
    pub items: Vec<(Uuid, SagaRow)>,
    /// The id behind which the next page begins; none when this is the last.
    pub next: Option<Uuid>,
}

/// What was asked of a saga could not be written down.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// There is no such saga.
    #[error("there is no saga {0}")]
    Unknown(Uuid),
    /// The saga is over: nothing can be asked of it.
    #[error("saga {0} is over")]
    Over(Uuid),
    /// The store cannot be read.
    #[error("the saga cannot be read")]
    Read(#[from] ReadError),
    /// The store cannot be written.
    #[error("the request cannot be written")]
    Write(#[from] CommitError),
}

impl Fault for RequestError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Unknown(_) => FaultKind::NotFound,
            Self::Over(_) => FaultKind::Conflict,
            Self::Read(error) => error.kind(),
            Self::Write(error) => error.kind(),
        }
    }
}

impl Directory {
    /// The sagas of a store.
    pub fn new(store: &Store, clock: Clock) -> Self {
        Self { store: store.clone(), clock, kinds: None }
    }

    /// As one of a program that has the functions of these kinds, and no others: a saga of another kind that is not
    /// over is shown with the reason why it does not go on here.
    pub(super) fn of_kinds(self, kinds: impl Iterator<Item = &'static str>) -> Self {
        Self { kinds: Some(Arc::new(kinds.collect())), ..self }
    }

    /// Says why a saga does not go on here, if that is known only to this program.
    fn explain(&self, row: &mut SagaRow) {
        let foreign = self.kinds.as_ref().is_some_and(|kinds| !kinds.contains(&*row.kind));
        if foreign && !row.state.is_over() {
            row.reason.get_or_insert_with(|| Stop::Foreign(row.kind.clone()).to_string());
        }
    }

    /// Makes the collections of sagas in the store, if they are not there.
    pub async fn prepare(&self) -> Result<(), CommitError> {
        self.store.define::<SagaRow>().await?;
        self.store.define::<Request>().await
    }

    /// Some sagas.
    pub async fn list(&self, wanted: ListSagas) -> Result<SagaPage, ReadError> {
        let mut query = Query::all().limit(wanted.limit).after(wanted.after.map(|id| id.to_string()));
        if let Some(state) = wanted.state {
            query = query.and("state", state.as_str());
        }
        if let Some(kind) = wanted.kind {
            query = query.and("kind", kind);
        }
        let page = self.store.list::<SagaRow>(query).await?;
        let mut items: Vec<_> = page.records.iter().filter_map(listed).collect();
        items.iter_mut().for_each(|(_, row)| self.explain(row));
        Ok(SagaPage { items, next: page.next.and_then(|key| key.parse().ok()) })
    }

    /// A saga and its steps.
    pub async fn show(&self, id: Uuid) -> Result<Option<SagaView>, ReadError> {
        self.show_with(id, Vec::new()).await
    }

    pub(super) async fn show_with(
        &self,
        id: Uuid,
        running: Vec<Running>,
    ) -> Result<Option<SagaView>, ReadError> {
        let Some(mut row) = self.store.get::<SagaRow>(&id.to_string()).await? else { return Ok(None) };
        self.explain(&mut row);
        let stream = journal::stream(id).expect("a UUID can be a stream's key");
        // What is personal is nothing for who only looks.
        let sealed = self.store.sealed();
        let mut entries: Vec<(Timestamp, Entry)> = Vec::new();
        let mut version = 1;
        loop {
            let events = sealed.read_stream(&stream, version, 500).await?;
            version += events.len() as u64;
            // An entry that cannot be read blocks the saga, and must not hide it from its operator.
            entries.extend(events.iter().filter_map(|event| Some((event.at, Entry::read(event).ok()?))));
            if events.len() < 500 {
                return Ok(Some(SagaView::new(id, row, &entries, running)));
            }
        }
    }

    /// Asks a saga to stop and to undo what it did; to be joined in a commit. A saga that is over stays as it is.
    pub fn cancel(&self, id: Uuid, reason: impl Into<String>) -> Commit {
        self.request(id, &Request::Cancel { reason: reason.into() })
    }

    /// Sends a saga a message; to be joined in a commit. It is kept until the saga waits for it.
    pub fn signal<T: Serialize>(&self, id: Uuid, name: &str, data: &T) -> Result<Commit, Failure> {
        Ok(self.request(id, &Request::signal(name, &Payload::of(data)?)))
    }

    /// Tells a stuck or blocked saga to go on, or one that pauses not to wait.
    pub async fn retry(&self, id: Uuid) -> Result<(), RequestError> {
        let row = self.store.get::<SagaRow>(&id.to_string()).await?.ok_or(RequestError::Unknown(id))?;
        if row.state.is_over() {
            return Err(RequestError::Over(id));
        }
        self.store.commit(self.request(id, &Request::Retry)).await?;
        Ok(())
    }

    fn request(&self, id: Uuid, request: &Request) -> Commit {
        let key = format!("{id}/{}", new_id());
        Commit::new().put_expecting(key, request, Revision::Absent, Some(self.clock.now()))
    }
}

/// A record as it is listed. One that cannot be read must not hide the others: it is listed as blocked by that.
fn listed(record: &Record) -> Option<(Uuid, SagaRow)> {
    let Ok(id) = record.key.parse() else {
        tracing::warn!(key = record.key, "a record of a saga has a key that is no id: it is not listed");
        return None;
    };
    let row = record.decode().unwrap_or_else(|error| SagaRow {
        kind: "unreadable".to_owned(),
        state: SagaState::Blocked,
        reason: Some(told(&error)),
        error: None,
        started_at: Timestamp::UNIX_EPOCH,
        deadline: None,
        ended_at: None,
        pauses: Vec::new(),
    });
    Some((id, row))
}
