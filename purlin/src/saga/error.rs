//! Why a saga failed, in a form that outlives the process.

use std::error::Error;

use serde::{Deserialize, Serialize};

use crate::message::{Fault, FaultKind};

/// Why a saga failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum SagaError {
    /// A step failed.
    #[error("step `{step}` failed")]
    Step {
        /// Which.
        step: String,
        /// With what.
        #[source]
        cause: Failure,
    },
    /// The saga's function itself gave up.
    #[error("the saga gave up")]
    GaveUp(#[source] Failure),
    /// Somebody asked for it.
    #[error("the saga was cancelled: {reason}")]
    Cancelled {
        /// What was said.
        reason: String,
    },
    /// It had not ended when its time was over.
    #[error("the saga did not end before its deadline")]
    Deadline,
}

impl SagaError {
    /// A decision of the saga's own function: nothing broke, but it shall not go on.
    pub fn refuse(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::GaveUp(Failure { kind: FaultKind::Rejected, code: code.into(), message: message.into() })
    }

    /// The step that failed, if it was a step.
    pub fn step(&self) -> Option<&str> {
        match self {
            Self::Step { step, .. } => Some(step),
            _ => None,
        }
    }

    /// What the step, or the function, failed with.
    pub fn cause(&self) -> Option<&Failure> {
        match self {
            Self::Step { cause, .. } | Self::GaveUp(cause) => Some(cause),
            Self::Cancelled { .. } | Self::Deadline => None,
        }
    }
}

impl From<Failure> for SagaError {
    fn from(failure: Failure) -> Self {
        Self::GaveUp(failure)
    }
}

impl Fault for SagaError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Step { cause, .. } | Self::GaveUp(cause) => cause.kind,
            Self::Cancelled { .. } => FaultKind::Rejected,
            Self::Deadline => FaultKind::Timeout,
        }
    }

    fn code(&self) -> &str {
        match self {
            Self::Step { cause, .. } | Self::GaveUp(cause) => &cause.code,
            Self::Cancelled { .. } => "cancelled",
            Self::Deadline => "deadline",
        }
    }
}

/// What is kept of an error once it is journalled: its kind, its code, and what it said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind of failure.
    pub kind: FaultKind,
    /// The stable name of this very failure.
    pub code: String,
    /// What the error and its sources said.
    pub message: String,
}

impl Failure {
    /// The longest message that is kept, in bytes.
    pub const MAX_MESSAGE: usize = 2000;

    /// What is kept of an error.
    pub fn of(fault: &impl Fault) -> Self {
        Self { kind: fault.kind(), code: fault.code().to_owned(), message: told(fault) }
    }

    /// Something that must never happen did.
    pub(super) fn bug(message: impl Into<String>) -> Self {
        Self { kind: FaultKind::Bug, code: FaultKind::Bug.as_str().to_owned(), message: message.into() }
    }

    /// No answer came in time.
    pub(super) fn timeout(message: impl Into<String>) -> Self {
        let kind = FaultKind::Timeout;
        Self { kind, code: kind.as_str().to_owned(), message: message.into() }
    }

    /// What a panic said.
    pub(super) fn panic(panic: &(dyn std::any::Any + Send)) -> Self {
        let said = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        Self::bug(format!("panicked: {said}"))
    }
}

impl Fault for Failure {
    fn kind(&self) -> FaultKind {
        self.kind
    }

    fn code(&self) -> &str {
        &self.code
    }
}

/// An error and its sources in one line.
pub(super) fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    let mut end = text.len().min(Failure::MAX_MESSAGE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}
