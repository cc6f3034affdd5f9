//! How an audit goes on, and what it found.

use std::fmt;

use crate::message::Timestamp;
use crate::store::{LogId, Position, StreamId};

use super::{Damage, Finding};

/// How far an audit has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The log is read.
    Log {
        /// Up to here.
        position: Position,
        /// Up to where it will be read.
        through: Position,
        /// Which time, from 1.
        pass: u64,
        /// How many times in all; grows while it is read for the first time.
        passes: u64,
    },
    /// Streams are read by themselves.
    Streams {
        /// So many.
        done: usize,
        /// Of so many.
        of: usize,
    },
}

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Which log was read.
    pub log: LogId,
    /// Up to where it was read.
    pub through: Position,
    /// How many events were read.
    pub events: u64,
    /// Bytes of their data.
    pub bytes: u64,
    /// How many streams they belong to.
    pub streams: u64,
    /// How many times the log was read for them.
    pub passes: u64,
    /// When the first event was committed.
    pub first: Option<Timestamp>,
    /// When the last was.
    pub last: Option<Timestamp>,
    /// How many streams were also read by themselves.
    pub sampled: u64,
    /// How much is wrong.
    pub found: u64,
    /// What is wrong, in the order in which it was found; the first of it, when it is too much.
    pub findings: Vec<Finding>,
    /// How many findings are kept.
    most: usize,
}

impl Report {
    pub(super) fn new(log: LogId, through: Position, most: usize) -> Self {
        Self {
            log,
            through,
            events: 0,
            bytes: 0,
            streams: 0,
            passes: 0,
            first: None,
            last: None,
            sampled: 0,
            found: 0,
            findings: Vec::new(),
            most,
        }
    }

    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.found == 0
    }

    pub(super) fn find(&mut self, position: Position, stream: Option<&StreamId>, damage: Damage) {
        self.found += 1;
        if self.findings.len() < self.most {
            self.findings.push(Finding { position, stream: stream.cloned(), damage });
        }
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log { position, through, passes: 1, .. } => write!(f, "position {position} of {through}"),
            Self::Log { position, through, pass, passes } => {
                write!(f, "position {position} of {through}, pass {pass} of {passes}")
            }
            Self::Streams { done, of } => write!(f, "stream {done} of {of}"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, streams, through, sampled, .. } = self;
        write!(
            f,
            "{events} events of {streams} streams up to position {through}, {sampled} streams also by themselves: "
        )?;
        if self.is_clean() {
            return f.write_str("nothing is wrong");
        }
        for (n, finding) in self.findings.iter().enumerate() {
            write!(f, "{}{finding}", if n == 0 { "" } else { "; " })?;
        }
        match self.found - self.findings.len() as u64 {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}
