//! The refusal of a call.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::message::{Fault, FaultKind};

/// The call was refused, because the callee failed too often.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the circuit breaker for `{callee}` is open")]
pub struct Open {
    /// Who was not called.
    pub callee: Callee,
    /// After how long a call may be let through again.
    pub retry_after: Duration,
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

/// The name of a callee, as text. A short one, up to 30 bytes, is copied where it is needed: refusals on many threads
/// then have nothing in common that they would have to count.
#[derive(Clone, PartialEq, Eq)]
pub struct Callee(Name);

#[derive(Clone, PartialEq, Eq)]
enum Name {
    Short { len: u8, bytes: [u8; Callee::SHORT] },
    Long(Arc<str>),
}

impl Callee {
    const SHORT: usize = 30;

    pub(super) fn new(name: &Arc<str>) -> Self {
        let mut bytes = [0; Self::SHORT];
        Self(match bytes.get_mut(..name.len()) {
            Some(start) => {
                start.copy_from_slice(name.as_bytes());
                Name::Short { len: name.len() as u8, bytes }
            }
            None => Name::Long(Arc::clone(name)),
        })
    }
}

impl Deref for Callee {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            Name::Short { len, bytes } => {
                str::from_utf8(&bytes[..usize::from(*len)]).expect("it was copied from text")
            }
            Name::Long(name) => name,
        }
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
