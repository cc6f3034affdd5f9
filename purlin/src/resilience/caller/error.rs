//! Why a call had no good answer.

use std::time::Duration;

use crate::message::{Fault, FaultKind};

use crate::resilience::{Full, Open};

/// A call had no good answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError<E> {
    /// The callee was not called: it failed too often, or an operator holds its breaker open.
    #[error(transparent)]
    Open(#[from] Open),
    /// The callee was not called: as many calls as it may get are under way and waiting.
    #[error(transparent)]
    Full(#[from] Full),
    /// There was no answer in time; whether there was an effect is unknown.
    #[error("there was no answer in time")]
    DeadlineExceeded,
    /// The callee's answer is an error, of the last attempt if there were several.
    #[error(transparent)]
    Failed(E),
}

/// Why there is no answer at all.
#[derive(Debug)]
pub(in crate::resilience) enum Silence {
    Open(Open),
    Full,
    DeadlineExceeded,
}

impl Silence {
    /// What metrics call it.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::Open(_) => "open",
            Self::Full => "full",
            Self::DeadlineExceeded => "deadline-exceeded",
        }
    }
}

impl<E> From<Silence> for CallError<E> {
    fn from(silence: Silence) -> Self {
        match silence {
            Silence::Open(open) => Self::Open(open),
            Silence::Full => Self::Full(Full),
            Silence::DeadlineExceeded => Self::DeadlineExceeded,
        }
    }
}

impl<E: Fault> Fault for CallError<E> {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Open(open) => open.kind(),
            Self::Full(full) => full.kind(),
            Self::DeadlineExceeded => FaultKind::Timeout,
            Self::Failed(error) => error.kind(),
        }
    }

    fn code(&self) -> &str {
        match self {
            Self::Open(open) => open.code(),
            Self::Full(full) => full.code(),
            Self::DeadlineExceeded => "deadline-exceeded",
            Self::Failed(error) => error.code(),
        }
    }

    /// A call goes to somebody else, and so what does not come of it for now is his: that he is left alone, that he has
    /// been given as much as he may get, that he has not answered, or says that he cannot.
    fn is_of_another(&self) -> bool {
        match self {
            Self::Open(_) | Self::Full(_) | Self::DeadlineExceeded => true,
            Self::Failed(error) => error.is_of_another() || error.kind().is_transient(),
        }
    }

    fn is_passed_on(&self) -> bool {
        matches!(self, Self::Failed(error) if error.is_passed_on())
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Open(open) => Some(open.retry_after),
            Self::Full(_) | Self::DeadlineExceeded => None,
            Self::Failed(error) => error.retry_after(),
        }
    }
}
