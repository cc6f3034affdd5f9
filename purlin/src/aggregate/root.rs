//! One aggregate: its state, its version, and what was decided but not committed yet.

use std::fmt::Display;
use std::ops::Deref;

use crate::message::{EncodeError, Envelope};
use crate::store::{Append, Expected, StreamId, StreamIdError};

use super::Aggregate;

/// An aggregate with its identity; dereferences to the state.
#[derive(Debug, Clone)]
pub struct Root<A: Aggregate> {
    id: String,
    state: A,
    version: u64,
    /// The version of the last snapshot that is known: the one that it was loaded from, or one written since.
    snapshot: u64,
    /// Whether it took long to fold what came behind it.
    slow: bool,
    uncommitted: Vec<A::Event>,
}

impl<A: Aggregate> Root<A> {
    /// One that nothing has happened to.
    pub fn new(id: impl Display) -> Self {
        Self::at(id, A::default(), 0)
    }

    /// One whose state at a version is known.
    pub(super) fn at(id: impl Display, state: A, version: u64) -> Self {
        Self { id: id.to_string(), state, version, snapshot: version, slow: false, uncommitted: Vec::new() }
    }

    /// The sum of events that happened, from the first on: all of its stream, so none of them of a retired kind.
    pub fn rebuild(id: impl Display, events: impl IntoIterator<Item = A::Event>) -> Self {
        let mut root = Self::new(id);
        for event in events {
            root.replay(&event);
        }
        root
    }

    /// Folds in an event that is committed already.
    pub(super) fn replay(&mut self, event: &A::Event) {
        self.state.apply(event);
        self.version += 1;
    }

    /// Counts an event that is committed, and means nothing any more.
    pub(super) fn pass_over(&mut self) {
        self.version += 1;
    }

    /// Folds in an event that was decided just now, to be committed.
    pub fn record(&mut self, event: A::Event) {
        self.state.apply(&event);
        self.uncommitted.push(event);
    }

    /// Its identity among its kind.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The state, uncommitted events included.
    pub fn state(&self) -> &A {
        &self.state
    }

    /// How many committed events the state stands on; 0: it does not exist yet.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// So many events are behind the last snapshot that is known, the uncommitted ones included.
    pub(super) fn behind_snapshot(&self) -> u64 {
        self.version + self.uncommitted.len() as u64 - self.snapshot
    }

    /// Whether it took long to fold what is behind the last snapshot.
    pub(super) fn is_slow(&self) -> bool {
        self.slow
    }

    pub(super) fn took_long(&mut self, slow: bool) {
        self.slow = slow;
    }

    /// Whether anything has been committed.
    pub fn exists(&self) -> bool {
        self.version > 0
    }

    /// What was decided and not committed.
    pub fn uncommitted(&self) -> &[A::Event] {
        &self.uncommitted
    }

    /// The stream that holds its events.
    pub fn stream(&self) -> Result<StreamId, StreamIdError> {
        StreamId::new(A::CATEGORY, &self.id)
    }

    /// The append that commits what was decided, at the version it was decided on.
    pub(super) fn append(&self, stream: StreamId) -> Result<Append, EncodeError> {
        let envelope = |event: &A::Event| {
            Envelope::new(A::KIND, event).map(|envelope| Envelope { public: A::is_public(event), ..envelope })
        };
        let events = self.uncommitted.iter().map(envelope).collect::<Result<_, _>>()?;
        Ok(Append { stream, expected: Expected::Version(self.version), events, at: None })
    }

    /// After the append was committed, and perhaps a snapshot with it.
    pub(super) fn committed(&mut self, with_snapshot: bool) {
        self.version += self.uncommitted.len() as u64;
        self.uncommitted.clear();
        if with_snapshot {
            self.snapshot_written();
        }
    }

    /// After a snapshot of the version was written.
    pub(super) fn snapshot_written(&mut self) {
        (self.snapshot, self.slow) = (self.version, false);
    }
}

impl<A: Aggregate> Deref for Root<A> {
    type Target = A;

    fn deref(&self) -> &A {
        &self.state
    }
}

/// What a decision may answer with: one event, several, or none.
pub trait IntoEvents<E> {
    /// The events, in order.
    fn into_events(self) -> Vec<E>;
}

impl<E> IntoEvents<E> for E {
    fn into_events(self) -> Vec<E> {
        vec![self]
    }
}

impl<E> IntoEvents<E> for Vec<E> {
    fn into_events(self) -> Vec<E> {
        self
    }
}

impl<E> IntoEvents<E> for Option<E> {
    fn into_events(self) -> Vec<E> {
        self.into_iter().collect()
    }
}

impl<E, const N: usize> IntoEvents<E> for [E; N] {
    fn into_events(self) -> Vec<E> {
        self.into()
    }
}
