//! What a store did that it promises not to do.

use std::fmt;

use super::{Clash, Expect, process_of};

/// A broken promise. Operations are named by their numbers in the history.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Anomaly {
    /// The history has no end, or asks or answers something twice; nothing can be said of it.
    Unfinished(String),
    /// A commit was answered as applied, and is not there.
    Lost(u64),
    /// A commit was answered as not applied, and is there.
    Ghost(u64),
    /// A part of a commit is there, or its parts are not where they belong.
    Torn(u64),
    /// An event of a commit is there a second time, at this position.
    Doubled(u64, u64),
    /// Nobody's event is at this position.
    Foreign(u64),
    /// Positions are not dense: this one was due, and the other came.
    Gap(u64, u64),
    /// Versions of a stream are not dense: this one was due, and the other came, at a position.
    VersionGap(u32, u64, u64, u64),
    /// The time of the event at this position is before that of an earlier one, or not that of its commit.
    Time(u64),
    /// A commit is there, but not where its answer said.
    Misplaced(u64, String),
    /// The second of two commits is behind the first, and its revision is not.
    Revision(u64, u64),
    /// The second of two commits was over before the first was asked for, and is behind it.
    Order(u64, u64),
    /// A commit was applied although something was not as it expects.
    Admitted(u64, Clash),
    /// Two commits of one id were applied.
    Twice(u64, u64),
    /// A commit was refused for what was true at no moment while it was asked for.
    Conflict(u64, Clash, When),
    /// A commit was answered as a repetition of one that is not there, or was not there yet.
    Repetition(u64),
    /// A read gave what was true at no moment while it was asked for.
    Read(u64, When),
    /// What is stored at the end is not what the commits wrote.
    Remains(u32),
}

/// When that was true which was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Before: the answer is stale.
    Before,
    /// Later only.
    Later,
    /// Never.
    Never,
}

/// All that is wrong with a history.
#[derive(Debug, Clone, PartialEq)]
pub struct Anomalies(pub Vec<Anomaly>);

impl fmt::Display for Anomalies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 10;
        for (n, anomaly) in self.0.iter().take(SHOWN).enumerate() {
            let between = if n == 0 { "" } else { "; " };
            write!(f, "{between}{anomaly}")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl std::error::Error for Anomalies {}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unfinished(why) => write!(f, "the history is not whole: {why}"),
            Self::Lost(by) => write!(f, "{} was answered as applied, and is not there", name(*by)),
            Self::Ghost(by) => write!(f, "{} was answered as not applied, and is there", name(*by)),
            Self::Torn(by) => write!(f, "{} is there in parts", name(*by)),
            Self::Doubled(by, position) => {
                write!(f, "{} is there twice, the second time at position {position}", name(*by))
            }
            Self::Foreign(position) => write!(f, "nobody wrote the event at position {position}"),
            Self::Gap(due, came) => write!(f, "position {due} is missing: {came} came in its place"),
            Self::VersionGap(stream, due, came, position) => {
                write!(f, "stream {stream} has version {came} at position {position}, where {due} was due")
            }
            Self::Time(position) => write!(f, "the time of the event at position {position} goes back"),
            Self::Misplaced(by, said) => {
                write!(f, "{} is there, but not as it was answered: {said}", name(*by))
            }
            Self::Revision(before, behind) => {
                write!(f, "{} came behind {}, and has no greater revision", name(*behind), name(*before))
            }
            Self::Order(before, behind) => write!(
                f,
                "{} was over before {} was asked for, and came behind it",
                name(*behind),
                name(*before)
            ),
            Self::Admitted(by, clash) => {
                write!(f, "{} was applied, and should have been a conflict: {clash}", name(*by))
            }
            Self::Twice(first, second) => {
                write!(f, "{} was applied although {} has the same id", name(*second), name(*first))
            }
            Self::Conflict(by, clash, when) => {
                write!(f, "{} was refused because {clash}, which was true {when}", name(*by))
            }
            Self::Repetition(by) => {
                write!(f, "{} was answered as a repetition of what had not happened", name(*by))
            }
            Self::Read(by, when) => write!(f, "{} read what was true {when}", name(*by)),
            Self::Remains(key) => write!(f, "record {key} is not at the end what was last written"),
        }
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before => "before it was asked for, and not any more",
            Self::Later => "only after it was answered",
            Self::Never => "at no time",
        })
    }
}

impl fmt::Display for Clash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(stream, expect, actual) => {
                write!(f, "stream {stream} has version {actual}, expected was {expect}")
            }
            Self::Record(key, expect, None) => write!(f, "there is no record {key}, expected was {expect}"),
            Self::Record(key, expect, Some(actual)) => {
                write!(f, "record {key} has revision {actual}, expected was {expect}")
            }
            Self::Condition(after, found) => {
                write!(f, "the event at {found} matches what must not have come after {after}")
            }
            Self::Other(conflict) => f.write_str(conflict),
        }
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("anything"),
            Self::Nothing => f.write_str("nothing"),
            Self::Exactly(number) => number.fmt(f),
        }
    }
}

fn name(operation: u64) -> String {
    format!("operation {} of process {}", operation as u32, process_of(operation))
}
