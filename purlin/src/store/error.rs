//! Why a store refused, as what the caller can do about it.

use std::fmt;

use crate::message::{Fault, FaultKind};

use super::{Expected, Position, Revision, StreamId};

/// The error of a lower level.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A commit was not applied.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Something was not as expected: look again and decide anew. Nothing was applied.
    #[error("the commit does not fit what is stored")]
    Conflict(#[source] Conflict),
    /// The commit can never be applied (a limit, an undefined collection). Nothing was applied.
    #[error("the commit cannot be applied: {0}")]
    Invalid(String),
    /// The commit says something new about somebody who is forgotten. Nothing was applied, and never will be.
    #[error("the subject `{0}` is forgotten: nothing new can be written about it")]
    Forgotten(super::personal::Subject),
    /// The commit needs a new key for somebody whom it is about, and the store makes none under the master key that it was
    /// given. Nothing was applied; with the right one it is.
    #[error(transparent)]
    MasterKey(#[from] super::personal::WrongMasterKey),
    /// More commits are waiting than the store's queue holds. Nothing was applied.
    #[error("more commits are waiting than the store can take")]
    Overloaded,
    /// The store cannot write at the moment. Nothing was applied: an engine finds out before it says so.
    #[error("the store cannot write at the moment")]
    Unavailable(#[source] Cause),
}

impl CommitError {
    /// The refusal of a condition on a position that the log has not reached.
    #[cold]
    pub fn ahead(after: Position, head: Position) -> Self {
        Self::Invalid(format!("a condition looks behind {after}, and the log has only reached {head}"))
    }
}

impl Fault for CommitError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Conflict(_) => FaultKind::Conflict,
            Self::Invalid(_) => FaultKind::Bug,
            Self::Forgotten(_) => FaultKind::Rejected,
            Self::Overloaded => FaultKind::Overloaded,
            Self::MasterKey(_) | Self::Unavailable(_) => FaultKind::Unavailable,
        }
    }

    fn code(&self) -> &str {
        match self {
            Self::Forgotten(_) => "forgotten",
            Self::MasterKey(_) => "wrong-master-key",
            other => other.kind().as_str(),
        }
    }
}

/// What was not as expected; of several, the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conflict {
    /// A stream.
    Stream {
        /// Which.
        stream: StreamId,
        /// What the append expected.
        expected: Expected,
        /// The stream's last version.
        actual: u64,
    },
    /// A record.
    Record {
        /// Its collection.
        collection: String,
        /// Its key.
        key: String,
        /// What the write or requirement expected.
        expected: Revision,
        /// The record's revision, if there is one.
        actual: Option<u64>,
    },
    /// Something came that a condition excludes.
    Condition {
        /// Up to where the decision had looked.
        after: Position,
        /// The last event behind it that matches.
        found: Position,
    },
}

impl Conflict {
    /// Whether this is about the record `key` of `collection`.
    pub fn is_record(&self, collection: &str, key: &str) -> bool {
        matches!(self, Self::Record { collection: c, key: k, .. } if c == collection && k == key)
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream { stream, expected, actual } => {
                write!(f, "stream `{stream}` has version {actual}, expected {expected:?}")
            }
            Self::Record { collection, key, expected, actual } => {
                write!(f, "record `{key}` of `{collection}` has revision {actual:?}, expected {expected:?}")
            }
            Self::Condition { after, found } => {
                write!(f, "the event at {found} matches what must not have come after {after}")
            }
        }
    }
}

impl std::error::Error for Conflict {}

/// Something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store cannot read at the moment.
    #[error("the store cannot read at the moment")]
    Unavailable(#[source] Cause),
    /// The request makes no sense (an undefined collection or field).
    #[error("cannot be read: {0}")]
    Invalid(String),
    /// What is stored does not fit the type that was asked for.
    #[error("{what} cannot be read as what it should be")]
    Unreadable {
        /// The event or record.
        what: String,
        /// What does not fit.
        #[source]
        source: Cause,
    },
}

impl Fault for ReadError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Unavailable(_) => FaultKind::Unavailable,
            Self::Invalid(_) | Self::Unreadable { .. } => FaultKind::Bug,
        }
    }
}
