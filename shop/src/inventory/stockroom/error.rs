//! Why the stockroom did not do what was wanted.

use std::sync::Arc;

use purlin::aggregate::LoadError;
use purlin::message::{Fault, FaultKind};
use purlin::store::CommitError;

use super::super::reservation::ReserveError;

/// Nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum StockroomError {
    /// The lines cannot be held.
    #[error(transparent)]
    Refused(ReserveError),
    /// The stockroom could not decide, for many at once.
    #[error("the stockroom could not decide")]
    Trouble(#[source] Arc<Trouble>),
    /// More wait for the stockroom than it can take.
    #[error("more wait for the stockroom than it can take")]
    Overloaded,
    /// The stockroom was stopped before it had decided.
    #[error("the stockroom was stopped: ask again")]
    Stopped,
}

/// Why nothing could be decided.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// A shelf or a reservation could not be read.
    #[error("a shelf or a reservation cannot be read")]
    Load(#[from] LoadError),
    /// The store did not take it.
    #[error("what was decided could not be committed")]
    Commit(#[source] CommitError),
    /// Somebody else changed the shelves, time and again.
    #[error("too many others change the same shelves")]
    Contended,
    /// What is held for an order and what is on its shelves do not fit together.
    #[error("an order's reservation and its shelves do not fit together")]
    Stale,
}

impl Trouble {
    /// Why a commit was not applied.
    pub(super) fn of(error: CommitError) -> Self {
        match error {
            CommitError::Conflict(_) => Self::Contended,
            error => Self::Commit(error),
        }
    }
}

impl Fault for StockroomError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Refused(error) => error.kind(),
            Self::Trouble(trouble) => match &**trouble {
                Trouble::Load(error) => error.kind(),
                Trouble::Commit(error) => error.kind(),
                Trouble::Contended => FaultKind::Overloaded,
                Trouble::Stale => FaultKind::Unavailable,
            },
            Self::Overloaded => FaultKind::Overloaded,
            Self::Stopped => FaultKind::Unavailable,
        }
    }

    fn code(&self) -> &str {
        match self {
            Self::Refused(error) => error.code(),
            other => other.kind().as_str(),
        }
    }
}
