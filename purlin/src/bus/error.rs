//! Why a consumer group stops.

use crate::message::{Fault, FaultKind};
use crate::store::{CommitError, LogId, Position, ReadError};

/// A group stopped, and will stop again until a person has looked.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// The bus is another log than the one that the group's marks belong to (restored from a backup, say).
    #[error(
        "the group `{group}` knows incarnation {} of bus {}, but met incarnation {} of bus {}: its marks mean nothing \
         there", known.incarnation, known.log, found.incarnation, found.log
    )]
    OtherLog {
        /// The group.
        group: String,
        /// The bus it has read until now.
        known: LogId,
        /// The bus it was given.
        found: LogId,
    },
    /// The bus ends before a mark of the group: it has lost messages that were handled.
    #[error(
        "the group `{group}` has handled messages up to {mark}, but the bus ends at {head}: it has lost its end"
    )]
    BusBehind {
        /// The group.
        group: String,
        /// The mark.
        mark: Position,
        /// The last position of the bus.
        head: Position,
    },
    /// The group has another number of lanes than it was made with, which would move keys to other marks.
    #[error("the group `{group}` has {stored} lanes, {wanted} were asked for: the number cannot change")]
    Lanes {
        /// The group.
        group: String,
        /// The number that is stored.
        stored: u32,
        /// The number that was asked for.
        wanted: u32,
    },
    /// A group needs a lane.
    #[error("a group needs at least one lane")]
    NoLanes,
    /// The name cannot name a group.
    #[error("`{0}` cannot name a group: lower-case letters, digits, `-` and `_`, at most 64")]
    Name(String),
    /// Two handlers were given for one subject.
    #[error("the subject `{subject}` has two handlers")]
    Doubled {
        /// The subject.
        subject: String,
    },
    /// The bus, or the group's store, cannot be read.
    #[error("a group cannot read what it needs")]
    Read(#[from] ReadError),
    /// The group's store cannot be written.
    #[error("a group cannot write what it needs")]
    Write(#[from] CommitError),
    /// A lane panicked outside a handler.
    #[error("a task of a group failed: {0}")]
    Panicked(String),
}

impl Fault for GroupError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Read(error) => error.kind(),
            Self::Write(error) => error.kind(),
            _ => FaultKind::Bug,
        }
    }
}
