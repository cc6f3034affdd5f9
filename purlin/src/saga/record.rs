//! The records of a saga: where it stands, and what was asked of it from outside.

use serde::ser::Error as _;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::message::Timestamp;
use crate::store::{Field, Row, personal};

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
#[serde(rename_all = "kebab-case", tag = "request", try_from = "Written")]
pub(super) enum Request {
    /// Stop, and undo what was done.
    Cancel { reason: String },
    /// Go on although you are stuck or blocked.
    Retry,
    /// A message for the function; `data` is JSON.
    Signal {
        name: String,
        #[serde(serialize_with = "write_data")]
        data: String,
    },
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

/// JSON in a string; as it stands if something in it is personal, which a string would hide from the store.
fn write_data<Z: Serializer>(data: &str, to: Z) -> Result<Z::Ok, Z::Error> {
    if !personal::has_any(data.as_bytes()) {
        return to.serialize_str(data);
    }
    RawValue::from_string(data.to_owned()).map_err(Z::Error::custom)?.serialize(to)
}

/// A request as it stands in its record: with all that any of them has, so that `data` can be read as it stands.
#[derive(Deserialize)]
struct Written {
    request: Asked,
    reason: Option<String>,
    name: Option<String>,
    data: Option<Box<RawValue>>,
    until: Option<Timestamp>,
    asked: Option<Box<Request>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Asked {
    Cancel,
    Retry,
    Signal,
    Early,
}

impl TryFrom<Written> for Request {
    type Error = Unreadable;

    fn try_from(written: Written) -> Result<Self, Unreadable> {
        let Written { request, reason, name, data, until, asked } = written;
        Ok(match request {
            Asked::Cancel => Self::Cancel { reason: reason.ok_or(Unreadable)? },
            Asked::Retry => Self::Retry,
            Asked::Signal => {
                let data = data.ok_or(Unreadable)?;
                let data = match data.get().starts_with('"') {
                    true => serde_json::from_str(data.get()).map_err(|_| Unreadable)?,
                    false => data.get().to_owned(),
                };
                Self::Signal { name: name.ok_or(Unreadable)?, data }
            }
            Asked::Early => Self::Early { until: until.ok_or(Unreadable)?, asked: asked.ok_or(Unreadable)? },
        })
    }
}

/// A request lacks what one of its kind has.
#[derive(Debug, thiserror::Error)]
#[error("the request is not whole")]
struct Unreadable;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_was_always_written() {
        let (big, at) = (format!("{{\"a\":[{}, \"\\\"\"]}}", u128::MAX), Timestamp::UNIX_EPOCH);
        let signal = Request::Signal { name: "n".into(), data: big };
        let early = Request::Early { until: at, asked: Box::new(signal.clone()) };
        for (request, written) in [
            (Request::Cancel { reason: "r".into() }, r#"{"request":"cancel","reason":"r"}"#),
            (Request::Retry, r#"{"request":"retry"}"#),
            (
                signal,
                r#"{"request":"signal","name":"n","data":"{\"a\":[340282366920938463463374607431768211455, \"\\\"\"]}"}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&request).unwrap(), written);
            assert_eq!(serde_json::from_str::<Request>(written).unwrap(), request);
        }
        let written = serde_json::to_string(&early).unwrap();
        assert_eq!(serde_json::from_str::<Request>(&written).unwrap(), early);
        assert!(serde_json::from_str::<Request>(r#"{"request":"cancel"}"#).is_err());
    }
}
