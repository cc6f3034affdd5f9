//! Why a saga failed, in a form that outlives the process.

use std::error::Error;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::message::{Fault, FaultKind};

/// Why a saga failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum SagaError {
    /// A step failed.
    #[error("step `{step}` failed")]
    Step {
        /// Which.
        step: String,
        /// With what.
        #[source]
        cause: Failure,
    },
    /// The saga's function itself gave up.
    #[error("the saga gave up")]
    GaveUp(#[source] Failure),
    /// Somebody asked for it.
    #[error("the saga was cancelled: {reason}")]
    Cancelled {
        /// What was said.
        reason: String,
    },
    /// It had not ended when its time was over.
    #[error("the saga did not end before its deadline")]
    Deadline,
}

impl SagaError {
    /// A decision of the saga's own function: nothing broke, but it shall not go on.
    pub fn refuse(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::GaveUp(Failure::new(FaultKind::Rejected, code, message))
    }

    /// The step that failed, if it was a step.
    pub fn step(&self) -> Option<&str> {
        match self {
            Self::Step { step, .. } => Some(step),
            _ => None,
        }
    }

    /// What the step, or the function, failed with.
    pub fn cause(&self) -> Option<&Failure> {
        match self {
            Self::Step { cause, .. } | Self::GaveUp(cause) => Some(cause),
            Self::Cancelled { .. } | Self::Deadline => None,
        }
    }
}

impl From<Failure> for SagaError {
    fn from(failure: Failure) -> Self {
        Self::GaveUp(failure)
    }
}

impl Fault for SagaError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Step { cause, .. } | Self::GaveUp(cause) => cause.kind,
            Self::Cancelled { .. } => FaultKind::Rejected,
            Self::Deadline => FaultKind::Timeout,
        }
    }

    fn code(&self) -> &str {
        match self {
            Self::Step { cause, .. } | Self::GaveUp(cause) => &cause.code,
            Self::Cancelled { .. } => "cancelled",
            Self::Deadline => "deadline",
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        self.cause().and_then(|cause| cause.retry_after)
    }
}

/// What is kept of an error once it is journalled: its kind, its code, what it said, and when to ask again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind of failure.
    pub kind: FaultKind,
    /// The stable name of this very failure.
    pub code: String,
    /// What the error and its sources said.
    pub message: String,
    /// After how long the same may succeed, if whoever failed it said so ([`Fault::retry_after`]): in the journal in
    /// whole milliseconds, rounded up.
    #[serde(rename = "retry_after_ms", default, with = "millis", skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// The longest message that is kept, in bytes.
    pub const MAX_MESSAGE: usize = 2000;

    /// A failure that says nothing of when to ask again.
    pub fn new(kind: FaultKind, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, code: code.into(), message: message.into(), retry_after: None }
    }

    /// What is kept of an error.
    pub fn of(fault: &impl Fault) -> Self {
        let retry_after = fault.retry_after().map(millis::whole);
        Self { retry_after, ..Self::new(fault.kind(), fault.code(), told(fault)) }
    }

    /// Something that must never happen did.
    pub(super) fn bug(message: impl Into<String>) -> Self {
        Self::new(FaultKind::Bug, FaultKind::Bug.as_str(), message)
    }

    /// No answer came in time.
    pub(super) fn timeout(message: impl Into<String>) -> Self {
        Self::new(FaultKind::Timeout, FaultKind::Timeout.as_str(), message)
    }

    /// What a panic said.
    pub(super) fn panic(panic: &(dyn std::any::Any + Send)) -> Self {
        let said = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        Self::bug(format!("panicked: {said}"))
    }
}

impl Fault for Failure {
    fn kind(&self) -> FaultKind {
        self.kind
    }

    fn code(&self) -> &str {
        &self.code
    }

    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

/// A time in whole milliseconds, so that a saga which is run again sees what it saw first.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Rounded up; what is too long to be written is for ever.
    pub(super) fn whole(time: Duration) -> Duration {
        from(to(time))
    }

    fn to(time: Duration) -> u64 {
        u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }

    fn from(millis: u64) -> Duration {
        if millis == u64::MAX { Duration::MAX } else { Duration::from_millis(millis) }
    }

    pub(super) fn serialize<Z: Serializer>(time: &Option<Duration>, to_be: Z) -> Result<Z::Ok, Z::Error> {
        time.map(to).serialize(to_be)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(written: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(written)?.map(from))
    }
}

/// An error and its sources in one line.
pub(super) fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    let mut end = text.len().min(Failure::MAX_MESSAGE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("busy")]
    struct Busy(Duration);

    impl Fault for Busy {
        fn kind(&self) -> FaultKind {
            FaultKind::Overloaded
        }

        fn retry_after(&self) -> Option<Duration> {
            Some(self.0)
        }
    }

    #[test]
    fn when_to_ask_again_is_the_same_after_it_was_journalled() {
        for (said, kept) in [
            (Duration::ZERO, Duration::ZERO),
            (Duration::from_nanos(1), Duration::from_millis(1)),
            (Duration::from_secs(5), Duration::from_secs(5)),
            (Duration::MAX, Duration::MAX),
        ] {
            let failure = Failure::of(&Busy(said));
            assert_eq!(failure.retry_after(), Some(kept));
            let journalled = serde_json::to_string(&failure).unwrap();
            assert_eq!(serde_json::from_str::<Failure>(&journalled).unwrap(), failure, "{journalled}");
        }
    }

    #[test]
    fn a_journal_that_says_nothing_of_it_is_read_and_nothing_of_it_is_written() {
        let written = r#"{"kind":"conflict","code":"no","message":"no"}"#;
        let failure: Failure = serde_json::from_str(written).unwrap();
        assert_eq!(failure.retry_after, None);
        assert_eq!(serde_json::to_string(&failure).unwrap(), written);
    }
}
