//! The one way to change a store.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use uuid::Uuid;

use crate::message::{Envelope, Timestamp, storing};

use super::field::scalars;
use super::{
    Change, Collection, Condition, EventQuery, Expected, Field, Position, Revision, Row, Scalar, StreamId,
};

/// Appends, record writes and requirements that are applied together or not at all.
///
/// Building one cannot fail; what cannot be written (a value that does not fit JSON, a limit that is passed) is
/// told by [`Store::commit`](super::Store::commit).
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// Events for the ends of streams.
    pub appends: Vec<Append>,
    /// Records to put or delete.
    pub writes: Vec<Write>,
    /// Records that must be as expected, and are left alone.
    pub requirements: Vec<Requirement>,
    /// What must not have come since the decision looked.
    pub conditions: Vec<Condition>,
    /// Collections to make, rename or remove.
    pub changes: Vec<Change>,
    /// Answer instead of committing again when a commit of this id happened within the stated time.
    pub(super) id: Option<(Uuid, Duration)>,
    /// Whose keys are destroyed with it.
    pub(super) forgotten: Vec<super::personal::Subject>,
    /// The first value that could not be written.
    pub(super) unwritable: Option<String>,
}

/// Events for the end of a stream.
#[derive(Debug, Clone)]
pub struct Append {
    /// Which stream.
    pub stream: StreamId,
    /// What is expected of it.
    pub expected: Expected,
    /// The events, in order; at least one.
    pub events: Vec<Envelope>,
    /// When they happened, if that is not now: only for who brings a log from elsewhere
    /// ([`transfer`](super::transfer)). A time before that of the log's last event is taken for that one's.
    pub at: Option<Timestamp>,
}

/// A record to put or delete.
#[derive(Debug, Clone)]
pub struct Write {
    /// The collection's name.
    pub collection: std::borrow::Cow<'static, str>,
    /// The record's key.
    pub key: String,
    /// What is expected of the record that is there.
    pub expected: Revision,
    /// What to do.
    pub kind: WriteKind,
}

/// What a [`Write`] does.
#[derive(Debug, Clone)]
pub enum WriteKind {
    /// Puts a record in place of what is there. Only [`Commit::put_in`] and its like make one, so that the value is
    /// JSON and the fields are the value's.
    #[non_exhaustive]
    Put {
        /// The value: JSON.
        value: Bytes,
        /// The values of the collection's fields, in the order of its definition.
        fields: Vec<Scalar>,
        /// The definition that they follow; the store's must be the same.
        of: std::borrow::Cow<'static, [Field]>,
        /// When the record wants attention.
        due: Option<Timestamp>,
    },
    /// Removes the record; it need not be there unless the write expects it.
    Delete,
}

/// A record that must be as expected.
#[derive(Debug, Clone)]
pub struct Requirement {
    /// The collection's name.
    pub collection: std::borrow::Cow<'static, str>,
    /// The record's key.
    pub key: String,
    /// What it must be.
    pub expected: Revision,
}

impl Commit {
    /// A commit of nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends events to a stream.
    pub fn append(
        self,
        stream: StreamId,
        expected: Expected,
        events: impl IntoIterator<Item = Envelope>,
    ) -> Self {
        self.append_all(Append { stream, expected, events: events.into_iter().collect(), at: None })
    }

    /// Appends events that happened at another time than now: for imports, see [`Append::at`]. Nothing is added to
    /// them, not even the trace that is at work.
    pub fn append_at(
        self,
        stream: StreamId,
        expected: Expected,
        events: impl IntoIterator<Item = Envelope>,
        at: Timestamp,
    ) -> Self {
        self.append_all(Append { stream, expected, events: events.into_iter().collect(), at: Some(at) })
    }

    /// Appends what a decision made ready. An append of no events is left out.
    pub fn append_all(mut self, append: Append) -> Self {
        if !append.events.is_empty() {
            self.appends.push(append);
        }
        self
    }

    /// Puts a row, whatever was there.
    pub fn put<R: Row>(self, key: impl Into<String>, row: &R) -> Self {
        self.put_in(&R::collection(), key, row, Revision::Any, None)
    }

    /// Puts a row in place of one that is as expected, due at a time.
    pub fn put_expecting<R: Row>(
        self,
        key: impl Into<String>,
        row: &R,
        expected: Revision,
        due: Option<Timestamp>,
    ) -> Self {
        self.put_in(&R::collection(), key, row, expected, due)
    }

