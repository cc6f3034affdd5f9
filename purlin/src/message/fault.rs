//! Whose fault an error is, and whether trying again may help.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What kind of failure an error is; retry, breaker, bus, saga, HTTP and gRPC all decide by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// The request breaks a rule, and always will: do not repeat it.
    Rejected,
    /// What was asked for is not there.
    NotFound,
    /// The request does not fit the present state (a lost race, a product that is sold out).
    Conflict,
    /// The callee, or something it needs, is not there at the moment: try again.
    Unavailable,
    /// The callee has more to do than it can: try again, later and less.
    Overloaded,
    /// No answer came in time; whether there was an effect is unknown.
    Timeout,
    /// Something that must never happen did. Repeating does not help, a person must look.
    Bug,
}

impl FaultKind {
    /// Whether the same request may succeed later without anybody changing it.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Unavailable | Self::Overloaded | Self::Timeout)
    }

    /// The kind's name as it is written in logs, journals and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::NotFound => "not-found",
            Self::Conflict => "conflict",
            Self::Unavailable => "unavailable",
            Self::Overloaded => "overloaded",
            Self::Timeout => "timeout",
            Self::Bug => "bug",
        }
    }
}

impl std::fmt::Display for FaultKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error that knows its [`FaultKind`].
pub trait Fault: std::error::Error + Send + Sync + 'static {
    /// What kind of failure this is.
    fn kind(&self) -> FaultKind;

    /// A stable name for this very failure (`empty-order`), for callers who tell one conflict from another.
    ///
    /// It becomes the last part of a problem's `type` (`/problems/empty-order`); by default the kind's name.
    fn code(&self) -> &str {
        self.kind().as_str()
    }

    /// Whether it is not we who failed, but somebody whom we asked: what we need him not for, we can do. (An HTTP answer,
    /// and a gRPC status, say so as `purlin-fault-of`.)
    fn is_of_another(&self) -> bool {
        false
    }

    /// Of a failure that somebody told us whom we asked: whether he says that it is not he who failed either
    /// ([`is_of_another`](Self::is_of_another), as he sees it). He is there, and a breaker does not hold it against him.
    fn is_passed_on(&self) -> bool {
        false
    }

    /// After how long the same request may succeed, if whoever failed it has said so: an HTTP `Retry-After`, a gRPC
    /// `RetryInfo`, an open breaker. A retry waits at least so long; [`Duration::MAX`] is: never.
    fn retry_after(&self) -> Option<Duration> {
        None
    }
}

impl Fault for std::convert::Infallible {
    fn kind(&self) -> FaultKind {
        match *self {}
    }
}

/// The refusal of a rule, for domains that need no error type of their own.
///
/// ```
/// use purlin::message::{Fault, FaultKind, Refusal};
///
/// let refusal = Refusal::new(FaultKind::Conflict, "empty-order", "cannot submit an empty order");
/// assert_eq!((refusal.code(), refusal.to_string().as_str()), ("empty-order", "cannot submit an empty order"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    kind: FaultKind,
    code: &'static str,
    message: std::borrow::Cow<'static, str>,
}

impl Refusal {
    /// A refusal with a stable name and a sentence for people.
    pub fn new(
        kind: FaultKind,
        code: &'static str,
        message: impl Into<std::borrow::Cow<'static, str>>,
    ) -> Self {
        Self { kind, code, message: message.into() }
    }
}

impl Fault for Refusal {
    fn kind(&self) -> FaultKind {
        self.kind
    }

    fn code(&self) -> &str {
        self.code
    }
}

/// What a panic said, if it said it in words.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}
