//! The refusal of a call.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::message::{Fault, FaultKind};
use crate::resilience::per_thread::{Apart, Lines};

/// The call was refused, because the callee failed too often, or because an operator says so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the circuit breaker for `{callee}` is {}", how(callee))]
pub struct Open {
    /// Who was not called.
    pub callee: Callee,
    /// After how long a call may be let through again.
    pub retry_after: Duration,
}

fn how(callee: &Callee) -> &'static str {
    if callee.0.held { "held open by an operator" } else { "open" }
}

impl Open {
    /// Whether an operator holds the breaker open, however well the callee is.
    pub fn is_held(&self) -> bool {
        self.callee.0.held
    }
}

impl Fault for Open {
    fn kind(&self) -> FaultKind {
        FaultKind::Unavailable
    }

    fn code(&self) -> &str {
        "circuit-open"
    }

    fn retry_after(&self) -> Option<Duration> {
        Some(self.retry_after)
    }
}

/// The name of a callee, as text.
///
/// It is one pointer, so that an answer that may be a refusal is small: what is larger than a few numbers is written to
/// memory and read again, also by calls that are let through. The first threads of a process share no name, and so no count
/// of its users.
#[derive(Clone, PartialEq, Eq)]
pub struct Callee(Arc<Apart<Name>>);

#[derive(PartialEq, Eq)]
struct Name {
    text: Box<str>,
    /// Why it was not called; it stands here because here it makes a refusal no larger.
    held: bool,
}

/// The same name for each line of threads, once one of them was refused.
#[derive(Debug)]
pub(super) struct Callees {
    lines: Lines<OnceLock<Callee>>,
    /// For all of them, while an operator says that nobody calls.
    held: OnceLock<Callee>,
}

impl Callees {
    pub(super) fn new() -> Self {
        Self { lines: Lines::new(OnceLock::new), held: OnceLock::new() }
    }

    /// This thread's, of the one name that all have.
    #[inline]
    pub(super) fn here(&self, name: &str) -> Callee {
        self.lines.here().get_or_init(|| Callee::of(name, false)).clone()
    }

    /// The name of one whose breaker an operator holds open.
    #[cold]
    pub(super) fn held(&self, name: &str) -> Callee {
        self.held.get_or_init(|| Callee::of(name, true)).clone()
    }
}

impl Callee {
    fn of(name: &str, held: bool) -> Self {
        Self(Arc::new(Apart(Name { text: name.into(), held })))
    }
}

impl Deref for Callee {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0.text
    }
}

impl fmt::Display for Callee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for Callee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
