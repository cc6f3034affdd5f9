//! Where an event stands in its log.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// An event's place in its log: dense from 1, in the order of commits. 0 stands before the first event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub u64);

impl Position {
    /// Before the first event.
    pub const START: Self = Self(0);
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which log a position belongs to, and which life of it: a log restored from a backup begins a new incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LogId {
    /// Drawn when the log was made.
    pub log: Uuid,
    /// 1 for a new log; drawn anew by each restore, because one backup may be restored more than once.
    pub incarnation: u32,
}

impl LogId {
    /// The id of a new log.
    pub fn new() -> Self {
        Self { log: Uuid::new_v4(), incarnation: 1 }
    }

    /// The id of the same log after it was restored from a copy.
    pub fn restored(self) -> Self {
        let drawn = 2 + (Uuid::new_v4().as_u128() % u128::from(u32::MAX - 2)) as u32;
        // The life that ended is none of those that begin.
        Self { incarnation: if drawn == self.incarnation { u32::MAX } else { drawn }, ..self }
    }

    /// A position of this log as a token for the world outside: opaque, and refused by every other log.
    pub fn token(&self, position: Position) -> String {
        format!("{}-{}-{}", self.short(), self.incarnation, position)
    }

    /// The position that [`LogId::token`] wrote.
    pub fn parse_token(&self, token: &str) -> Result<Position, TokenError> {
        let mut parts = token.split('-');
        let (log, incarnation, position) = (parts.next(), parts.next(), parts.next());
        let (Some(log), Some(incarnation), Some(position), None) = (log, incarnation, position, parts.next())
        else {
            return Err(TokenError::Malformed);
        };
        // One spelling: no sign, no zeros in front.
        let number = |text: &str| text.parse::<u64>().ok().filter(|number| number.to_string() == text);
        let (Some(incarnation), Some(position)) = (number(incarnation), number(position)) else {
            return Err(TokenError::Malformed);
        };
        if log != self.short() {
            return Err(TokenError::OtherLog);
        }
        if incarnation != u64::from(self.incarnation) {
            return Err(TokenError::OtherIncarnation);
        }
        Ok(Position(position))
    }

    fn short(&self) -> String {
        format!("{:016x}", (self.log.as_u128() >> 64) as u64)
    }
}

impl Default for LogId {
    fn default() -> Self {
        Self::new()
    }
}

/// The token is not a position of this log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It was not written by [`LogId::token`].
    #[error("not a position")]
    Malformed,
    /// It belongs to another log.
    #[error("a position of another log")]
    OtherLog,
    /// The log was restored since it was written.
    #[error("a position from before the log was restored")]
    OtherIncarnation,
    /// The log has not come so far.
    #[error("a position that this log has not reached")]
    Ahead,
}
