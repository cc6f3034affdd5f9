//! The wrapper of a store's engine.

use std::path::Path;

use tokio::sync::watch;

use crate::message::{Clock, Timestamp};
use crate::store::{
    Archived, BoxFuture, Cause, Collection, Commit, CommitError, Committed, Engine, LogFilter, LogId,
    LogPage, Position, Query, ReadError, Record, Recorded, StreamId,
};

use super::CrashPoints;

/// An engine whose commits are places to crash at; all else goes straight through.
#[derive(Debug)]
pub struct Guarded<E> {
    engine: E,
    points: CrashPoints,
}

impl<E: Engine> Guarded<E> {
    pub(super) fn new(engine: E, points: CrashPoints) -> Self {
        Self { engine, points }
    }
}

impl<E: Engine> Engine for Guarded<E> {
    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(async move {
            self.points.begin();
            let committed = self.engine.commit(commit).await?;
            self.points.applied();
            Ok(committed)
        })
    }

    fn log_id(&self) -> LogId {
        self.engine.log_id()
    }

    fn clock(&self) -> Clock {
        self.engine.clock()
    }

    fn read_stream(
        &self,
        stream: StreamId,
        from: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Recorded>, ReadError>> {
        self.engine.read_stream(stream, from, limit)
    }

    fn read_stream_back(
        &self,
        stream: StreamId,
        before: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Recorded>, ReadError>> {
        self.engine.read_stream_back(stream, before, limit)
    }

    fn read_log(
        &self,
        after: Position,
        filter: LogFilter,
        limit: usize,
    ) -> BoxFuture<'_, Result<LogPage, ReadError>> {
        self.engine.read_log(after, filter, limit)
    }

    fn watch(&self) -> watch::Receiver<Position> {
        self.engine.watch()
    }

    fn get(&self, collection: String, key: String) -> BoxFuture<'_, Result<Option<Record>, ReadError>> {
        self.engine.get(collection, key)
    }

    fn list(&self, collection: String, query: Query) -> BoxFuture<'_, Result<Vec<Record>, ReadError>> {
        self.engine.list(collection, query)
    }

    fn due(
        &self,
        collection: String,
        until: Timestamp,
        prefix: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, ReadError>> {
        self.engine.due(collection, until, prefix, limit)
    }

    fn collections(&self) -> BoxFuture<'_, Result<Vec<Collection>, ReadError>> {
        self.engine.collections()
    }

    fn define(&self, collection: Collection) -> BoxFuture<'_, Result<(), CommitError>> {
        self.engine.define(collection)
    }

    fn swap(&self, from: String, to: String) -> BoxFuture<'_, Result<(), CommitError>> {
        self.engine.swap(from, to)
    }

    fn drop_collection(&self, name: String) -> BoxFuture<'_, Result<(), CommitError>> {
        self.engine.drop_collection(name)
    }

    fn archive(&self, streams: Vec<StreamId>, limit: usize) -> BoxFuture<'_, Result<Archived, CommitError>> {
        self.engine.archive(streams, limit)
    }

    fn backup<'a>(&'a self, to: &'a Path) -> BoxFuture<'a, Result<(), Cause>> {
        self.engine.backup(to)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.engine.close()
    }
}
