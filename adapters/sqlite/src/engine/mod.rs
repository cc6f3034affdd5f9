//! The engine as purlin sees it: a queue to the writer, and readers beside it.

#[cfg(test)]
mod held;
mod options;
mod read;
mod shared;

use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot, watch};

use purlin::message::{Clock, Timestamp};
use purlin::store::{
    Archived, BoxFuture, Cause, Collection, Commit, CommitError, Committed, Engine, LogFilter, LogId,
    LogPage, Position, Query, ReadError, Record, Recorded, StreamId, transfer,
};

use crate::ahead::{Ahead, Next};
use crate::archive::{self, Archive};
use crate::collection::Table;
use crate::copy::{on_a_thread, write_copy};
use crate::damage::Damage;
use crate::error::{Closed, OpenError, unavailable};
use crate::files;
use crate::index::Keys;
use crate::lock::Lock;
use crate::part::Most;
use crate::reader::{Reader, Readers};
use crate::schema::{self, SchemaError};
use crate::synchronous::Synchronous;
use crate::writer::{Answer, Closing, Job, Queued, Ready, Writer};

pub use options::Options;
pub(crate) use shared::Shared;

/// An open store.
///
/// It closes with its last handle, but not at once: what was taken is finished first, by threads that nobody waits
/// for. [`Engine::close`] waits until the file can be opened again.
pub struct Sqlite {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
    readers: Readers,
    pub(crate) ahead: Ahead,
    writer: Mutex<Option<JoinHandle<()>>>,
    clock: Clock,
    /// How many positions are looked through for wanted events at once.
    window: u64,
    synchronous: Synchronous,
    /// Whose turn it is to move events to the archive; true when nobody is to any more.
    archivings: Arc<tokio::sync::Mutex<bool>>,
    /// Whose turn it is to write a backup; true when there is to be none any more.
    backups: Arc<tokio::sync::Mutex<bool>>,
}

impl Sqlite {
    /// Opens a store, or makes it.
    pub async fn open(options: Options) -> Result<Self, OpenError> {
        let file = options.file.clone();
        let half_imported = options.half_imported;
        // Opening waits for the disk; no runtime thread should.
        let opened = on_a_thread("sqlite-open", move || Self::open_now(&options)).await;
        let opened = opened
            .map_err(|source| OpenError::File { file: file.clone(), source })?
            .unwrap_or_else(|| Err(OpenError::Database { file: file.clone(), source: Closed.into() }))?;
        if half_imported {
            return Ok(opened);
        }
        let refused = match transfer::half_imported(&opened).await {
            Ok(None) => return Ok(opened),
            Ok(Some(source)) => OpenError::HalfImported { file, source },
            Err(error) => OpenError::Database { file, source: error.into() },
        };
        opened.close().await;
        Err(refused)
    }

    fn open_now(options: &Options) -> Result<Self, OpenError> {
        let file = &options.file;
        let failed = |(file, source)| OpenError::of_io(file, source);
        files::make_folder(file).map_err(failed)?;
        let lock = Lock::take(file)?;
        let refused = |error: rusqlite::Error| SchemaError::from(error).of(file);
        schema::look(file).map_err(|error| error.of(file))?;
        files::make_private(file).map_err(|source| failed((file.clone(), source)))?;
        let opened = schema::open_writer(file, options.synchronous);
        let mut connection = opened.map_err(|error| error.of(file))?;
        let (id, older) = schema::prepare(&mut connection, options.log).map_err(|error| error.of(file))?;
        let secret = schema::secret(&connection).map_err(|error| error.of(file))?;
        if options.synchronous == Synchronous::Full {
            // SQLite does not mind when it fails to make the name of its log durable, and never tries again.
            files::sync_folder(file).map_err(|source| failed((file.clone(), source)))?;
        }
        let archive = Archive::find(&connection, id, options.archive.as_deref(), file);
        let archive = Arc::new(archive.map_err(|error| error.of(file))?);
        let settled = archive::settle(&archive, options.synchronous);
        if settled.map_err(|error| error.into_open_error(file))? && options.archive.is_some() {
            let place = archive.remembered(file);
            schema::remember_archive(&connection, place, archive.is_made()).map_err(refused)?;
        }
        let (head, _) = watch::channel(Position::START);
        let shared = Arc::new(Shared {
            id,
            older,
            keys: Keys::new(secret),
            file: file.clone(),
            archive: Arc::clone(&archive),
            index: RwLock::default(),
            tables: RwLock::default(),
            head,
            damage: OnceLock::new(),
            queued: AtomicUsize::new(0),
            queue_bytes: options.queue_bytes,
        });
        let (jobs, queue) = mpsc::channel(options.queue.max(1));
        let writer = Writer::open(connection, Arc::clone(&shared), lock, queue, options).map_err(refused)?;
        let readers = Readers::start(file, &archive, options.readers.max(1)).map_err(refused)?;
        let tables = shared.tables.read().expect("no panic holds the tables").clone();
        let damage = schema::open_reader(file).and_then(|reader| Damage::look(&reader, &tables));
        let damage = damage.map_err(refused)?;
        shared.damage.get_or_init(|| damage);
        let writer = std::thread::Builder::new()
            .name("sqlite-writer".into())
            .spawn(move || writer.serve())
            .map_err(|source| OpenError::File { file: file.clone(), source })?;
        Ok(Self {
            shared,
            jobs,
            readers,
            ahead: Ahead::default(),
            writer: Mutex::new(Some(writer)),
            clock: options.clock.clone(),
            window: options.window.max(1),
            synchronous: options.synchronous,
            archivings: Arc::default(),
            backups: Arc::default(),
        })
    }

