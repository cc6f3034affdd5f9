//! What clients asked of a store and what they were told, in the order in which it happened.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// One line of a history. The lines' order is the only time there is: what ended on an earlier line was over before
/// what began on a later one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entry {
    /// A client asks.
    Asked(u64, Ask),
    /// It hears the answer. An operation without one may have happened, or may still.
    Answered(u64, Answer),
    /// A process is gone, and with it all that it asked: what had not happened by now never will.
    Gone(u32),
    /// What is stored at the end, when nobody asks any more.
    Left(Left),
}

/// An operation, named by a number that says which process asked.
pub fn operation(process: u32, count: u32) -> u64 {
    u64::from(process) << 32 | u64::from(count)
}

/// The process that asked for an operation.
pub fn process_of(operation: u64) -> u32 {
    (operation >> 32) as u32
}

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// Apply a commit.
    Commit(Wanted),
    /// So many events of a stream, from a version on.
    Stream {
        /// Which.
        stream: u32,
        /// The first version.
        from: u64,
        /// How many at most.
        limit: usize,
    },
    /// So many events of the log, or of those with a tag, and all that there are when it is fewer.
    Log {
        /// Behind which position.
        after: u64,
        /// How many at most.
        limit: usize,
        /// Only those with this tag.
        #[serde(default)]
        tag: Option<u32>,
    },
    /// One record.
    Record(u32),
    /// All records, as of one moment.
    Records,
}

/// A commit that a client wants.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    /// Appends: the stream, what is expected of it, how many events.
    pub appends: Vec<(u32, Expect, u32)>,
    /// Requirements: the record, what is expected of it.
    pub requires: Vec<(u32, Expect)>,
    /// Writes: the record, what is expected of it, whether it is put (or else deleted).
    pub writes: Vec<(u32, Expect, bool)>,
    /// Conditions: no event with the tag behind the position.
    #[serde(default)]
    pub unless: Vec<(u32, u64)>,
    /// The tag of all its events.
    #[serde(default)]
    pub tag: Option<u32>,
    /// The commit's own id, which others may have too.
    pub id: Option<u64>,
}

impl Wanted {
    /// How many events it appends.
    pub fn events(&self) -> u32 {
        self.appends.iter().map(|(_, _, count)| count).sum()
    }

    /// Whether it leaves a mark. One that only appends is known by its events; of any other the revision must be known,
    /// although nobody may have answered, and others may have written its records since.
    pub fn is_marked(&self) -> bool {
        self.appends.is_empty() || !self.writes.is_empty() || self.id.is_some()
    }
}

/// What a commit expects of a stream (its version) or of a record (its revision).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expect {
    /// Whatever is there.
    Any,
    /// Nothing is there.
    Nothing,
    /// It is there, and exactly so.
    Exactly(u64),
}

/// What a client hears.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The commit was applied.
    Committed(Done),
    /// A commit of the same id had been applied before.
    Repeated {
        /// The last position of the log when it was.
        position: u64,
        /// Its revision.
        revision: u64,
    },
    /// Something was not as expected; nothing was applied.
    Conflict(Clash),
    /// The store could not; nothing was applied.
    Refused(String),
    /// Events of a stream.
    Stream(Vec<Event>),
    /// Events of the log.
    Log {
        /// The events.
        events: Vec<Event>,
        /// Up to where there are no others.
        through: u64,
    },
    /// The record, if there is one.
    Record(Option<Row>),
    /// The records.
    Records(Vec<Row>),
    /// The store could not read, and said nothing about what is stored.
    Unread(String),
}

/// What a commit did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The last position of the log when it was applied, its own events included.
    pub position: u64,
    /// Its revision.
    pub revision: u64,
    /// When, in microseconds since 1970.
    pub at: i64,
    /// For each append the position of its first event, and the stream's last version afterwards.
    pub appended: Vec<(u64, u64)>,
}

/// What was not as expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clash {
    /// A stream had another version.
    Stream(u32, Expect, u64),
    /// A record had another revision, or was not there.
    Record(u32, Expect, Option<u64>),
    /// Something came behind the first position that a condition excludes, last at the second.
    Condition(u64, u64),
    /// Another record than those that clients write, or something that this crate's histories do not know.
    Other(String),
}

/// An event that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its position.
    pub position: u64,
    /// Its stream.
    pub stream: u32,
    /// Its version.
    pub version: u64,
    /// When it was committed, in microseconds since 1970.
    pub at: i64,
    /// The operation that wrote it; 0 when it is none of a client's.
    pub by: u64,
    /// Which of that operation's events it is, from 0.
    pub nth: u32,
    /// Its tag.
    #[serde(default)]
    pub tag: Option<u32>,
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Its key.
    pub key: u32,
    /// Its revision.
    pub revision: u64,
    /// The log's last position when it was written.
    pub position: u64,
    /// The operation that wrote it.
    pub by: u64,
}

/// What is stored at the end.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Left {
    /// The whole log.
    pub log: Vec<Event>,
    /// All records that clients write.
    pub records: Vec<Row>,
    /// The marks of commits: by them one sees that they happened, and when.
    pub marks: Vec<Mark>,
}

/// The mark of a commit ([`Wanted::is_marked`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Whose it is.
    pub by: u64,
    /// Its revision.
    pub revision: u64,
    /// The log's last position when it was written.
    pub position: u64,
}

/// All that was asked and answered, and what was left.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History(pub Vec<Entry>);

/// A history cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file.
    #[error("the history cannot be read")]
    File(#[from] std::io::Error),
    /// A line of it.
    #[error("line {line} is not an entry of a history")]
    Line {
        /// Which, from 1.
        line: usize,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl History {
    /// Reads what [`History::write`] or a journal in a file wrote: JSON Lines.
    ///
    /// Of an entry that its process was killed over, a part may be there, and the next one behind it on the same line,
    /// or nothing. It is as if it were not there at all: what a client did not write down to its end it has neither asked
    /// nor acted on.
    pub fn read(file: &Path) -> Result<Self, HistoryError> {
        let text = std::fs::read_to_string(file)?;
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        let entry =
            |(n, line)| Entry::read(line).map_err(|source| HistoryError::Line { line: n + 1, source });
        whole.lines().enumerate().map(entry).collect::<Result<_, _>>().map(Self)
    }

    /// Writes the history to a file, an entry a line.
    pub fn write(&self, file: &Path) -> std::io::Result<()> {
        std::fs::write(file, self.0.iter().map(Entry::line).collect::<String>())
    }

    /// How many operations were asked for.
    pub fn operations(&self) -> usize {
        self.0.iter().filter(|entry| matches!(entry, Entry::Asked(..))).count()
    }
}

impl Entry {
    /// The entry of a line, or the one at its end behind a part of another.
    fn read(line: &str) -> Result<Self, serde_json::Error> {
        const BEGINNINGS: [&str; 4] = ["{\"asked\":", "{\"answered\":", "{\"gone\":", "{\"left\":"];
        let begins = |(at, _): &(usize, char)| BEGINNINGS.iter().any(|entry| line[*at..].starts_with(entry));
        let behind = |(at, _)| serde_json::from_str(&line[at..]).ok();
        serde_json::from_str(line)
            .or_else(|error| line.char_indices().filter(begins).find_map(behind).ok_or(error))
    }

    /// The entry as a line of JSON, with its end.
    pub fn line(&self) -> String {
        serde_json::to_string(self).expect("numbers and texts are JSON") + "\n"
    }
}
