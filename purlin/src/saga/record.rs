//! The records of a saga: where it stands, and what was asked of it from outside.

use serde::{Deserialize, Serialize};

use crate::message::Timestamp;
use crate::store::{Field, Row};

use super::journal::{Entry, Payload};
use super::{SagaError, SagaState};

/// Where a saga stands; its record is due when the saga wants to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SagaRow {
    /// Which function.
    pub kind: String,
    /// Where it stands.
    pub state: SagaState,
    /// Why it does not go on by itself, if it is stuck or blocked.
    pub reason: Option<String>,
    /// Why it failed, as far as it has.
    pub error: Option<SagaError>,
    /// When it was accepted.
    pub started_at: Timestamp,
    /// When it must have ended.
    pub deadline: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The last failures of what a saga that left memory is going to try again, as far as its journal does not have
    /// them: so often and so long each was tried, and when it is its turn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pauses: Vec<Entry>,
}

impl Row for SagaRow {
    const COLLECTION: &'static str = "sagas";
    const FIELDS: &'static [Field] = &[Field::text("kind"), Field::text("state")];
}

/// Something asked of a saga from outside; its key begins with the saga's id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "request")]
pub(super) enum Request {
    /// Stop, and undo what was done.
    Cancel { reason: String },
    /// Go on although you are stuck or blocked.
    Retry,
    /// A message for the function; `data` is JSON in a string.
    Signal { name: String, data: String },
    /// It was asked before the saga was there, and is kept until then, or until it is too old.
    Early { until: Timestamp, asked: Box<Request> },
}

impl Row for Request {
    const COLLECTION: &'static str = "saga_signals";
}

impl Request {
    /// What is asked, however early.
    pub(super) fn asked(self) -> Self {
        match self {
            Self::Early { asked, .. } => asked.asked(),
            other => other,
        }
    }

    pub(super) fn signal(name: &str, data: &Payload) -> Self {
        Self::Signal { name: name.to_owned(), data: data.as_str().to_owned() }
    }
}
