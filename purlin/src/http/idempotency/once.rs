//! The same for whoever is not HTTP: a gRPC method, a saga's step, and the undoing of one.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::message::{Fault, FaultKind};
use crate::resilience::DeadlineExceeded;
use crate::store::{Commit, CommitError, Position, ReadError};

use super::engine::{Settled, Ticket, Unsettled, Verb};
use super::entry::Answer;
use super::secret::SecretError;
use super::{Attempt, Idempotency};

/// What a request is told apart by.
#[derive(Debug, Clone, Copy)]
pub struct Key<'a> {
    /// Whose key it is.
    pub caller: &'a str,
    /// The key.
    pub key: &'a str,
    /// What the key stands for: the method and the message, say. Another content under the same key is refused.
    pub content: &'a [u8],
}

/// An effect and its answer, which become true together.
#[derive(Debug, Clone, Default)]
pub struct Done {
    /// The effect; empty when there is none.
    pub commit: Commit,
    /// The answer.
    pub answer: Bytes,
}

/// The answer, now or again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    /// The answer.
    pub answer: Bytes,
    /// Where the store's log was when it was given.
    pub position: Position,
    /// It was given before.
    pub replayed: bool,
}

impl Idempotency {
    /// Does `work` once for a key. A refusal (`Rejected`, `NotFound`, `Conflict`) is kept like an answer; any
    /// other error frees the key.
    pub async fn once<E, F, Fut>(&self, key: Key<'_>, work: F) -> Result<Once, OnceError<E>>
    where
        E: Fault,
        F: Fn(Attempt) -> Fut,
        Fut: Future<Output = Result<Done, E>>,
    {
        let ticket = self.ticket_of(key).await?;
        let work = |attempt, _| {
            let work = work(attempt);
            async { kept(work.await) }
        };
        answered(self.settle(&ticket, Verb::Do, work).await?)
    }

    /// Takes back what was done under a key, once, and forbids it from now on: a step that arrives after its
    /// compensation is refused as undone, also when it was never seen before, and one that is being worked on
    /// can no longer commit.
    ///
    /// `work` gets the answer that the step gave, none when it gave none or a refusal. The content of the key is
    /// not looked at. If `work` fails, the undoing is still under way: ask again.
    pub async fn undo<E, F, Fut>(&self, key: Key<'_>, work: F) -> Result<Once, OnceError<E>>
    where
        E: Fault,
        F: Fn(Attempt, Option<Bytes>) -> Fut,
        Fut: Future<Output = Result<Done, E>>,
    {
        let ticket = self.ticket_of(key).await?;
        let work = |attempt, answer: Option<Answer>| {
            let work = work(attempt, answer.map(|answer| answer.body()));
            async { work.await.map(success) }
        };
        answered(self.settle(&ticket, Verb::Undo, work).await?)
    }

    async fn ticket_of<E>(&self, key: Key<'_>) -> Result<Ticket, OnceError<E>> {
        self.ticket(key.caller, key.key, [key.content]).await.map_err(|error| match error {
            SecretError::Commit(error) => OnceError::Commit(error),
            SecretError::Read(error) => OnceError::Read(error),
            SecretError::NoRandomness => OnceError::Commit(CommitError::Unavailable(Box::new(error))),
        })
    }
}

/// How a refusal is kept beside answers.
const REFUSED: u16 = 422;

fn success(done: Done) -> (Commit, Answer) {
    (done.commit, Answer::new(200, Vec::new(), done.answer))
}

fn kept<E: Fault>(done: Result<Done, E>) -> Result<(Commit, Answer), E> {
    let error = match done {
        Ok(done) => return Ok(success(done)),
        Err(error) => error,
    };
    match error.kind() {
        FaultKind::Rejected | FaultKind::NotFound | FaultKind::Conflict => {
            let refusal = Refusal::of(&error);
            let body = serde_json::to_vec(&refusal).expect("three texts are JSON");
            Ok((Commit::new(), Answer::new(REFUSED, Vec::new(), body.into())))
        }
        _ => Err(error),
    }
}

fn answered<E>(settled: Settled) -> Result<Once, OnceError<E>> {
    let Settled { answer, position, replayed } = settled;
    if answer.is_success() {
        return Ok(Once { answer: answer.body(), position, replayed });
    }
    match serde_json::from_slice(&answer.body()) {
        Ok(refusal) => Err(OnceError::Refused(refusal)),
        // The key of an HTTP request that was answered so.
        Err(_) => Err(OnceError::Reused),
    }
}

/// A refusal as it is kept: what a [`Fault`] tells of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Its kind.
    pub kind: FaultKind,
    /// Its code.
    pub code: String,
    /// What it said.
    pub message: String,
}

impl Refusal {
    /// What an error tells of itself.
    pub fn of(fault: &dyn Fault) -> Self {
        Self { kind: fault.kind(), code: fault.code().to_owned(), message: fault.to_string() }
    }
}

impl Fault for Refusal {
    fn kind(&self) -> FaultKind {
        self.kind
    }

