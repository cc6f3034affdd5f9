//! How large a commit may be.

use serde_json::value::RawValue;

use super::{Commit, CommitError, Condition, WriteKind, change};

/// The sizes that every engine takes; larger ones are refused before anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one event's data or one record's value.
    pub value: usize,
    /// Bytes of a record's key.
    pub key: usize,
    /// Bytes of an event's kind.
    pub kind: usize,
    /// Events, record writes, requirements, conditions and changes of collections of one commit.
    pub items: usize,
    /// Bytes of all data and values of one commit.
    pub commit: usize,
}

impl Limits {
    /// What data of these limits may become when personal data in them are sealed, and keys are a tenant's.
    pub(super) fn at_rest(self) -> Self {
        Self { value: 2 * self.value, key: 2 * self.key, commit: 2 * self.commit, ..self }
    }

    /// Bytes of data after which an engine may cut a page of events short. Of the log it may give shorter ones:
    /// [`Engine::read_log`](super::Engine::read_log).
    pub const PAGE: usize = 8 << 20;
}

impl Default for Limits {
    fn default() -> Self {
        Self { value: 1 << 20, key: 512, kind: 128, items: 4096, commit: 8 << 20 }
    }
}

impl Limits {
    /// What a public event leaves free of the limit on its data: the bus adds where it came from, a dead letter why
    /// it failed, and both must fit.
    const ROOM_FOR_THE_BUS: usize = 64 << 10;

    /// Refuses a commit that is over a limit, or not well-formed, and says which part of it.
    pub fn check(&self, commit: &Commit) -> Result<(), CommitError> {
        if let Some(unwritable) = &commit.unwritable {
            return Err(CommitError::Invalid(unwritable.clone()));
        }
        let items = commit.event_count()
            + commit.writes.len()
            + commit.requirements.len()
            + commit.conditions.len()
            + commit.changes.len();
        at_most("events and records", items, self.items, "a commit")?;
        if !commit.changes.is_empty() {
            change::check(commit)?;
        }
        let mut bytes = 0;
        for append in &commit.appends {
            if append.events.is_empty() {
                let what = format!("an append to `{}` has no events", append.stream);
                return Err(CommitError::Invalid(what));
            }
            for event in &append.events {
                let whose = || format!("an event `{}` for `{}`", event.kind, append.stream);
                let room = if event.public { Self::ROOM_FOR_THE_BUS } else { 0 };
                check(event.data.len(), self.value.saturating_sub(room), "bytes of data", whose)?;
                check(event.kind.len(), self.kind, "bytes of kind", whose)?;
                if event.public {
                    check_json(&event.data, whose)?;
                }
                if let Some(fault) = event.tags.fault() {
                    return Err(CommitError::Invalid(format!("{} has {fault}", whose())));
                }
                bytes += event.data.len();
            }
        }
        if let Some(fault) = commit.conditions.iter().find_map(Condition::fault) {
            return Err(CommitError::Invalid(format!("a condition has {fault}")));
        }
        for requirement in &commit.requirements {
            let whose = || format!("a requirement of `{}`", requirement.collection);
            check(requirement.key.len(), self.key, "bytes of key", whose)?;
        }
        for write in &commit.writes {
            let whose = || format!("the record `{}` of `{}`", write.key, write.collection);
            check(write.key.len(), self.key, "bytes of key", whose)?;
            if let WriteKind::Put { value, .. } = &write.kind {
                check(value.len(), self.value, "bytes of value", whose)?;
                bytes += value.len();
            }
        }
        at_most("bytes", bytes, self.commit, "a commit")
    }
}

/// What is public goes to the bus, which puts the data into JSON of its own: what is no JSON would stop there, and
/// all behind it. Nothing is built from the data, so their depth and their numbers do not matter.
fn check_json(data: &[u8], whose: impl Fn() -> String) -> Result<(), CommitError> {
    match serde_json::from_slice::<&RawValue>(data) {
        Ok(_) => Ok(()),
        Err(error) => Err(CommitError::Invalid(format!(
            "{} is public, and its data are not one JSON value: {error}",
            whose()
        ))),
    }
}

impl Limits {
    /// As [`Limits::check`] does, for the data of a public event that have become longer.
    pub(super) fn check_public(&self, bytes: usize, whose: impl Fn() -> String) -> Result<(), CommitError> {
        let room = self.value.saturating_sub(Self::ROOM_FOR_THE_BUS);
        check(bytes, room, "bytes of sealed data", whose)
    }
}

fn at_most(unit: &str, actual: usize, limit: usize, whose: &str) -> Result<(), CommitError> {
    check(actual, limit, unit, || whose.to_owned())
}

fn check(actual: usize, limit: usize, unit: &str, whose: impl Fn() -> String) -> Result<(), CommitError> {
    if actual <= limit {
        return Ok(());
    }
    Err(CommitError::Invalid(format!("{} has {actual} {unit}, the limit is {limit}", whose())))
}
