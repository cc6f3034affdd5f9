//! Why a run has no result.

use std::time::Duration;

use purlin::message::{Fault, FaultKind};

use crate::machine::{Reached, Step};
use crate::model::ModelError;

/// A run without a result. Its steps are what was done until then: tools may have had effects.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is nothing to answer, or too much.
    #[error("a prompt has 1 to {max} bytes")]
    Prompt {
        /// The largest prompt.
        max: usize,
    },
    /// The run would need more turns, calls or tokens than it may have.
    #[error("the assistant reached its limit of {reached} before it was done")]
    Limit {
        /// Which limit.
        reached: Reached,
        /// What was done.
        steps: Vec<Step>,
    },
    /// The run would take longer than it may.
    #[error("the assistant was not done in time")]
    Deadline {
        /// What was done.
        steps: Vec<Step>,
    },
    /// The model gave no answer.
    #[error("the model gave no answer")]
    Model {
        /// Why.
        #[source]
        source: ModelError,
        /// What was done.
        steps: Vec<Step>,
    },
    /// The model's answer cannot be acted on: it was cut within a call, or contradicts itself.
    #[error("the model's answer cannot be used: {reason}")]
    Unusable {
        /// What is wrong with it.
        reason: String,
        /// What was done.
        steps: Vec<Step>,
    },
}

impl RunError {
    /// What was done before the run ended.
    pub fn steps(&self) -> &[Step] {
        match self {
            Self::Prompt { .. } => &[],
            Self::Limit { steps, .. }
            | Self::Deadline { steps }
            | Self::Model { steps, .. }
            | Self::Unusable { steps, .. } => steps,
        }
    }
}

impl Fault for RunError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Prompt { .. } | Self::Limit { .. } => FaultKind::Rejected,
            Self::Deadline { .. } => FaultKind::Timeout,
            Self::Model { source, .. } => source.kind(),
            // Models are not deterministic: the next answer may be a better one.
            Self::Unusable { .. } => FaultKind::Unavailable,
        }
    }

    fn code(&self) -> &str {
        match self {
            Self::Prompt { .. } => "invalid-prompt",
            Self::Limit { .. } => "run-limit",
            Self::Deadline { .. } => "run-deadline",
            Self::Model { source, .. } => source.code(),
            Self::Unusable { .. } => "model-unusable",
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Model { source, .. } => source.retry_after(),
            Self::Prompt { .. } | Self::Limit { .. } | Self::Deadline { .. } | Self::Unusable { .. } => None,
        }
    }
}