    fn code(&self) -> &str {
        &self.code
    }
}

/// There is no answer under this key.
#[derive(Debug, thiserror::Error)]
pub enum OnceError<E> {
    /// The work failed and may be tried again.
    #[error(transparent)]
    Failed(E),
    /// The work was refused, now or before, for good.
    #[error(transparent)]
    Refused(Refusal),
    /// Somebody works on it: ask again.
    #[error("a request with this key is still running")]
    InProgress,
    /// The key stands for something else.
    #[error("this key was used for another request")]
    Reused,
    /// It was taken back, and is never done.
    #[error("the request with this key was taken back")]
    Undone,
    /// Others change the same thing too often: ask again.
    #[error("too many others change the same thing at this moment")]
    Contended,
    /// The deadline passed; nothing was done in this store.
    #[error(transparent)]
    TooLate(DeadlineExceeded),
    /// The store cannot write.
    #[error("the request could not be committed")]
    Commit(#[source] CommitError),
    /// The store cannot read.
    #[error("what is remembered of the key could not be read")]
    Read(#[source] ReadError),
}

impl<E> From<Unsettled<E>> for OnceError<E> {
    fn from(unsettled: Unsettled<E>) -> Self {
        match unsettled {
            Unsettled::Failed(error) => Self::Failed(error),
            Unsettled::InProgress => Self::InProgress,
            Unsettled::Reused => Self::Reused,
            Unsettled::Undone => Self::Undone,
            Unsettled::Contended => Self::Contended,
            Unsettled::TooLate(error) => Self::TooLate(error),
            Unsettled::Commit(error) => Self::Commit(error),
            Unsettled::Read(error) => Self::Read(error),
        }
    }
}

impl<E: Fault> Fault for OnceError<E> {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Failed(error) => error.kind(),
            Self::Refused(refusal) => refusal.kind,
            Self::InProgress | Self::Contended => FaultKind::Unavailable,
            Self::Reused => FaultKind::Rejected,
            Self::Undone => FaultKind::Conflict,
            Self::TooLate(error) => error.kind(),
            Self::Commit(error) => error.kind(),
            Self::Read(error) => error.kind(),
        }
    }

    fn code(&self) -> &str {
        match self {
            Self::Failed(error) => error.code(),
            Self::Refused(refusal) => &refusal.code,
            Self::InProgress => "idempotency-key-in-progress",
            Self::Reused => "idempotency-key-reused",
            Self::Undone => "undone",
            Self::Contended => "contended",
            Self::TooLate(error) => error.code(),
            Self::Commit(error) => error.code(),
            Self::Read(error) => error.code(),
        }
    }

    fn is_of_another(&self) -> bool {
        matches!(self, Self::Failed(error) if error.is_of_another())
    }

    fn retry_after(&self) -> Option<std::time::Duration> {
        match self {
            Self::Failed(error) => error.retry_after(),
            _ => None,
        }
    }
}
