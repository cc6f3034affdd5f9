//! A store whose log is not what was written.

use std::path::Path;
use std::sync::{Arc, Mutex};

use purlin::message::{Clock, Timestamp};
use purlin::store::memory::Memory;
use purlin::store::{
    Archived, BoxFuture, Cause, Collection, Commit, CommitError, Committed, Engine, LogFilter, LogId,
    LogPage, Position, Query, ReadError, Record, Recorded, Store, StreamId,
};
use tokio::sync::watch;

/// What is made of the events that the log, or a stream, really has.
type Damage = Box<dyn FnMut(Vec<Recorded>) -> Vec<Recorded> + Send>;

/// A store in memory whose readers see something else.
#[derive(Clone)]
pub(crate) struct Damaged {
    engine: Memory,
    log: Arc<Mutex<Damage>>,
    stream: Arc<Mutex<Damage>>,
    unreadable: Arc<Mutex<Vec<u64>>>,
}

impl Damaged {
    pub(crate) fn new() -> Self {
        let right = || Arc::new(Mutex::new(Box::new(|events| events) as Damage));
        Self { engine: Memory::new(), log: right(), stream: right(), unreadable: Arc::default() }
    }

    pub(crate) fn store(&self) -> Store {
        Store::new(self.clone())
    }

    /// From now on the log is read so.
    pub(crate) fn log(&self, damage: impl FnMut(Vec<Recorded>) -> Vec<Recorded> + Send + 'static) {
        *self.log.lock().unwrap() = Box::new(damage);
    }

    /// From now on streams are read so.
    pub(crate) fn stream(&self, damage: impl FnMut(Vec<Recorded>) -> Vec<Recorded> + Send + 'static) {
        *self.stream.lock().unwrap() = Box::new(damage);
    }

    /// The event at this position cannot be read.
    pub(crate) fn unreadable(&self, position: u64) {
        self.unreadable.lock().unwrap().push(position);
    }

    fn look(&self, events: &[Recorded]) -> Result<(), ReadError> {
        let unreadable = self.unreadable.lock().unwrap();
        match events.iter().find(|event| unreadable.contains(&event.position.0)) {
            Some(event) => Err(ReadError::Unreadable {
                what: format!("the event at {}", event.position),
                source: "the checksum is wrong".into(),
            }),
            None => Ok(()),
        }
    }
}

impl Engine for Damaged {
    fn log_id(&self) -> LogId {
        self.engine.log_id()
    }

    fn clock(&self) -> Clock {
        self.engine.clock()
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        self.engine.commit(commit)
    }

    fn read_stream(
        &self,
        stream: StreamId,
        from: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Recorded>, ReadError>> {
        Box::pin(async move {
            let events = self.engine.read_stream(stream, from, limit).await?;
            self.look(&events)?;
            Ok((self.stream.lock().unwrap())(events))
        })
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
        Box::pin(async move {
            let mut page = self.engine.read_log(after, filter, limit).await?;
            self.look(&page.events)?;
            page.events = (self.log.lock().unwrap())(page.events);
            Ok(page)
        })
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
