//! An event on its way into a log: its data and what must be known of it.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use uuid::Uuid;

use super::codec::encode;
use super::{EncodeError, Event, Meta, Tags, Timestamp, event, new_id};

/// An event that somebody wants recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The event's identity, wherever it is copied to.
    pub id: Uuid,
    /// What happened: `order.submitted`.
    pub kind: Arc<str>,
    /// The version of the kind's schema, from 1.
    pub schema: u16,
    /// Whether the relay copies the event to the bus.
    pub public: bool,
    /// Where the event comes from.
    pub meta: Meta,
    /// By what it is found among the events of all streams.
    pub tags: Tags,
    /// The content: one JSON value.
    pub data: Bytes,
}

impl Envelope {
    /// The envelope of a variant of an event enum, in the version that its kind has now; the kind begins with
    /// `prefix`.
    pub fn new<E: Event + Serialize>(prefix: &str, event: &E) -> Result<Self, EncodeError> {
        let (kind, data) = encode(prefix, event)?;
        let Some(schema) = event::schema::<E>(&kind) else {
            return Err(EncodeError::Gone(kind.to_string()));
        };
        Ok(Self { schema, ..Self::raw(kind, data) })
    }

    /// An envelope around data that are JSON already, in version 1.
    pub fn raw(kind: impl Into<Arc<str>>, data: impl Into<Bytes>) -> Self {
        let (kind, data) = (kind.into(), data.into());
        Self { id: new_id(), kind, schema: 1, public: false, meta: Meta::default(), tags: Tags::none(), data }
    }

    /// The same event, to be copied to the bus.
    pub fn public(mut self) -> Self {
        self.public = true;
        self
    }

    /// The same event, whose handling is of use only until then: a consumer's handler gets no longer, and is told
    /// ([`deadline::current`](crate::resilience::deadline::current)). It is a time of day, so that it survives being
    /// stored; clocks that differ by a second move it by a second.
    pub fn until(mut self, deadline: Timestamp) -> Self {
        let whole = Timestamp::from_microsecond(deadline.as_microsecond());
        self.meta.deadline = whole.ok();
        self
    }

    /// The same event with these tags, so that decisions over several streams find it
    /// ([`Commit::unless`](crate::store::Commit::unless)).
    pub fn tagged<T: Into<Arc<str>>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags = Tags::new(tags);
        self
    }
}
