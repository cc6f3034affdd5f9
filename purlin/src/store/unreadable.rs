//! A recorded event read as a variant of its enum, or why it cannot be.

use std::sync::Arc;

use crate::message::{DecodeError, Event, Fault, FaultKind};

use super::{Position, Recorded, StreamId};

impl Recorded {
    /// The event as a variant of its enum, brought up from the version that it was written in; none when its kind is
    /// retired.
    pub fn read<E: Event>(&self) -> Result<Option<E>, UnreadableEvent> {
        match self.envelope.decode() {
            Ok(event) => Ok(Some(event)),
            Err(DecodeError::Retired { .. }) => Ok(None),
            Err(error) => Err(self.unreadable(error)),
        }
    }

    /// The error of somebody who could not read it.
    pub fn unreadable(&self, source: DecodeError) -> UnreadableEvent {
        UnreadableEvent {
            position: self.position,
            stream: self.stream.clone(),
            version: self.version,
            kind: Arc::clone(&self.envelope.kind),
            schema: self.envelope.schema,
            source: Box::new(source),
        }
    }
}

/// An event of the log does not fit the enum that it was to be read as. Repeating does not help: the program, or the
/// enum's [`Event::EVOLUTION`], must be corrected.
#[derive(Debug, thiserror::Error)]
#[error(
    "the event at {position}, version {version} of `{stream}`, a `{kind}` written in its version {schema}, cannot be \
     read"
)]
pub struct UnreadableEvent {
    /// Where it stands in its log.
    pub position: Position,
    /// Its stream.
    pub stream: StreamId,
    /// Its place there.
    pub version: u64,
    /// Its kind.
    pub kind: Arc<str>,
    /// The version of the kind that it was written in.
    pub schema: u16,
    /// What does not fit.
    #[source]
    pub source: Box<DecodeError>,
}

impl Fault for UnreadableEvent {
    fn kind(&self) -> FaultKind {
        FaultKind::Bug
    }
}
