//! Where a saga's entries and its record are written, together.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::message::{Clock, Timestamp};
use crate::store::{Commit, CommitError, Committed, Conflict, Expected, Revision, Row, Store, StreamId};

use super::journal::Entry;
use super::record::{Request, SagaRow};

/// The only writer of one saga's stream and record.
pub(super) struct Writer {
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) shutdown: CancellationToken,
    pub(super) stream: StreamId,
    /// The stream's last version.
    pub(super) version: u64,
    pub(super) row: SagaRow,
    /// The record's revision.
    pub(super) revision: u64,
    /// The record must be written.
    pub(super) dirty: bool,
    /// The record is not due although the saga is at work: the next commit must write it.
    pub(super) asleep: bool,
    /// Entries that are not written yet.
    pub(super) pending: Vec<Entry>,
    /// How many bytes they take, about.
    pub(super) weight: usize,
    /// Requests that the next commit takes note of.
    pub(super) consumed: Vec<(String, u64)>,
}

/// Why a saga's task ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    /// The process ends; the saga goes on with the next.
    #[error("the process ends")]
    Shutdown,
    /// There is nothing to do before a time, or before somebody asks.
    #[error("there is nothing to do for some time")]
    Rest,
    /// The engine itself panicked.
    #[error("the engine panicked")]
    Panicked,
    /// Somebody else wrote to the saga.
    #[error("somebody else wrote to the saga")]
    Lost(#[source] CommitError),
    /// The journal cannot be written.
    #[error("the journal cannot be written")]
    Unwritable(#[source] CommitError),
    /// The saga cannot be read.
    #[error("the saga cannot be read")]
    Unreadable(#[from] crate::store::ReadError),
    /// This program does not have the saga's function: another may.
    #[error("no function is registered for sagas of kind `{0}`")]
    Foreign(String),
}

impl Stop {
    /// Whether it will be the same each time that the saga is tried.
    pub(super) fn is_lasting(&self) -> bool {
        match self {
            Self::Panicked => true,
            Self::Unwritable(error) => matches!(error, CommitError::Invalid(_) | CommitError::Forgotten(_)),
            _ => false,
        }
    }
}

impl Writer {
    /// So many entries and requests, and bytes of entries, are written together at most, give or take one; what is
    /// written with them, a step's effect, has the rest of what a commit may hold.
    const ITEMS: usize = 512;
    const BYTES: usize = 1 << 20;

    pub(super) fn note(&mut self, entry: Entry) {
        self.weight += entry.weight();
        self.pending.push(entry);
    }

    /// Writes what is to be written once it is as much as one commit should take.
    pub(super) async fn relieve(&mut self) -> Result<(), Stop> {
        let many = self.pending.len() + self.consumed.len() >= Self::ITEMS;
        if many || self.weight >= Self::BYTES { self.flush().await } else { Ok(()) }
    }

    pub(super) fn consume(&mut self, key: String, revision: u64) {
        self.consumed.push((key, revision));
    }

    /// Writes what is to be written; waits while the store cannot.
    pub(super) async fn flush(&mut self) -> Result<(), Stop> {
        self.flush_due(Some(self.clock.now())).await
    }

    /// As [`Writer::flush`], with the time when the saga wants to run.
    pub(super) async fn flush_due(&mut self, due: Option<Timestamp>) -> Result<(), Stop> {
        if self.pending.is_empty() && self.consumed.is_empty() && !self.dirty {
            return Ok(());
        }
        let mut pause = Duration::from_millis(20);
        loop {
            match self.commit(&[], due, Commit::new()).await {
                Ok(_) => return Ok(()),
                Err(Refused::Mine(error)) => return Err(Stop::Lost(error)),
                Err(Refused::Effect(error)) => return Err(Stop::Unwritable(error)),
                Err(Refused::ForNow(error)) => {
                    tracing::warn!(stream = %self.stream, %error, "a saga waits for its store");
                    self.pause(pause).await?;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
            }
        }
    }

    /// Writes what is to be written, further entries, and an effect, all or nothing.
    pub(super) async fn commit(
        &mut self,
        further: &[Entry],
        due: Option<Timestamp>,
        effect: Commit,
    ) -> Result<Committed, Refused> {
        let put = self.dirty || self.asleep;
        let own = || self.build(further, put.then_some(due)).map_err(Refused::Effect);
        let mut committed = self.send(own()?.and(effect)).await?;
        if committed.repeated {
            // The effect has an id of its own and has happened before: then nothing of the saga was written.
            committed = self.send(own()?).await?;
        }
        self.version += (self.pending.len() + further.len()) as u64;
        if put {
            self.revision = committed.revision;
        }
        self.pending.clear();
        self.weight = 0;
        self.consumed.clear();
        (self.dirty, self.asleep) = (false, false);
        Ok(committed)
    }

    async fn send(&self, commit: Commit) -> Result<Committed, Refused> {
        self.store.commit(commit).await.map_err(|error| self.sort(error))
    }

    fn build(&self, further: &[Entry], put: Option<Option<Timestamp>>) -> Result<Commit, CommitError> {
        let entries = self.pending.iter().chain(further);
        let events: Result<Vec<_>, _> = entries.map(Entry::envelope).collect();
        let events = events.map_err(|error| CommitError::Invalid(error.to_string()))?;
        let mut commit = Commit::new().append(self.stream.clone(), Expected::Version(self.version), events);
        if let Some(due) = put {
            let expected = Revision::Exact(self.revision);
            commit = commit.put_expecting(self.stream.key(), &self.row, expected, due);
        }
        for (key, revision) in &self.consumed {
            commit = commit.delete::<Request>(key, Revision::Exact(*revision));
        }
        Ok(commit)
    }

    fn sort(&self, error: CommitError) -> Refused {
        match &error {
            CommitError::Conflict(Conflict::Stream { stream, .. }) if *stream == self.stream => {
                Refused::Mine(error)
            }
            CommitError::Conflict(conflict) => {
                let mine = conflict.is_record(SagaRow::COLLECTION, self.stream.key())
                    || self.consumed.iter().any(|(key, _)| conflict.is_record(Request::COLLECTION, key));
                if mine { Refused::Mine(error) } else { Refused::Effect(error) }
            }
            CommitError::Invalid(_) | CommitError::Forgotten(_) => Refused::Effect(error),
            CommitError::MasterKey(_) | CommitError::Overloaded | CommitError::Unavailable(_) => {
                Refused::ForNow(error)
            }
        }
    }

    /// Sleeps, unless the process ends.
    pub(super) async fn pause(&self, time: Duration) -> Result<(), Stop> {
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            () = self.shutdown.cancelled() => Err(Stop::Shutdown),
        }
    }

    /// Whether the saga should have ended by now.
    pub(super) fn is_late(&self) -> bool {
        self.row.deadline.is_some_and(|deadline| deadline <= self.clock.now())
    }
}

/// Why a commit was not applied.
pub(super) enum Refused {
    /// The saga's own stream or record is not as it was left: somebody else runs it.
    Mine(CommitError),
    /// The effect that was to be joined does not fit, or never will.
    Effect(CommitError),
    /// The store cannot take it at the moment.
    ForNow(CommitError),
}

impl Refused {
    pub(super) fn into_error(self) -> CommitError {
        match self {
            Self::Mine(error) | Self::Effect(error) | Self::ForNow(error) => error,
        }
    }
}
