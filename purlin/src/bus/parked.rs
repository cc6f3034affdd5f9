//! What is kept of a message that failed, and of the later ones of its key.
//!
//! A key that has parked messages has one [`ParkedKey`] record; whoever changes anything about the key (its lane, a
//! retry, an operator) replaces that record at the revision he has seen, so that of two at once one looks again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::message::{FaultKind, Timestamp};
use crate::resilience::Retry;
use crate::store::{Cause, Commit, Field, Position, Query, ReadError, Record, Revision, Row, Store};

use super::message::StoredMessage;
use super::{Failure, Message};

/// A key whose messages wait. The record is due when its first message is to be tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ParkedKey {
    pub(super) group: String,
    /// The group and the number of the lane: what a lane finds its keys by.
    pub(super) lane: String,
    pub(super) key: String,
    /// The position of its first message, the one that is tried.
    pub(super) head: Position,
    /// How many messages wait, the first included.
    pub(super) count: u64,
    /// How often the first was tried since it is the first, or since an operator asked for it.
    pub(super) attempts: u32,
    pub(super) state: KeyState,
}

/// Whether the first message of a key is tried again by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum KeyState {
    Retrying,
    Dead,
}

impl Row for ParkedKey {
    const COLLECTION: &'static str = "purlin_parked_keys";
    const FIELDS: &'static [Field] = &[Field::text("group"), Field::text("lane"), Field::text("state")];
}

/// A parked message.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ParkedMessage {
    pub(super) group: String,
    pub(super) key: String,
    pub(super) subject: String,
    pub(super) parked_at: Timestamp,
    /// How often it was tried in all.
    pub(super) attempts: u32,
    /// Its first and last failure; none while it has only waited behind another.
    pub(super) failed: Option<Failed>,
    pub(super) message: StoredMessage,
}

/// How a message failed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Failed {
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    pub(super) kind: FaultKind,
    pub(super) reason: String,
}

impl Row for ParkedMessage {
    const COLLECTION: &'static str = "purlin_parked_messages";
    const FIELDS: &'static [Field] = &[Field::text("group"), Field::text("key"), Field::text("subject")];
}

/// Makes both collections.
pub(super) async fn define(store: &Store) -> Result<(), crate::store::CommitError> {
    store.define::<ParkedKey>().await?;
    store.define::<ParkedMessage>().await
}

/// Where a key's record stands.
pub(super) fn key_id(group: &str, key: &str) -> String {
    format!("{group}/{key}")
}

/// Where a message's record stands: a group's messages are in the order of the bus.
pub(super) fn message_id(group: &str, position: Position) -> String {
    format!("{group}/{:020}", position.0)
}

/// The value of [`ParkedKey::lane`].
pub(super) fn lane_id(group: &str, lane: u32) -> String {
    format!("{group}/{lane}")
}

impl ParkedMessage {
    pub(super) fn new(group: &str, message: &Message, now: Timestamp) -> Self {
        Self {
            group: group.to_owned(),
            key: message.key().to_owned(),
            subject: message.subject().to_owned(),
            parked_at: now,
            attempts: 0,
            failed: None,
            message: StoredMessage::of(message),
        }
    }

    pub(super) fn failed(mut self, failure: &Failure, now: Timestamp) -> Self {
        let first = self.failed.map_or(now, |failed| failed.first);
        let (kind, reason) = (failure.kind, failure.reason.clone());
        self.attempts += 1;
        self.failed = Some(Failed { first, last: now, kind, reason });
        self
    }
}

impl ParkedKey {
    /// The key after another failure of its first message, and when that is due again (never: it is dead); `told` is for
    /// how long whoever failed it wants to be left alone.
    pub(super) fn failed(
        mut self,
        retry: &Retry,
        told: Option<Duration>,
        now: Timestamp,
        dice: f64,
    ) -> (Self, Option<Timestamp>) {
        self.attempts += 1;
        let pause = retry.pause(self.attempts, told, dice).filter(|_| retry.allows(self.attempts));
        let Some(pause) = pause else {
            self.state = KeyState::Dead;
            return (self, None);
        };
        self.state = KeyState::Retrying;
        (self, Some(now.checked_add(pause).unwrap_or(Timestamp::MAX)))
    }

