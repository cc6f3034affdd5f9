//! A copied event as a handler meets it, and how it is written in the bus's log and in a parked record.

use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::message::{
    DecodeError, Envelope, Event, Fault, FaultKind, Meta, Tags, Timestamp, TraceContext, Uuid,
};
use crate::store::{Position, Recorded, StreamId, StreamIdError, UnreadableEvent};

/// An event of some service's log that was copied to the bus. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The service whose log the event comes from.
    pub source: Arc<str>,
    /// Where the copy stands in the bus's log: the order in which a group meets messages.
    pub position: Position,
    /// The event as it stands in the log of its source (its position is the one there).
    pub event: Recorded,
}

impl Message {
    /// The event's identity, the same wherever it is copied to.
    pub fn id(&self) -> Uuid {
        self.event.envelope.id
    }

    /// What happened: the event's kind (`order.created`).
    pub fn subject(&self) -> &str {
        &self.event.envelope.kind
    }

    /// What the order of messages is kept by: the key of the event's stream.
    pub fn key(&self) -> &str {
        self.event.stream.key()
    }

    /// Where the event comes from.
    pub fn meta(&self) -> Meta {
        self.event.envelope.meta
    }

    /// The event as a variant of its enum, brought up from the version that its publisher wrote. One of a retired kind
    /// is an error: nobody subscribes to what he passes over.
    pub fn decode<E: Event>(&self) -> Result<E, UnreadableMessage> {
        self.event.envelope.decode().map_err(|source| self.unreadable(source))
    }

    /// The event's data alone as they were published, for a reader who needs a part of them that is the same in every
    /// version.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T, UnreadableMessage> {
        serde_json::from_slice(&self.event.envelope.data).map_err(|source| {
            let kind = self.subject().to_owned();
            self.unreadable(DecodeError::Misfit { kind, source })
        })
    }

    fn unreadable(&self, source: DecodeError) -> UnreadableMessage {
        let source = Box::new(self.event.unreadable(source));
        UnreadableMessage { id: self.id(), from: Arc::clone(&self.source), source }
    }

    /// Until when handling it is of use, if its producer said so.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.meta().deadline
    }

    /// The first message of the conversation that this one belongs to.
    pub(super) fn correlation(&self) -> Uuid {
        self.meta().correlation.unwrap_or_else(|| self.id())
    }
}

/// A message's data do not fit the type that a handler asked for. Repeating does not help.
#[derive(Debug, thiserror::Error)]
#[error("the message {id} of `{from}` cannot be read")]
pub struct UnreadableMessage {
    /// The event's identity.
    pub id: Uuid,
    /// The service that published it.
    pub from: Arc<str>,
    /// Which event of that service's log, and what does not fit.
    #[source]
    pub source: Box<UnreadableEvent>,
}

impl Fault for UnreadableMessage {
    fn kind(&self) -> FaultKind {
        FaultKind::Bug
    }
}

/// What the relay adds to an event's data: where the event came from. All else is in the copy's envelope.
#[derive(Serialize, Deserialize)]
struct Header<'a> {
    source: &'a str,
    position: Position,
    version: u64,
    at: Timestamp,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// The copy of an event for the bus's log: same stream, id, kind, schema and meta; the data in a [`Header`]. The copy
/// itself is not public: nothing relays a bus.
pub(super) fn copy_of(event: &Recorded, source: &str) -> serde_json::Result<Envelope> {
    let header = Header {
        source,
        position: event.position,
        version: event.version,
        at: event.at,
        data: serde_json::from_slice(&event.envelope.data)?,
    };
    let data = serde_json::to_vec(&header)?.into();
    // Tags are how the source's log is searched; the bus is not.
    Ok(Envelope { public: false, data, tags: Tags::none(), ..event.envelope.clone() })
}

