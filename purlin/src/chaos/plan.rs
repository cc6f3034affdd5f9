//! Where a process dies: a plain value, read from a text.

use std::fmt;
use std::str::FromStr;

/// A commit of a process, and on which side of it the process dies; as a text `before:17` or `after:17`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CrashAt {
    /// On which side of the commit.
    pub side: Side,
    /// Which one, from 1.
    pub commit: u64,
}

/// A side of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// Nothing of it is applied. Counted are commits that begin.
    Before,
    /// It is durable, and nobody has been answered. Counted are commits that were applied, so that a refused one is
    /// no place to die at.
    After,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before => "before",
            Self::After => "after",
        })
    }
}

impl fmt::Display for CrashAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.side, self.commit)
    }
}

impl FromStr for CrashAt {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, PlanError> {
        let (side, commit) = text.split_once(':').ok_or_else(|| PlanError::Form(text.into()))?;
        let side = match side {
            "before" => Side::Before,
            "after" => Side::After,
            _ => return Err(PlanError::Form(text.into())),
        };
        match commit.parse() {
            Ok(0) => Err(PlanError::Zero),
            Ok(commit) => Ok(Self { side, commit }),
            Err(_) => Err(PlanError::Form(text.into())),
        }
    }
}

/// A text is not a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// It does not have the form.
    #[error("`{0}` is not a place to crash at: write `before:17` or `after:17`")]
    Form(String),
    /// There is no such commit.
    #[error("commits are counted from 1: there is no commit 0 to crash at")]
    Zero,
}