    /// Lets the writer change collections: few do, and are not refused when many commits wait, but wait for a place themselves.
    async fn change(&self, commit: Commit) -> Result<Committed, CommitError> {
        self.shared.damage().admits_writes()?;
        let ready = Ready::of(commit, &self.shared.keys);
        let place = self.jobs.reserve().await.map_err(|_| unavailable(Closed))?;
        let (answer, answered) = oneshot::channel();
        self.shared.waits(ready.bytes);
        place.send(Job::Commit(Queued { ready, answer }));
        answered.await.map_err(|_| unavailable(Closed))?.outcome
    }

    fn table(&self, name: &str) -> Result<Arc<Table>, ReadError> {
        let tables = self.shared.tables.read().expect("no panic holds the tables");
        let table = tables.get(name).cloned();
        table.ok_or_else(|| {
            ReadError::Invalid(format!("the collection `{name}` is not defined in this store"))
        })
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        self.readers.stop();
    }
}

impl Engine for Sqlite {
    fn log_id(&self) -> LogId {
        self.shared.id
    }

    fn clock(&self) -> Clock {
        self.clock.clone()
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        if !commit.changes.is_empty() {
            return Box::pin(self.change(commit));
        }
        let (answer, answered) = oneshot::channel();
        // The caller's thread makes ready what it can: the writer's time is everybody's.
        let ready = Ready::of(commit, &self.shared.keys);
        let bytes = ready.bytes;
        let queued = if let Err(refused) = self.shared.damage().admits_writes() {
            Err(refused)
        } else if self.jobs.is_closed() {
            Err(unavailable(Closed))
        } else if self.shared.admits(bytes) {
            let sent = self.jobs.try_send(Job::Commit(Queued { ready, answer }));
            sent.map_err(|error| {
                self.shared.took(bytes);
                match error {
                    mpsc::error::TrySendError::Full(_) => CommitError::Overloaded,
                    mpsc::error::TrySendError::Closed(_) => unavailable(Closed),
                }
            })
        } else {
            Err(CommitError::Overloaded)
        };
        Box::pin(async move {
            queued?;
            // What was sent comes back, so that the thread which made it frees it.
            let Answer { outcome, .. } = answered.await.map_err(|_| unavailable(Closed))?;
            outcome
        })
    }

    fn read_stream(
        &self,
        stream: StreamId,
        from: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Recorded>, ReadError>> {
        let versions = from..from.saturating_add(limit as u64);
        Box::pin(self.part_of_stream(stream, move |_, _, _| Ok(versions), false))
    }

    fn read_stream_back(
        &self,
        stream: StreamId,
        before: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Recorded>, ReadError>> {
        let versions = move |shared: &Shared, reader: &Reader, stream: &StreamId| {
            let to = before.min(shared.last_version(&reader.hot, stream)? + 1);
            Ok(to.saturating_sub(limit as u64).max(1)..to)
        };
        Box::pin(self.part_of_stream(stream, versions, true))
    }

    fn read_log(
        &self,
        after: Position,
        filter: LogFilter,
        limit: usize,
    ) -> BoxFuture<'_, Result<LogPage, ReadError>> {
        Box::pin(async move {
            let expected = self.ahead.take(after, &filter, limit);
            let goes_on = expected.is_some();
            let mut pages = expected.map(|next| next.pages).unwrap_or_default();
            let begun = match pages.pop_front() {
                Some((_, begun)) => self.readers.finish(begun).await,
                None => None,
            };
            let part = match begun {
                Some(Ok(part)) => part,
                // What failed then may be well by now.
                Some(Err(_)) | None => {
                    self.readers.read(self.part_of_log(after, filter.clone(), Most::page(limit))).await?
                }
            };
            let through = part.through;
            if through > after && self.has_page(through, limit) {
                let mut next = Next { after: through, filter, limit, pages };
                if goes_on {
                    self.read_ahead(part.bytes, through.0 - after.0, &mut next);
                }
                self.ahead.expect(next);
            }
            // Here, on the thread of who asked, while the next ones are read.
            part.page().await
        })
    }

    fn watch(&self) -> watch::Receiver<Position> {
        self.shared.head.subscribe()
    }

    fn get(&self, collection: String, key: String) -> BoxFuture<'_, Result<Option<Record>, ReadError>> {
        Box::pin(async move {
            let table = self.table(&collection)?;
            let found = self.readers.read(move |reader| table.get(&reader.hot, &key)).await?;
            if found.is_none() {
                self.shared.damage().knows_all_of(&collection)?;
            }
            Ok(found)
        })
    }