    /// Puts a value into a collection that is known only at run time.
    pub fn put_in<T: Serialize>(
        mut self,
        collection: &Collection,
        key: impl Into<String>,
        value: &T,
        expected: Revision,
        due: Option<Timestamp>,
    ) -> Self {
        let key = key.into();
        match encode(collection, value) {
            Ok((value, fields)) => {
                let kind = WriteKind::Put { value, fields, of: collection.fields.clone(), due };
                self.writes.push(Write { collection: collection.name.clone(), key, expected, kind });
            }
            Err(error) => {
                self.unwritable
                    .get_or_insert_with(|| format!("the record `{key}` of `{}`: {error}", collection.name));
            }
        }
        self
    }

    /// Deletes a row.
    pub fn delete<R: Row>(self, key: impl Into<String>, expected: Revision) -> Self {
        self.delete_in(&R::collection(), key, expected)
    }

    /// Deletes a record of a collection that is known only at run time.
    pub fn delete_in(mut self, collection: &Collection, key: impl Into<String>, expected: Revision) -> Self {
        let (collection, key) = (collection.name.clone(), key.into());
        self.writes.push(Write { collection, key, expected, kind: WriteKind::Delete });
        self
    }

    /// Requires a row to be as expected without writing it.
    pub fn require<R: Row>(mut self, key: impl Into<String>, expected: Revision) -> Self {
        let collection = R::COLLECTION.into();
        self.requirements.push(Requirement { collection, key: key.into(), expected });
        self
    }

    /// Commits only if nothing that matches `query` came behind `after`, the position up to which the decision looked
    /// ([`LogPage::through`](super::LogPage::through)). Events of this commit do not count. Each criterion names a tag.
    pub fn unless(mut self, query: EventQuery, after: Position) -> Self {
        self.conditions.push(Condition { query, after });
        self
    }

    /// Makes a collection, or gives it exactly these fields (indexing what is there).
    ///
    /// A commit that changes collections is applied by itself, between others that wait for it, and takes as long as the
    /// change does. It cannot write records of the collections that it changes.
    pub fn define(mut self, collection: Collection) -> Self {
        self.changes.push(Change::Define(collection));
        self
    }

    /// Gives the records of the collection `from` the name `to`; what `to` had is gone. As [`Commit::define`] otherwise.
    pub fn swap(mut self, from: impl Into<String>, to: impl Into<String>) -> Self {
        self.changes.push(Change::Swap { from: from.into(), to: to.into() });
        self
    }

    /// Removes a collection and its records; it need not be there. As [`Commit::define`] otherwise.
    pub fn drop_collection(mut self, name: impl Into<String>) -> Self {
        self.changes.push(Change::Drop(name.into()));
        self
    }

    /// Gives the commit an id that is remembered for `keep`: sent again within that time, after a crash of the
    /// caller or because nobody waited for the first answer, it is answered ([`Committed::repeated`]) and not done again.
    pub fn with_id(mut self, id: Uuid, keep: Duration) -> Self {
        self.id = Some((id, keep));
        self
    }

    /// Both commits as one. Of two ids the first is kept.
    pub fn and(mut self, other: Self) -> Self {
        self.appends.extend(other.appends);
        self.writes.extend(other.writes);
        self.requirements.extend(other.requirements);
        self.forgotten.extend(other.forgotten);
        self.conditions.extend(other.conditions);
        self.changes.extend(other.changes);
        self.id = self.id.or(other.id);
        self.unwritable = self.unwritable.or(other.unwritable);
        self
    }

    /// Whether there is nothing in it to apply.
    pub fn is_empty(&self) -> bool {
        self.appends.is_empty()
            && self.writes.is_empty()
            && self.requirements.is_empty()
            && self.conditions.is_empty()
            && self.changes.is_empty()
            && self.forgotten.is_empty()
    }

    /// How many events it appends.
    pub fn event_count(&self) -> usize {
        self.appends.iter().map(|append| append.events.len()).sum()
    }
}

/// The value as JSON, and the values of the collection's fields.
fn encode<T: Serialize>(collection: &Collection, value: &T) -> serde_json::Result<(Bytes, Vec<Scalar>)> {
    let json = storing(|| serde_json::to_vec(value))?;
    let fields = scalars(&collection.fields, &json);
    Ok((json.into(), fields))
}

/// What a commit did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The last position of the log when the commit was applied, its own events included.
    pub position: Position,
    /// The revision of every record that it put.
    pub revision: u64,
    /// When (when `repeated`: when it was asked for the first time).
    pub at: Timestamp,
    /// What became of each append, in the order of the commit (empty when `repeated`).
    pub appended: Vec<Appended>,
    /// The commit had happened before, and was not done again.
    pub repeated: bool,
}

/// What became of one append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The position of its first event; the others follow without a gap.
    pub first: Position,
    /// The stream's last version afterwards.
    pub version: u64,
}
