//! Why a handler did not take a message.

use std::any::Any;
use std::error::Error;
use std::fmt;

use crate::message::{Fault, FaultKind};

/// A failed handling: what kind, and the reason as an operator will read it.
///
/// Every [`Fault`] becomes one by `?`, so that a handler can use several kinds of error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure it was.
    pub kind: FaultKind,
    /// The error and what caused it, outermost first, cut at 4 KiB.
    pub reason: String,
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
        Self { kind, reason }
    }

    /// An error and all its causes.
    pub(super) fn of(kind: FaultKind, error: &dyn Error) -> Self {
        let mut reason = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            reason.push_str(": ");
            reason.push_str(&error.to_string());
            cause = error.source();
        }
        Self::new(kind, reason)
    }

    /// A panic of the handler.
    pub(super) fn panic(panic: &(dyn Any + Send)) -> Self {
        Self::new(FaultKind::Bug, format!("the handler panicked: {}", panic_text(panic)))
    }
}

impl<F: Fault> From<F> for Failure {
    fn from(fault: F) -> Self {
        Self::of(fault.kind(), &fault)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// What a panic said, if it said it in words.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}
