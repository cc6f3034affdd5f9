//! What a saga's stream holds: an entry for each thing that happened and must not happen again.

use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::message::{EncodeError, Envelope, Event, FaultKind, Timestamp, storing};
use crate::store::{Recorded, StreamId, StreamIdError, UnreadableEvent};

use super::{Failure, SagaError};

/// The category of sagas' streams, and the prefix of the kinds of their events.
pub(super) const CATEGORY: &str = "saga";

/// One thing that happened to a saga.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entry {
    /// The saga was accepted.
    Started {
        /// Which function.
        kind: String,
        /// The function's argument.
        input: Payload,
        /// When it must have ended.
        deadline: Option<Timestamp>,
    },
    /// An attempt at a step failed, and another will follow. Of many only some are journalled.
    Attempted {
        /// The step.
        step: String,
        /// Which attempt, from 1.
        attempt: u32,
        /// When the first attempt began.
        started_at: Timestamp,
        /// Why.
        error: Failure,
        /// When the next attempt begins, at the earliest.
        next: Timestamp,
    },
    /// A step has an outcome.
    Done {
        /// The step.
        step: String,
        /// How many attempts it took.
        attempts: u32,
        /// When the first attempt began.
        started_at: Timestamp,
        /// What it returned.
        output: Payload,
    },
    /// A step failed for good.
    Failed {
        /// The step.
        step: String,
        /// How many attempts were made.
        attempts: u32,
        /// When the first attempt began.
        started_at: Timestamp,
        /// Why the last failed.
        error: Failure,
    },
    /// The function dropped a step that was under way: whether it had an effect is unknown.
    Abandoned {
        /// The step.
        step: String,
    },
    /// A wait began.
    Waiting {
        /// The wait's name among the steps.
        step: String,
        /// When it ends.
        until: Timestamp,
    },
    /// A message from outside arrived.
    Signalled {
        /// The signal's name.
        name: String,
        /// What it says.
        data: Payload,
    },
    /// No step starts from here on; these steps are undone, in this order, and then the saga ends so.
    Compensating {
        /// How the saga ends.
        outcome: Outcome,
        /// The steps to undo.
        undo: Vec<String>,
    },
    /// An attempt to undo a step failed, and another will follow. Of many only some are journalled.
    UndoAttempted {
        /// The step.
        step: String,
        /// Which attempt, from 1.
        attempt: u32,
        /// Why.
        error: Failure,
        /// When the next attempt begins, at the earliest.
        next: Timestamp,
    },
    /// A step is undone.
    Undone {
        /// The step.
        step: String,
        /// How many attempts it took.
        attempts: u32,
    },
    /// A step cannot be undone: an operator must act.
    Stuck {
        /// The step.
        step: String,
        /// How many attempts were made.
        attempts: u32,
        /// Why the last failed.
        error: Failure,
    },
    /// An attempt to commit the end failed, and another will follow. Of many only some are journalled.
    EndAttempted {
        /// Which attempt, from 1.
        attempt: u32,
        /// Why.
        error: Failure,
        /// When the next attempt begins, at the earliest.
        next: Timestamp,
    },
    /// An operator told a saga that is stuck, blocked or pauses to go on.
    Resumed,
    /// The saga is over.
    Ended {
        /// How.
        outcome: Outcome,
    },
}

/// How a saga ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Its function returned this.
    Completed(Payload),
    /// It failed, and what it had done is undone.
    Failed(SagaError),
}

impl Event for Entry {}

impl Entry {
    /// The entry as an event.
    pub(super) fn envelope(&self) -> Result<Envelope, EncodeError> {
        Envelope::new(CATEGORY, self)
    }

    /// About how many bytes it takes.
    pub(super) fn weight(&self) -> usize {
        const FRAME: usize = 512;
        FRAME
            + match self {
                Self::Started { input: payload, .. }
                | Self::Done { output: payload, .. }
                | Self::Signalled { data: payload, .. }
                | Self::Compensating { outcome: Outcome::Completed(payload), .. }
                | Self::Ended { outcome: Outcome::Completed(payload) } => payload.as_str().len(),
                _ => Failure::MAX_MESSAGE,
            }
    }

    /// The entry that an event holds.
    pub(super) fn read(event: &Recorded) -> Result<Self, UnreadableEvent> {
        event.envelope.decode().map_err(|error| event.unreadable(error))
    }
}

/// The stream of a saga.
pub(super) fn stream(id: Uuid) -> Result<StreamId, StreamIdError> {
    StreamId::new(CATEGORY, id)
}

/// One JSON value, kept as it was written.
#[derive(Debug, Clone)]
pub struct Payload(Arc<RawValue>);

impl Payload {
    /// The largest value that a step may return, in bytes of JSON.
    pub const MAX: usize = 512 << 10;

    /// A value as JSON.
    pub fn of<T: Serialize>(value: &T) -> Result<Self, Failure> {
        let json = storing(|| serde_json::value::to_raw_value(value))
            .map_err(|error| Failure::bug(format!("the value cannot be written as JSON: {error}")))?;
        let bytes = json.get().len();
        if bytes > Self::MAX {
            let message =
                format!("a value of {bytes} bytes is larger than the {} a journal takes", Self::MAX);
            return Err(Failure::new(FaultKind::Rejected, "too-large", message));
        }
        Ok(Self(json.into()))
    }

    /// The value of a step that returns nothing.
    pub fn null() -> Self {
        Self(RawValue::NULL.to_owned().into())
    }

    /// A value that is JSON already.
    pub(super) fn raw(json: String) -> Result<Self, serde_json::Error> {
        Ok(Self(RawValue::from_string(json)?.into()))
    }

    /// The value as a type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        storing(|| serde_json::from_str(self.0.get()))
    }

    /// The JSON.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// The JSON, for a record or an event.
    pub fn bytes(&self) -> Bytes {
        Bytes::copy_from_slice(self.0.get().as_bytes())
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

impl Serialize for Payload {
    fn serialize<Z: serde::Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Box::<RawValue>::deserialize(deserializer)?.into()))
    }
}
