//! Why a call had no good answer.

use crate::message::{Fault, FaultKind};

use crate::resilience::Open;

/// A call had no good answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError<E> {
    /// The callee was not called: it failed too often.
    #[error(transparent)]
    Open(#[from] Open),
    /// There was no answer in time; whether there was an effect is unknown.
    #[error("there was no answer in time")]
    DeadlineExceeded,
    /// The callee's answer is an error, of the last attempt if there were several.
    #[error(transparent)]
    Failed(E),
}

impl<E: Fault> CallError<E> {
    /// What metrics call it.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::Open(_) => "open",
            Self::DeadlineExceeded => "deadline-exceeded",
            Self::Failed(error) => error.kind().as_str(),
        }
    }
}

impl<E: Fault> Fault for CallError<E> {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Open(open) => open.kind(),
            Self::DeadlineExceeded => FaultKind::Timeout,
            Self::Failed(error) => error.kind(),
        }
    }

    fn code(&self) -> &str {
        match self {
            Self::Open(open) => open.code(),
            Self::DeadlineExceeded => "deadline-exceeded",
            Self::Failed(error) => error.code(),
        }
    }
}
