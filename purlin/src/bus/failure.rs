//! Why a handler did not take a message.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::message::{Fault, FaultKind, panic_text};

/// A failed handling: what kind, and the reason as an operator will read it.
///
/// Every [`Fault`] becomes one by `?`, so that a handler can use several kinds of error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure it was.
    pub kind: FaultKind,
    /// The error and what caused it, outermost first, cut at 4 KiB.
    pub reason: String,
    /// After how long the same may succeed, if whoever failed it said so ([`Fault::retry_after`]); the longest there is
    /// means never.
    pub retry_after: Option<Duration>,
}

impl Failure {
    const LONGEST_REASON: usize = 4096;

    /// A failure that is told in the handler's own words.
    pub fn new(kind: FaultKind, reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        if reason.len() > Self::LONGEST_REASON {
            let end = (0..=Self::LONGEST_REASON).rev().find(|end| reason.is_char_boundary(*end));
            reason.truncate(end.unwrap_or(0));
        }
        Self { kind, reason, retry_after: None }
    }

    /// An error and all its causes.
    pub(super) fn of(kind: FaultKind, error: &dyn Error) -> Self {
        Self::new(kind, chain(error))
    }

    /// A panic of the handler.
    pub(super) fn panic(panic: &(dyn Any + Send)) -> Self {
        Self::new(FaultKind::Bug, format!("the handler panicked: {}", panic_text(panic)))
    }
}

impl<F: Fault> From<F> for Failure {
    fn from(fault: F) -> Self {
        Self { retry_after: fault.retry_after(), ..Self::of(fault.kind(), &fault) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// An error and what caused it, outermost first.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::resilience::{Breaker, BreakerConfig, Forced};

    use super::*;

    #[test]
    fn a_failure_knows_how_long_its_cause_wants_to_be_left_alone() {
        let breaker = Breaker::new("payments", BreakerConfig::default());
        breaker.force(Some(Forced::Open));
        let open = breaker.enter().unwrap_err();
        let failure = Failure::from(open.clone());
        assert_eq!((failure.kind, failure.retry_after), (FaultKind::Unavailable, Some(open.retry_after)));
        assert_eq!(Failure::new(FaultKind::Bug, "a handler's own words").retry_after, None);
    }
}
