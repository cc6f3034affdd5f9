//! Why an aggregate was not loaded, or not changed.

use crate::message::{EncodeError, Fault, FaultKind, UnknownName};
use crate::store::{CommitError, ReadError, StreamIdError, UnreadableEvent};

/// An aggregate could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The identity cannot name a stream.
    #[error("this cannot be the identity of an aggregate")]
    Id(#[from] StreamIdError),
    /// The store could not be read.
    #[error("the events could not be read")]
    Read(#[from] ReadError),
    /// An event does not fit the aggregate's event enum.
    #[error(transparent)]
    Unreadable(#[from] UnreadableEvent),
    /// What the event enum says of its past cannot be.
    #[error("the aggregate's events cannot be read")]
    Evolution(#[from] UnknownName),
}

impl Fault for LoadError {
    fn kind(&self) -> FaultKind {
        match self {
            // The kind is the program's, the rest of the name its caller's.
            Self::Id(StreamIdError::Category) => FaultKind::Bug,
            Self::Id(_) => FaultKind::NotFound,
            Self::Read(error) => error.kind(),
            Self::Unreadable(_) | Self::Evolution(_) => FaultKind::Bug,
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

    fn is_of_another(&self) -> bool {
        matches!(self, Self::Refused(error) if error.is_of_another())
    }

    fn retry_after(&self) -> Option<std::time::Duration> {
        match self {
            Self::Refused(error) => error.retry_after(),
            _ => None,
        }
    }
}
