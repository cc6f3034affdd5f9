//! What an audit finds.

use std::fmt;

use crate::message::Timestamp;
use crate::store::{Position, StreamId};

/// Something that a log must not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub position: Position,
    /// Of which stream, if that is known.
    pub stream: Option<StreamId>,
    /// What.
    pub damage: Damage,
}

/// What is wrong at a position.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// There is no event, nor at those that follow up to this one.
    Missing(Position),
    /// The event came behind the one at this position.
    Disorder(Position),
    /// The event cannot be read, for this reason.
    Unreadable(String),
    /// The event has another version than the one that is due in its stream.
    Version {
        /// The one that is due.
        due: u64,
        /// The one that it has.
        found: u64,
    },
    /// The event is older than the one before it, which is of this time.
    Time(Timestamp),
    /// The event's id is that of the event at this position, or is none.
    Id(Option<Position>),
    /// The event's kind is not one.
    Kind(String),
    /// The stream, read by itself, has no such event, or another.
    NotInStream(u64),
    /// The stream, read by itself, has an event of this version that the log does not have.
    NotInLog(u64),
    /// The event was not there when a reader had come past it.
    Late,
    /// The event is not the one that was read here before; or one of those before it, which are not known one by one.
    Changed,
    /// The event was read before, and is not there any more.
    Gone,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "position {}", self.position)?;
        if let Some(stream) = &self.stream {
            write!(f, ", stream `{stream}`")?;
        }
        write!(f, ": {}", self.damage)
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(through) => write!(f, "no event is there, up to position {through}"),
            Self::Disorder(before) => write!(f, "the event came behind that at position {before}"),
            Self::Unreadable(why) => write!(f, "the event cannot be read: {why}"),
            Self::Version { due, found } => write!(f, "the event has version {found}, and {due} is due"),
            Self::Time(before) => {
                write!(f, "the event is older than the one before it, which is of {before}")
            }
            Self::Id(Some(first)) => write!(f, "the event has the id of that at position {first}"),
            Self::Id(None) => f.write_str("the event has no id"),
            Self::Kind(kind) => write!(f, "the event's kind cannot be {kind:?}"),
            Self::NotInStream(version) => {
                write!(f, "version {version} of the stream, read by itself, is not this event")
            }
            Self::NotInLog(version) => {
                write!(f, "version {version} of the stream, read by itself, is there, and not in the log")
            }
            Self::Late => f.write_str("the event came after a reader had passed its place"),
            Self::Changed => f.write_str("the event is not what was read here before"),
            Self::Gone => f.write_str("the event that was read here before is gone"),
        }
    }
}