/// The message that [`copy_of`] wrote.
pub(super) fn message_of(copy: Recorded) -> serde_json::Result<Message> {
    let header: Header<'_> = serde_json::from_slice(&copy.envelope.data)?;
    let data = copy.envelope.data.slice_ref(header.data.get().as_bytes());
    let source = header.source.into();
    let (position, version, at) = (header.position, header.version, header.at);
    let event = Recorded {
        position,
        version,
        at,
        envelope: Envelope { public: true, data, ..copy.envelope },
        ..copy
    };
    Ok(Message { source, position: copy.position, event })
}

/// A whole message as a part of a record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct StoredMessage {
    id: Uuid,
    subject: String,
    schema: u16,
    source: String,
    stream: String,
    version: u64,
    source_position: Position,
    position: Position,
    at: Timestamp,
    trace: Option<String>,
    correlation: Option<Uuid>,
    causation: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadline: Option<Timestamp>,
    data: Box<RawValue>,
}

impl StoredMessage {
    pub(super) fn of(message: &Message) -> Self {
        let (event, meta) = (&message.event, message.meta());
        let data = serde_json::from_slice(&event.envelope.data);
        Self {
            id: message.id(),
            subject: message.subject().to_owned(),
            schema: event.envelope.schema,
            source: message.source.to_string(),
            stream: event.stream.to_string(),
            version: event.version,
            source_position: event.position,
            position: message.position,
            at: event.at,
            trace: meta.trace.map(|trace| trace.to_string()),
            correlation: meta.correlation,
            causation: meta.causation,
            deadline: meta.deadline,
            data: data.expect("a message's data were one JSON value when it was read"),
        }
    }

    /// The message for somebody to look at.
    pub(super) fn shown(&self) -> serde_json::Result<serde_json::Value> {
        serde_json::to_value(self).or_else(|_| {
            let data = serde_json::value::to_raw_value(self.data.get())?;
            serde_json::to_value(Self { data, ..self.clone() })
        })
    }

    /// The message again.
    pub(super) fn message(self) -> Result<Message, StreamIdError> {
        let trace = self.trace.and_then(|trace| trace.parse::<TraceContext>().ok());
        let envelope = Envelope {
            id: self.id,
            kind: self.subject.into(),
            schema: self.schema,
            public: true,
            meta: Meta {
                trace,
                correlation: self.correlation,
                causation: self.causation,
                deadline: self.deadline,
            },
            tags: Tags::none(),
            data: Bytes::from(Box::<str>::from(self.data).into_string()),
        };
        let stream = StreamId::parse(self.stream)?;
        let (position, version, at) = (self.source_position, self.version, self.at);
        let event = Recorded { position, stream, version, at, envelope };
        Ok(Message { source: self.source.into(), position: self.position, event })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Recorded {
        let mut envelope = Envelope::raw("order.created", r#"{"total": 5, "note": "\"quoted\""}"#).public();
        envelope.meta = Meta {
            trace: Some(TraceContext::root()),
            correlation: Some(crate::message::new_id()),
            causation: Some(crate::message::new_id()),
            deadline: Timestamp::from_microsecond(1_700_000_060_000_001).ok(),
        };
        Recorded {
            position: Position(7),
            stream: StreamId::parse("order-1-2").unwrap(),
            version: 3,
            at: "2026-11-22T10:00:00.123456Z".parse().unwrap(),
            envelope,
        }
    }

    #[test]
    fn a_copy_keeps_all_that_the_event_had() {
        let event = event();
        let envelope = copy_of(&event, "orders").unwrap();
        let copy = Recorded { position: Position(99), version: 1, envelope, ..event.clone() };
        let message = message_of(copy).unwrap();
        assert_eq!(message, Message { source: "orders".into(), position: Position(99), event });
        assert_eq!((message.subject(), message.key()), ("order.created", "1-2"));
    }

    #[test]
    fn a_parked_message_is_the_same_message_when_it_is_read_again() {
        let message = Message { source: "orders".into(), position: Position(99), event: event() };
        let json = serde_json::to_vec(&StoredMessage::of(&message)).unwrap();
        let stored: StoredMessage = serde_json::from_slice(&json).unwrap();
        assert_eq!(stored.message(), Ok(message));
    }
}
