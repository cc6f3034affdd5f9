//! Whom data are about.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The name of somebody whom data are about: an identifier that says nothing of him by itself (`user-018f..`), for it
/// stays readable beside his data when he is forgotten, and goes where they go.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subject(Arc<str>);

impl Subject {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 255;

    /// The subject of a name.
    pub fn new(name: impl fmt::Display) -> Result<Self, SubjectError> {
        let name = name.to_string();
        if name.is_empty() {
            return Err(SubjectError::Empty);
        }
        if name.len() > Self::MAX_LEN {
            return Err(SubjectError::TooLong(name.len()));
        }
        if name.chars().any(char::is_control) {
            return Err(SubjectError::Control);
        }
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Subject {
    type Error = SubjectError;

    fn try_from(name: String) -> Result<Self, SubjectError> {
        Self::new(name)
    }
}

impl From<Subject> for String {
    fn from(subject: Subject) -> Self {
        subject.as_str().to_owned()
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subject({})", self.0)
    }
}

/// The text cannot name a subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// Somebody has a name.
    #[error("a subject's name must not be empty")]
    Empty,
    /// Names are at most [`Subject::MAX_LEN`] bytes long.
    #[error("a subject's name of {0} bytes is longer than {max}", max = Subject::MAX_LEN)]
    TooLong(usize),
    /// Control characters would break logs and terminals.
    #[error("a subject's name must not have control characters")]
    Control,
}