    /// The key to be tried at once, with all its attempts before it.
    pub(super) fn anew(mut self) -> Self {
        self.attempts = 0;
        self.state = KeyState::Retrying;
        self
    }

    fn id(&self) -> String {
        key_id(&self.group, &self.key)
    }

    /// Writes the key's record in place of one that is as expected.
    pub(super) fn put(&self, commit: Commit, expected: Revision, due: Option<Timestamp>) -> Commit {
        commit.put_expecting(self.id(), self, expected, due)
    }
}

/// A key's record as it was read.
#[derive(Debug, Clone)]
pub(super) struct SeenKey {
    pub(super) row: ParkedKey,
    pub(super) revision: Revision,
    pub(super) due: Option<Timestamp>,
}

impl SeenKey {
    pub(super) fn of(record: &Record) -> Result<Self, ReadError> {
        let (row, revision, due) = (record.decode()?, Revision::Exact(record.revision), record.due);
        Ok(Self { row, revision, due })
    }

    pub(super) async fn read(store: &Store, group: &str, key: &str) -> Result<Option<Self>, ReadError> {
        let record = store.get_record(ParkedKey::COLLECTION, &key_id(group, key)).await?;
        record.as_ref().map(Self::of).transpose()
    }

    /// Takes the first message away: the next one is due now; without a next one the key is free.
    pub(super) async fn advance(&self, store: &Store, now: Timestamp) -> Result<Commit, ReadError> {
        let ParkedKey { group, key, head, .. } = &self.row;
        let commit = Commit::new();
        let commit = match next_behind(store, group, key, *head).await? {
            Some(next) => {
                let row = ParkedKey { head: next, count: self.row.count - 1, ..self.row.clone() };
                row.anew().put(commit, self.revision, Some(now))
            }
            None => commit.delete::<ParkedKey>(self.row.id(), self.revision),
        };
        Ok(commit.delete::<ParkedMessage>(message_id(group, *head), Revision::Any))
    }
}

/// The position of the key's next parked message behind `head`.
async fn next_behind(
    store: &Store,
    group: &str,
    key: &str,
    head: Position,
) -> Result<Option<Position>, ReadError> {
    let behind = Some(message_id(group, head));
    let query = Query::all().and("key", key).prefix(format!("{group}/")).after(behind).limit(1);
    let page = store.list::<ParkedMessage>(query).await?;
    page.records.first().map(|record| position_of(&record.key)).transpose()
}

/// The position in the key of a message's record.
pub(super) fn position_of(record_key: &str) -> Result<Position, ReadError> {
    let digits = record_key.rsplit_once('/').map_or("", |(_, digits)| digits);
    digits.parse().map(Position).map_err(|error: std::num::ParseIntError| ReadError::Unreadable {
        what: format!("the key `{record_key}` of a parked message"),
        source: Cause::from(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_due_when_whoever_failed_it_said_so_and_a_pause_more_and_dead_if_he_said_never() {
        let s = Duration::from_secs;
        let retry = Retry { max_attempts: 3, first_delay: s(1), max_delay: s(9), jitter: 0.0 };
        let key = ParkedKey {
            group: "g".into(),
            lane: lane_id("g", 0),
            key: "k".into(),
            head: Position(1),
            count: 1,
            attempts: 0,
            state: KeyState::Retrying,
        };
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let after = |span| now.checked_add(span).ok();
        let (key, due) = key.failed(&retry, Some(s(30)), now, 0.0);
        assert_eq!((key.state, due), (KeyState::Retrying, after(s(31))));
        let (key, due) = key.failed(&retry, None, now, 0.0);
        assert_eq!((key.state, due), (KeyState::Retrying, after(s(2))));
        let (never, due) = key.clone().anew().failed(&retry, Some(Duration::MAX), now, 0.0);
        assert_eq!((never.state, due), (KeyState::Dead, None));
        let (last, due) = key.failed(&retry, Some(s(30)), now, 0.0);
        assert_eq!((last.state, due), (KeyState::Dead, None), "it was tried often enough");
    }
}
