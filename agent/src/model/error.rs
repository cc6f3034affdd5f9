//! Why a model gave no answer.

use std::error::Error;
use std::time::Duration;

use purlin::message::{Fault, FaultKind};

/// A model gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Its vendor refuses the request itself (the model's name, say): repeating it does not help, an operator must act.
    #[error("the model's vendor refuses the request ({status} {code}: {message})")]
    Rejected {
        /// The HTTP status, if there was one.
        status: u16,
        /// The vendor's name for the reason.
        code: String,
        /// The vendor's words.
        message: String,
    },
    /// Its vendor does not know us, or allows us less: an operator must act.
    #[error("the model's vendor does not let us in ({status} {code}: {message})")]
    Denied {
        /// The HTTP status.
        status: u16,
        /// The vendor's name for the reason.
        code: String,
        /// The vendor's words.
        message: String,
    },
    /// It has more to do than it can, or we ask too often.
    #[error("the model is asked more than it can answer")]
    Overloaded {
        /// How long to wait at least, if the vendor said.
        retry_after: Option<Duration>,
    },
    /// It cannot be reached, or broke off.
    #[error("the model cannot be reached: {reason}")]
    Unavailable {
        /// What happened.
        reason: String,
        /// How long to wait at least, if the vendor, or whoever stands before it, said.
        retry_after: Option<Duration>,
        /// What that came from, if there is more.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// There was no answer in time.
    #[error("the model gave no answer in time")]
    Timeout,
    /// The answer is not one of this model's kind.
    #[error("the model's answer makes no sense: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
}

impl ModelError {
    pub(crate) fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable { reason: reason.into(), retry_after: None, source: None }
    }

    pub(crate) fn malformed(reason: impl Into<String>) -> Self {
        Self::Malformed { reason: reason.into() }
    }
}

impl Fault for ModelError {
    fn kind(&self) -> FaultKind {
        match self {
            // A model's name that its vendor does not know is no bug of ours: an operator must act.
            Self::Rejected { .. }
            | Self::Denied { .. }
            | Self::Unavailable { .. }
            | Self::Malformed { .. } => FaultKind::Unavailable,
            Self::Overloaded { .. } => FaultKind::Overloaded,
            Self::Timeout => FaultKind::Timeout,
        }
    }

    fn code(&self) -> &str {
        match self {
            Self::Rejected { .. } => "model-rejected",
            Self::Denied { .. } => "model-denied",
            Self::Overloaded { .. } => "model-overloaded",
            Self::Unavailable { .. } => "model-unavailable",
            Self::Timeout => "model-timeout",
            Self::Malformed { .. } => "model-malformed",
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after } | Self::Unavailable { retry_after, .. } => *retry_after,
            Self::Rejected { .. } | Self::Denied { .. } | Self::Timeout | Self::Malformed { .. } => None,
        }
    }
}
