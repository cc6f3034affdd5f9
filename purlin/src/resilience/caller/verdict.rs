//! What an answer says about the callee.

use std::time::Duration;

use crate::message::{Fault, FaultKind};
use crate::resilience::breaker::Says;

/// What an answer says about the callee. [`Verdict::of`] goes by the kind of an error; who judges himself decides by the
/// variant, whatever the kind, but for the two kinds that tell a breaker nothing: a bug that is `Refused`, and an overload
/// that `Failed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The callee did its work.
    Good,
    /// The callee said no: an answer too, neither repeated nor held against it. A bug does not count in its favour
    /// either: a probe that meets one leaves the breaker as it is.
    Refused(FaultKind),
    /// The callee could not, for now, and says that the cause is somebody whom it asked ([`Fault::is_passed_on`]): repeated
    /// like a failure, but the callee is there, which is good for the breaker, unless shed load or our caller's deadline was
    /// the cause.
    PassedOn {
        /// In which way.
        kind: FaultKind,
        /// After how long it asks to be tried again, if it does.
        retry_after: Option<Duration>,
    },
    /// The callee could not, for now. If it was [`Overloaded`](FaultKind::Overloaded), that concerns the concurrency
    /// limit (for a call below critical not even that) and not the breaker; all else is a failure for the breaker, unless
    /// our caller's deadline was the cause.
    Failed {
        /// In which way.
        kind: FaultKind,
        /// After how long it asks to be tried again, if it does.
        retry_after: Option<Duration>,
    },
}

impl Verdict {
    /// The verdict on an error.
    pub fn of(fault: &impl Fault) -> Self {
        match fault.kind() {
            kind if kind.is_transient() && fault.is_passed_on() => {
                Self::PassedOn { kind, retry_after: fault.retry_after() }
            }
            kind if kind.is_transient() => Self::Failed { kind, retry_after: fault.retry_after() },
            kind => Self::Refused(kind),
        }
    }

    /// What the breaker is told of it: the table that stands in the breaker's story.
    #[inline]
    pub(in crate::resilience) fn says(self) -> Says {
        match self {
            Self::Refused(FaultKind::Bug)
            | Self::Failed { kind: FaultKind::Overloaded, .. }
            | Self::PassedOn { kind: FaultKind::Overloaded, .. } => Says::Nothing,
            Self::Good | Self::Refused(_) | Self::PassedOn { .. } => Says::Good,
            Self::Failed { .. } => Says::Failed,
        }
    }

    /// The kind of an error.
    pub(super) fn kind(self) -> Option<FaultKind> {
        match self {
            Self::Good => None,
            Self::Refused(kind) | Self::PassedOn { kind, .. } | Self::Failed { kind, .. } => Some(kind),
        }
    }

    /// Whether the callee could not, for now, whoever was the cause.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::PassedOn { .. } | Self::Failed { .. })
    }

    /// What metrics call it.
    pub(super) fn outcome(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Refused(kind) | Self::PassedOn { kind, .. } | Self::Failed { kind, .. } => kind.as_str(),
        }
    }
}

/// What somebody may say who judges an answer: a [`Verdict`], or `true` if it is a failure of the callee.
pub trait Judged: sealed::Judged {
    #[doc(hidden)]
    fn verdict(self) -> Verdict;
}

impl Judged for Verdict {
    #[inline]
    fn verdict(self) -> Verdict {
        self
    }
}

/// Whether it failed.
impl Judged for bool {
    #[inline]
    fn verdict(self) -> Verdict {
        match self {
            true => Verdict::Failed { kind: FaultKind::Unavailable, retry_after: None },
            false => Verdict::Good,
        }
    }
}

mod sealed {
    pub trait Judged {}

    impl Judged for bool {}
    impl Judged for super::Verdict {}
}
