//! The engine as purlin sees it: a queue to the writer, and readers beside it.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use purlin::message::Timestamp;
use purlin::store::{
    Archived, BoxFuture, Cause, Collection, Commit, CommitError, Committed, Engine, LogFilter, LogId,
    LogPage, Position, Query, ReadError, Record, Recorded, StreamId, transfer,
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::ahead::{Begin, Next};
use crate::archive;
use crate::codec::{read_events, read_record, storable};
use crate::collection::Table;
use crate::error::{Closed, OpenError, unavailable};
use crate::options::Options;
use crate::reader::{self, Readers, Select};
use crate::shared::Shared;
use crate::thread;
use crate::writer::{Job, Outcome, Queued, weigh};

/// An open store; it closes with its last handle.
pub struct Postgres {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
    archiver: mpsc::Sender<archive::Job>,
    readers: Arc<Readers>,
    begin: Begin,
}

impl Postgres {
    /// Opens a store, or makes it.
    pub async fn open(options: Options) -> Result<Self, OpenError> {
        let (answer, answered) = oneshot::channel();
        let (schema, half_imported) = (options.name.clone(), options.half_imported);
        thread::start(options, answer)?;
        let opened = answered.await.map_err(|_| OpenError::Unreachable { source: Closed.into() })??;
        if half_imported {
            return Ok(opened);
        }
        let refused = match transfer::half_imported(&opened).await {
            Ok(None) => return Ok(opened),
            Ok(Some(source)) => OpenError::HalfImported { schema, source },
            Err(ReadError::Unavailable(source)) => OpenError::Unreachable { source },
            Err(error) => OpenError::Database { schema, source: error.into() },
        };
        opened.close().await;
        Err(refused)
    }

    pub(crate) fn new(
        shared: Arc<Shared>,
        jobs: mpsc::Sender<Job>,
        archiver: mpsc::Sender<archive::Job>,
        readers: Arc<Readers>,
        begin: Begin,
    ) -> Self {
        Self { shared, jobs, archiver, readers, begin }
    }

    /// Lets the writer change collections: few do, and are not refused when many commits wait, but wait for a place themselves.
    async fn change(&self, commit: Commit) -> Result<Committed, CommitError> {
        storable(&commit)?;
        let (bytes, since) = (weigh(&commit), Instant::now());
        let place = self.jobs.reserve().await.map_err(|_| unavailable(Closed))?;
        let (answer, answered) = oneshot::channel();
        self.shared.waits(bytes);
        place.send(Job::Commit(Queued { commit, bytes, since, answer }));
        answered.await.map_err(|_| unavailable(Closed))?
    }

    fn enqueue(&self, commit: Commit) -> Result<oneshot::Receiver<Outcome>, CommitError> {
        storable(&commit)?;
        let bytes = weigh(&commit);
        if !self.shared.admits(bytes) {
            return Err(CommitError::Overloaded);
        }
        let (answer, answered) = oneshot::channel();
        let queued = Queued { commit, bytes, since: Instant::now(), answer };
        self.jobs.try_send(Job::Commit(queued)).map_err(|error| {
            self.shared.took(bytes);
            match error {
                mpsc::error::TrySendError::Full(_) => CommitError::Overloaded,
                mpsc::error::TrySendError::Closed(_) => unavailable(Closed),
            }
        })?;
        Ok(answered)
    }

    fn known(&self, name: &str) -> Option<Arc<Table>> {
        self.shared.tables().named.get(name).cloned()
    }

    /// A part of the log, which may have been asked for before; who goes on has the next one asked for.
    async fn part_of_log(
        &self,
        after: Position,
        filter: LogFilter,
        limit: usize,
    ) -> Result<LogPage, ReadError> {
        let schema = &self.shared.schema;
        let expected = self.shared.ahead.take(after, &filter, limit);
        let goes_on = expected.is_some();
        let begun = match expected.and_then(|mut next| next.pages.pop_front()) {
            Some((_, begun)) => begun.await.ok().and_then(Result::ok),
            None => None,
        };
        let rows = match begun {
            Some(rows) => rows,
            // What failed then may be well by now.
            None => self.readers.ask_all(reader::log(schema, after, &filter, limit)).await?,
        };
        let (through, all) = (reader::through(after, limit, &rows)?, filter == LogFilter::all());
        let has_page = self.shared.head.borrow().0 >= through.0.saturating_add(limit as u64);
        if through > after && has_page {
            let mut next = Next { after: through, filter, limit, pages: VecDeque::new() };
            if goes_on {
                let begun = self.begin.page(reader::log(schema, through, &next.filter, limit));
                next.pages.extend(begun.map(|begun| (through, begun)));
            }
            self.shared.ahead.expect(next);
        }
        reader::read_page((after, through), all, &rows).await
    }

    /// The collection; another process may have made it.
    async fn table(&self, name: &str) -> Result<Arc<Table>, ReadError> {
        if let Some(table) = self.known(name) {
            return Ok(table);
        }
        self.readers.refresh(&self.shared).await?;
        self.known(name).ok_or_else(|| {
            ReadError::Invalid(format!("the collection `{name}` is not defined in this store"))
        })
    }

    /// The records of a collection. When another process has changed it meanwhile, they are asked for anew.
    async fn records(
        &self,
        name: &str,
        select: impl Fn(&Table) -> Result<Select, ReadError> + Send,
    ) -> Result<Vec<Record>, ReadError> {
        const CHANGES: usize = 5;
        for _ in 0..CHANGES {
            let table = self.table(name).await?;
            match self.readers.ask_unless_stale(select(&table)?).await? {
                Some(rows) => return rows.iter().map(read_record).collect(),
                None => self.readers.refresh(&self.shared).await?,
            }
        }
        Err(ReadError::Unavailable(
            format!("the collection `{name}` is not as the store describes it").into(),
        ))
    }
}

impl Engine for Postgres {
    fn log_id(&self) -> LogId {
        self.shared.id
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        if !commit.changes.is_empty() {
            return Box::pin(self.change(commit));
        }
        let queued = self.enqueue(commit);
        Box::pin(async move { queued?.await.map_err(|_| unavailable(Closed))? })
    }

    fn read_stream(
        &self,
        stream: StreamId,
        from: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Recorded>, ReadError>> {
        let select = reader::stream(&self.shared.schema, &stream, from, limit);
        Box::pin(async move { read_events(&self.readers.ask(select).await?).await })
    }

    fn read_stream_back(
        &self,
        stream: StreamId,
        before: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Recorded>, ReadError>> {
        let select = reader::stream_back(&self.shared.schema, &stream, before, limit);
        Box::pin(async move { read_events(&self.readers.ask(select).await?).await })
    }

    fn read_log(
        &self,
        after: Position,
        filter: LogFilter,
        limit: usize,
    ) -> BoxFuture<'_, Result<LogPage, ReadError>> {
        Box::pin(async move {
            let schema = &self.shared.schema;
            let page = match &filter.matching {
                Some(query) if query.is_by_tag() => {
                    self.readers.tagged(schema, after, (&filter, query), limit).await?
                }
                _ => self.part_of_log(after, filter, limit).await?,
            };
            // It may be known here before the writer, or the process that committed, has told.
            if page.through > after {
                self.shared.saw(page.through);
            }
            Ok(page)
        })
    }

    fn watch(&self) -> watch::Receiver<Position> {
        self.shared.head.subscribe()
    }

    fn get(&self, collection: String, key: String) -> BoxFuture<'_, Result<Option<Record>, ReadError>> {
        Box::pin(async move {
            if key.contains('\0') {
                return self.table(&collection).await.map(|_| None);
            }
            let mut found = self.records(&collection, |table| Ok(table.get(key.clone()))).await?;
            Ok(found.pop())
        })
    }

    fn get_many(
        &self,
        collection: String,
        keys: Vec<String>,
    ) -> BoxFuture<'_, Result<Vec<Option<Record>>, ReadError>> {
        Box::pin(async move {
            // No record has a key that PostgreSQL does not take.
            let storable: Vec<String> = keys.iter().filter(|key| !key.contains('\0')).cloned().collect();
            let found = self.records(&collection, |table| Ok(table.get_many(storable.clone()))).await?;
            Ok(Record::by_keys(&keys, &found))
        })
    }

    fn list(&self, collection: String, query: Query) -> BoxFuture<'_, Result<Vec<Record>, ReadError>> {
        Box::pin(async move { self.records(&collection, |table| table.list(&query)).await })
    }

    fn due(
        &self,
        collection: String,
        until: Timestamp,
        prefix: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, ReadError>> {
        let until = until.as_microsecond();
        Box::pin(async move {
            self.records(&collection, |table| Ok(table.due(until, prefix.as_deref(), limit))).await
        })
    }

    fn collections(&self) -> BoxFuture<'_, Result<Vec<Collection>, ReadError>> {
        Box::pin(async move {
            // Another process may have made some.
            self.readers.refresh(&self.shared).await?;
            let tables = self.shared.tables();
            let mut all: Vec<Collection> =
                tables.named.values().map(|table| table.definition.clone()).collect();
            all.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(all)
        })
    }

    fn define(&self, collection: Collection) -> BoxFuture<'_, Result<(), CommitError>> {
        Box::pin(async move {
            if self.known(&collection.name).is_some_and(|table| table.definition == collection) {
                return Ok(());
            }
            self.change(Commit::new().define(collection)).await.map(drop)
        })
    }

    fn archive(&self, streams: Vec<StreamId>, limit: usize) -> BoxFuture<'_, Result<Archived, CommitError>> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let job = archive::Job { streams, limit, answer };
            self.archiver.send(job).await.map_err(|_| unavailable(Closed))?;
            answered.await.map_err(|_| unavailable(Closed))?
        })
    }

    fn backup<'a>(&'a self, _to: &'a Path) -> BoxFuture<'a, Result<(), Cause>> {
        let name = self.shared.schema.name();
        let how = format!(
            "a store in PostgreSQL is copied by PostgreSQL's own means, all of it as of one instant: \
             `pg_dump --schema='\"{name}\"' --format=custom --file=FILE DATABASE`, and back by `pg_restore`; \
             the log begins a new incarnation when it is opened there"
        );
        Box::pin(std::future::ready(Err(how.into())))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            self.shared.ahead.clear();
            if self.jobs.send(Job::Close(answer)).await.is_ok() {
                let _ = answered.await;
            }
        })
    }
}
