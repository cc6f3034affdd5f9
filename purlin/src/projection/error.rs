//! Why a view stands still, or is not there yet.

use serde::{Deserialize, Serialize};

use crate::message::{Fault, FaultKind};
use crate::store::{CommitError, Position, ReadError, Recorded};

/// A view stopped.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// An event cannot be folded, and no more can be parked. Nothing is skipped: the view stays before it until the
    /// program is corrected, or parked events are dropped.
    #[error("the view `{view}` cannot go on")]
    Misfit {
        /// The view.
        view: &'static str,
        /// The event, and what is wrong with it.
        #[source]
        misfit: Misfit,
    },
    /// The rows were built by a later version of the program.
    #[error("the view `{view}` is stored in version {stored}, this program knows version {known}")]
    Newer {
        /// The view.
        view: &'static str,
        /// The version that is stored.
        stored: u32,
        /// [`Projection::VERSION`](super::Projection::VERSION).
        known: u32,
    },
    /// The store is a tenant's.
    #[error(
        "the view `{view}` cannot be run on the store of the tenant `{tenant}`, whose collections are those of all: run it on \
         the store itself"
    )]
    Tenant {
        /// The view.
        view: &'static str,
        /// Whose store it is.
        tenant: String,
    },
    /// The store cannot be read.
    #[error("a view cannot read its store")]
    Read(#[from] ReadError),
    /// The store cannot be written.
    #[error("a view cannot write to its store")]
    Write(#[from] CommitError),
}

impl Fault for ViewError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Misfit { .. } | Self::Newer { .. } | Self::Tenant { .. } => FaultKind::Bug,
            Self::Read(error) => error.kind(),
            Self::Write(error) => error.kind(),
        }
    }
}

/// An event that a projection cannot fold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("the event at {position}, version {version} of `{stream}`, a `{kind}`, does not fit: {reason}")]
pub struct Misfit {
    /// Where it stands in the log.
    pub position: Position,
    /// Its stream.
    pub stream: String,
    /// Its place there.
    pub version: u64,
    /// Its kind.
    pub kind: String,
    /// What is wrong.
    pub reason: String,
}

impl Misfit {
    pub(super) fn of(event: &Recorded, reason: impl Into<String>) -> Self {
        Self {
            position: event.position,
            stream: event.stream.to_string(),
            version: event.version,
            kind: event.envelope.kind.to_string(),
            reason: reason.into(),
        }
    }
}

/// A view did not come as far as was wanted in the time that there was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the view `{view}` has come to {reached}, not yet to {wanted}")]
pub struct NotCaughtUp {
    /// The view.
    pub view: &'static str,
    /// How far it should have come.
    pub wanted: Position,
    /// How far it has come.
    pub reached: Position,
}

impl Fault for NotCaughtUp {
    fn kind(&self) -> FaultKind {
        FaultKind::Unavailable
    }

    fn code(&self) -> &str {
        "view-behind"
    }

    /// A view that is behind, or stopped, keeps nobody from what he needs it not for.
    fn is_of_another(&self) -> bool {
        true
    }
}