    fn get_many(
        &self,
        collection: String,
        keys: Vec<String>,
    ) -> BoxFuture<'_, Result<Vec<Option<Record>>, ReadError>> {
        Box::pin(async move {
            let table = self.table(&collection)?;
            let read =
                move |reader: &mut Reader| keys.iter().map(|key| table.get(&reader.hot, key)).collect();
            let found: Vec<Option<Record>> = self.readers.read(read).await?;
            if found.iter().any(Option::is_none) {
                self.shared.damage().knows_all_of(&collection)?;
            }
            Ok(found)
        })
    }

    fn list(&self, collection: String, query: Query) -> BoxFuture<'_, Result<Vec<Record>, ReadError>> {
        Box::pin(async move {
            let table = self.table(&collection)?;
            self.shared.damage().knows_all_of(&collection)?;
            self.readers.read(move |reader| table.list(&reader.hot, &query)).await
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
            let table = self.table(&collection)?;
            self.shared.damage().knows_all_of(&collection)?;
            self.readers.read(move |reader| table.due(&reader.hot, until, prefix, limit)).await
        })
    }

    fn collections(&self) -> BoxFuture<'_, Result<Vec<Collection>, ReadError>> {
        let tables = self.shared.tables.read().expect("no panic holds the tables");
        let mut all: Vec<Collection> = tables.values().map(|table| table.definition.clone()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Box::pin(std::future::ready(Ok(all)))
    }

    fn define(&self, collection: Collection) -> BoxFuture<'_, Result<(), CommitError>> {
        Box::pin(async move {
            if self.table(&collection.name).is_ok_and(|table| table.definition == collection) {
                return Ok(());
            }
            self.change(Commit::new().define(collection)).await.map(drop)
        })
    }

    fn archive(&self, streams: Vec<StreamId>, limit: usize) -> BoxFuture<'_, Result<Archived, CommitError>> {
        Box::pin(async move {
            self.shared.damage().admits_writes()?;
            // One at a time, and beside all others: nobody else waits for it.
            let turn = Arc::clone(&self.archivings).lock_owned().await;
            if *turn {
                return Err(unavailable(Closed));
            }
            let (shared, jobs, synchronous) = (Arc::clone(&self.shared), self.jobs.clone(), self.synchronous);
            let archive = move || {
                let archived = archive::move_events(&shared, &jobs, synchronous, streams, limit);
                drop(turn);
                archived
            };
            on_a_thread("sqlite-archive", archive)
                .await
                .map_err(unavailable)?
                .unwrap_or_else(|| Err(unavailable(Closed)))
        })
    }

    fn backup<'a>(&'a self, to: &'a Path) -> BoxFuture<'a, Result<(), Cause>> {
        let to = to.to_owned();
        Box::pin(async move {
            // One at a time, and beside the readers: nobody else waits for it.
            let turn = Arc::clone(&self.backups).lock_owned().await;
            if *turn {
                return Err(Closed.into());
            }
            // Nor while events move: a long read would keep the archive from taking them.
            let moving = Arc::clone(&self.archivings).lock_owned().await;
            let file = self.shared.file.clone();
            let copy = move || {
                let copied = write_copy(&file, &to);
                drop((turn, moving));
                copied
            };
            on_a_thread("sqlite-backup", copy).await?.unwrap_or_else(|| Err(Closed.into()))
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            *self.backups.lock().await = true;
            *self.archivings.lock().await = true;
            self.ahead.clear();
            // The readers first: who closes the file last tidies up behind all.
            self.readers.close().await;
            let (answer, answered) = oneshot::channel();
            let asked = self.jobs.send(Job::Close(answer)).await.is_ok();
            let is_unwell = asked && matches!(answered.await, Ok(Closing::Unwell));
            // Of an unwell one nobody waits for the thread, whoever closes the store again.
            let writer = self.writer.lock().expect("no panic holds the writer").take();
            let Some(writer) = writer.filter(|_| !is_unwell) else { return };
            // It has nothing left to do, and is about to end.
            let _ = writer.join();
            let (archive, synchronous) = (Arc::clone(&self.shared.archive), self.synchronous);
            let _ = on_a_thread("sqlite-close", move || archive::tidy(&archive, synchronous)).await;
        })
    }
}
