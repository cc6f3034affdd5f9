//! What stands around an engine and lets most things through.

use std::path::Path;

use tokio::sync::watch;

use crate::message::{Clock, Timestamp};

use super::{
    Archived, BoxFuture, Cause, Collection, Commit, CommitError, Committed, Engine, LogFilter, LogId,
    LogPage, Position, Query, ReadError, Record, Recorded, StreamId,
};

/// An engine around another: what it does not say otherwise goes straight through.
///
/// It is an [`Engine`] itself, so that layers stand around layers. What keeps something from somebody (a tenant from
/// another, a reader from what is sealed) is no layer but an [`Engine`] in full: what it does not name must not go through.
pub trait Layer: Send + Sync + 'static {
    /// The engine within.
    fn inner(&self) -> &dyn Engine;

    /// As [`Engine::log_id`].
    fn log_id(&self) -> LogId {
        self.inner().log_id()
    }

    /// As [`Engine::clock`].
    fn clock(&self) -> Clock {
        self.inner().clock()
    }

    /// As [`Engine::commit`].
    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        self.inner().commit(commit)
    }

    /// As [`Engine::read_stream`].
    fn read_stream(
        &self,
        stream: StreamId,
        from: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Recorded>, ReadError>> {
        self.inner().read_stream(stream, from, limit)
    }

    /// As [`Engine::read_stream_back`].
    fn read_stream_back(
        &self,
        stream: StreamId,
        before: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Recorded>, ReadError>> {
        self.inner().read_stream_back(stream, before, limit)
    }

    /// As [`Engine::read_log`].
    fn read_log(
        &self,
        after: Position,
        filter: LogFilter,
        limit: usize,
    ) -> BoxFuture<'_, Result<LogPage, ReadError>> {
        self.inner().read_log(after, filter, limit)
    }

    /// As [`Engine::watch`].
    fn watch(&self) -> watch::Receiver<Position> {
        self.inner().watch()
    }

    /// As [`Engine::get`].
    fn get(&self, collection: String, key: String) -> BoxFuture<'_, Result<Option<Record>, ReadError>> {
        self.inner().get(collection, key)
    }

    /// As [`Engine::get_many`].
    fn get_many(
        &self,
        collection: String,
        keys: Vec<String>,
    ) -> BoxFuture<'_, Result<Vec<Option<Record>>, ReadError>> {
        self.inner().get_many(collection, keys)
    }

    /// As [`Engine::list`].
    fn list(&self, collection: String, query: Query) -> BoxFuture<'_, Result<Vec<Record>, ReadError>> {
        self.inner().list(collection, query)
    }

    /// As [`Engine::due`].
    fn due(
        &self,
        collection: String,
        until: Timestamp,
        prefix: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, ReadError>> {
        self.inner().due(collection, until, prefix, limit)
    }

    /// As [`Engine::collections`].
    fn collections(&self) -> BoxFuture<'_, Result<Vec<Collection>, ReadError>> {
        self.inner().collections()
    }

    /// As [`Engine::define`].
    fn define(&self, collection: Collection) -> BoxFuture<'_, Result<(), CommitError>> {
        self.inner().define(collection)
    }

    /// As [`Engine::archive`].
    fn archive(&self, streams: Vec<StreamId>, limit: usize) -> BoxFuture<'_, Result<Archived, CommitError>> {
        self.inner().archive(streams, limit)
    }

    /// As [`Engine::backup`].
    fn backup<'a>(&'a self, to: &'a Path) -> BoxFuture<'a, Result<(), Cause>> {
        self.inner().backup(to)
    }

    /// As [`Engine::close`].
    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner().close()
    }
}

impl<L: Layer> Engine for L {
    fn log_id(&self) -> LogId {
        Layer::log_id(self)
    }

    fn clock(&self) -> Clock {
        Layer::clock(self)
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Layer::commit(self, commit)
    }

    fn read_stream(
        &self,
        stream: StreamId,
        from: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Recorded>, ReadError>> {
        Layer::read_stream(self, stream, from, limit)
    }

    fn read_stream_back(
        &self,
        stream: StreamId,
        before: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Recorded>, ReadError>> {
        Layer::read_stream_back(self, stream, before, limit)
    }

    fn read_log(
        &self,
        after: Position,
        filter: LogFilter,
        limit: usize,
    ) -> BoxFuture<'_, Result<LogPage, ReadError>> {
        Layer::read_log(self, after, filter, limit)
    }

    fn watch(&self) -> watch::Receiver<Position> {
        Layer::watch(self)
    }

    fn get(&self, collection: String, key: String) -> BoxFuture<'_, Result<Option<Record>, ReadError>> {
        Layer::get(self, collection, key)
    }

    fn get_many(
        &self,
        collection: String,
        keys: Vec<String>,
    ) -> BoxFuture<'_, Result<Vec<Option<Record>>, ReadError>> {
        Layer::get_many(self, collection, keys)
    }

    fn list(&self, collection: String, query: Query) -> BoxFuture<'_, Result<Vec<Record>, ReadError>> {
        Layer::list(self, collection, query)
    }

    fn due(
        &self,
        collection: String,
        until: Timestamp,
        prefix: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, ReadError>> {
        Layer::due(self, collection, until, prefix, limit)
    }

    fn collections(&self) -> BoxFuture<'_, Result<Vec<Collection>, ReadError>> {
        Layer::collections(self)
    }

    fn define(&self, collection: Collection) -> BoxFuture<'_, Result<(), CommitError>> {
        Layer::define(self, collection)
    }

    fn archive(&self, streams: Vec<StreamId>, limit: usize) -> BoxFuture<'_, Result<Archived, CommitError>> {
        Layer::archive(self, streams, limit)
    }

    fn backup<'a>(&'a self, to: &'a Path) -> BoxFuture<'a, Result<(), Cause>> {
        Layer::backup(self, to)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Layer::close(self)
    }
}
