//! What an adapter implements; users meet only [`Store`](super::Store).

use std::path::Path;
use std::pin::Pin;

use tokio::sync::watch;

use crate::message::{Clock, Timestamp};

use super::{
    Archived, Cause, Collection, Commit, CommitError, Committed, LogFilter, LogId, LogPage, Position, Query,
    ReadError, Record, Recorded, StreamId,
};

/// A future behind a pointer.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A store engine. It is right when it passes [`testing::store_conformance`](crate::testing).
///
/// The handle has checked limits and names before it calls an engine.
pub trait Engine: Send + Sync + 'static {
    /// Which log this is.
    fn log_id(&self) -> LogId;

    /// The clock that tells when a commit happens.
    fn clock(&self) -> Clock {
        Clock::system()
    }

    /// Applies a commit wholly and durably, or not at all. When the answer is an error, nothing was applied: after
    /// any failure the engine finds out by itself.
    ///
    /// What the commit changes of collections is part of it. The handle has seen to it that no name stands in two changes,
    /// nor in a change and a record.
    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>>;

    /// At most `limit` events of a stream, from a version on; empty when there are none. Fewer than there are only
    /// once their data reach [`Limits::PAGE`](super::Limits::PAGE) bytes.
    fn read_stream(
        &self,
        stream: StreamId,
        from: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Recorded>, ReadError>>;

    /// At most `limit` events of a stream whose versions are before one, the newest first. As
    /// [`Engine::read_stream`] otherwise.
    fn read_stream_back(
        &self,
        stream: StreamId,
        before: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Recorded>, ReadError>>;

    /// At most `limit` wanted events behind a position, in order. No later read ever finds an event at or before
    /// [`LogPage::through`] that this one did not see.
    ///
    /// An engine may look through as many positions, or bytes, at once as suits it: a page may be short, or even
    /// empty, before the end of the log, but its `through` is then behind `after`. Who wants all reads on until
    /// `through` has come to the head.
    fn read_log(
        &self,
        after: Position,
        filter: LogFilter,
        limit: usize,
    ) -> BoxFuture<'_, Result<LogPage, ReadError>>;

    /// The position of the last committed event. The channel is marked as changed by every commit, also by one
    /// that appends nothing.
    fn watch(&self) -> watch::Receiver<Position>;

    /// The record of a key.
    fn get(&self, collection: String, key: String) -> BoxFuture<'_, Result<Option<Record>, ReadError>>;

    /// The records of keys, in the order of the keys.
    fn get_many(
        &self,
        collection: String,
        keys: Vec<String>,
    ) -> BoxFuture<'_, Result<Vec<Option<Record>>, ReadError>>;

    /// The records that a query asks for, one more than its limit if there are more. What
    /// [`Collection::check`] refuses is refused whatever records there are.
    fn list(&self, collection: String, query: Query) -> BoxFuture<'_, Result<Vec<Record>, ReadError>>;

    /// At most `limit` records that are due at or before a time and whose keys begin with `prefix`, the longest due
    /// first.
    fn due(
        &self,
        collection: String,
        until: Timestamp,
        prefix: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, ReadError>>;

    /// The collections that there are, sorted by name.
    fn collections(&self) -> BoxFuture<'_, Result<Vec<Collection>, ReadError>>;

    /// A commit of nothing but [`Change::Define`](super::Change::Define); where the collection is known to be so, there is
    /// nothing to do, and no place in a queue to wait for.
    fn define(&self, collection: Collection) -> BoxFuture<'_, Result<(), CommitError>>;

    /// Moves events of these streams to where the store keeps what is seldom read: all but the last event of each, at
    /// most `limit` events. Reads find them as before.
    ///
    /// What was moved is durable in its new place before it leaves the old one. What an earlier call moved, or began to
    /// move, is not counted again; a stream that there is not has nothing to move.
    fn archive(&self, streams: Vec<StreamId>, limit: usize) -> BoxFuture<'_, Result<Archived, CommitError>>;

    /// Writes a copy of the whole store, as of one instant, to a new file.
    fn backup<'a>(&'a self, to: &'a Path) -> BoxFuture<'a, Result<(), Cause>>;

    /// Finishes what was taken and stops; later commits are refused as unavailable.
    fn close(&self) -> BoxFuture<'_, ()>;
}
