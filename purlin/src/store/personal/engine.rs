//! The engine between the handle and the one that stores: it seals what goes in and opens what comes out.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use crate::message::{Clock, Timestamp};
use crate::store::reading::Reading;
use crate::store::{
    Archived, BoxFuture, Cause, Collection, Commit, CommitError, Committed, Engine, LogFilter, LogId,
    LogPage, Position, Query, ReadError, Record, Recorded, StreamId,
};

use super::MasterKey;
use super::keys::Keys;
use super::sealing::concerns;

/// An engine whose personal data are sealed at rest.
pub(in crate::store) struct Personalized {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) keys: Keys,
}

impl Personalized {
    pub(in crate::store) fn new(engine: Arc<dyn Engine>, master: Option<MasterKey>) -> Self {
        Self { keys: Keys::new(Arc::clone(&engine), master), engine }
    }
}

/// In full: what is new in [`Engine`] is decided here, and does not go past the sealing.
impl Engine for Personalized {
    fn log_id(&self) -> LogId {
        self.engine.log_id()
    }

    fn clock(&self) -> Clock {
        self.engine.clock()
    }

    fn watch(&self) -> watch::Receiver<Position> {
        self.engine.watch()
    }

    fn collections(&self) -> BoxFuture<'_, Result<Vec<Collection>, ReadError>> {
        self.engine.collections()
    }

    fn define(&self, collection: Collection) -> BoxFuture<'_, Result<(), CommitError>> {
        self.engine.define(collection)
    }

    /// What is sealed moves sealed.
    fn archive(&self, streams: Vec<StreamId>, limit: usize) -> BoxFuture<'_, Result<Archived, CommitError>> {
        self.engine.archive(streams, limit)
    }

    fn backup<'a>(&'a self, to: &'a Path) -> BoxFuture<'a, Result<(), Cause>> {
        self.engine.backup(to)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.engine.close()
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        if concerns(&commit) { Box::pin(self.commit_sealed(commit)) } else { self.engine.commit(commit) }
    }

    fn read_stream(
        &self,
        stream: StreamId,
        from: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Recorded>, ReadError>> {
        Box::pin(async move {
            let mut reading = Reading::forwards(&*self.engine, stream, from, limit);
            while let Some(mut page) = reading.next().await? {
                self.open_events(&mut page).await?;
                reading.add(page);
            }
            Ok(reading.finish())
        })
    }

    fn read_stream_back(
        &self,
        stream: StreamId,
        before: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Recorded>, ReadError>> {
        Box::pin(async move {
            let mut reading = Reading::backwards(&*self.engine, stream, before, limit);
            while let Some(mut page) = reading.next().await? {
                self.open_events(&mut page).await?;
                reading.add(page);
            }
            Ok(reading.finish())
        })
    }

    fn read_log(
        &self,
        after: Position,
        filter: LogFilter,
        limit: usize,
    ) -> BoxFuture<'_, Result<LogPage, ReadError>> {
        Box::pin(async move {
            let mut page = self.engine.read_log(after, filter, limit).await?;
            self.open_events(&mut page.events).await?;
            Ok(page)
        })
    }

    fn get(&self, collection: String, key: String) -> BoxFuture<'_, Result<Option<Record>, ReadError>> {
        Box::pin(async move {
            let mut record = self.engine.get(collection, key).await?;
            self.open_records(record.as_mut_slice()).await?;
            Ok(record)
        })
    }

    fn get_many(
        &self,
        collection: String,
        keys: Vec<String>,
    ) -> BoxFuture<'_, Result<Vec<Option<Record>>, ReadError>> {
        Box::pin(async move {
            let records = self.engine.get_many(collection, keys.clone()).await?;
            let mut records: Vec<Record> = records.into_iter().flatten().collect();
            self.open_records(&mut records).await?;
            Ok(Record::by_keys(&keys, &records))
        })
    }

    fn list(&self, collection: String, query: Query) -> BoxFuture<'_, Result<Vec<Record>, ReadError>> {
        Box::pin(async move {
            let mut records = self.engine.list(collection, query).await?;
            self.open_records(&mut records).await?;
            Ok(records)
        })
    }

    fn due(
        &self,
        collection: String,
        until: Timestamp,
        prefix: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, ReadError>> {
        Box::pin(async move {
            let mut records = self.engine.due(collection, until, prefix, limit).await?;
            self.open_records(&mut records).await?;
            Ok(records)
        })
    }
}
