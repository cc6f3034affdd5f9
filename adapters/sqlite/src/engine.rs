//! The engine as purlin sees it: a queue to the writer, and readers beside it.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot, watch};

use purlin::message::{Clock, Timestamp};
use purlin::store::{
    Archived, BoxFuture, Cause, Collection, Commit, CommitError, Committed, Engine, LogFilter, LogId,
    LogPage, Position, Query, ReadError, Record, Recorded, StreamId, transfer,
};
use rusqlite::Connection;

use crate::ahead::{Ahead, FEW_BYTES, Next, PAGES};
use crate::archive::{self, Archive};
use crate::collection::Table;
use crate::copy::{on_a_thread, write_copy};
use crate::damage::Damage;
use crate::error::{Closed, OpenError, is_damage, unavailable, unreadable_as};
use crate::files;
use crate::index::{Index, Keys};
use crate::lock::Lock;
use crate::log::{self, Unread};
use crate::older::Older;
use crate::part::Part;
use crate::reader::{Reader, Readers};
use crate::schema::{self, SchemaError};
use crate::synchronous::Synchronous;
use crate::writer::{Answer, Closing, Job, Queued, Ready, Writer};

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// The file; its folder is made when it is not there.
    pub file: PathBuf,
    /// Commits that may wait for the writer; one more is answered with `Overloaded`.
    pub queue: usize,
    /// Bytes of commits that may wait for the writer; more are answered with `Overloaded`.
    pub queue_bytes: usize,
    /// Threads that read.
    pub readers: usize,
    /// Streams whose last version the writer keeps in mind; never fewer than fit into two of its transactions, 16,384.
    pub heads: usize,
    /// Events whose places are kept in memory before they become a run of the stream index.
    pub run: usize,
    /// Positions of the log that one read looks through for the events that it wants.
    pub window: u64,
    /// What a commit waits for.
    pub synchronous: Synchronous,
    /// Tells when a commit happens.
    pub clock: Clock,
    /// Where the archive is, for what [`Engine::archive`] moves; none: where it was last, and beside the store, as
    /// `<file>.archive`, if there was none. What is said here is remembered as soon as the archive was found there, or if
    /// nothing was archived yet. An archive is carried to another place while the store is closed. It must be on a local
    /// disk, in a folder that can be written to even for reading: SQLite keeps its log beside it, which no network file
    /// system shares.
    pub archive: Option<PathBuf>,
    /// Which log a store that is made anew is to go on as (for imports); a new one when none is said.
    pub log: Option<LogId>,
    /// Opens a store into which an import was cut off, too: for that import to go on, and to look at what came. It is
    /// refused otherwise, because it has half of a log.
    pub half_imported: bool,
}

impl Options {
    /// The defaults for a file.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self {
            file: file.into(),
            queue: 16 * 1024,
            queue_bytes: 64 << 20,
            readers: 2,
            heads: 256 * 1024,
            run: 50_000,
            window: 50_000,
            synchronous: Synchronous::Full,
            clock: Clock::system(),
            archive: None,
            log: None,
            half_imported: false,
        }
    }
}

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

/// What the writer, the readers and those who commit know of each other.
pub(crate) struct Shared {
    pub(crate) id: LogId,
    pub(crate) older: Older,
    pub(crate) keys: Keys,
    pub(crate) file: PathBuf,
    pub(crate) archive: Arc<Archive>,
    pub(crate) index: RwLock<Index>,
    pub(crate) tables: RwLock<HashMap<String, Arc<Table>>>,
    pub(crate) head: watch::Sender<Position>,
    damage: OnceLock<Damage>,
    /// Bytes of the commits that wait.
    queued: AtomicUsize,
    queue_bytes: usize,
}

impl Shared {
    /// What was found when the file was opened.
    pub(crate) fn damage(&self) -> &Damage {
        self.damage.get_or_init(Damage::default)
    }

    /// The last version of a stream. What only the runs know is on the disk: nobody waits for that.
    pub(crate) fn last_version(&self, connection: &Connection, stream: &StreamId) -> rusqlite::Result<u64> {
        let index = self.index.read().expect("no panic holds the index");
        let key = self.keys.of(stream.as_str());
        if let Some(version) = index.tail.last_version(key) {
            return Ok(version);
        }
        let runs = Index::of(index.runs.clone());
        drop(index);
        Ok(runs.head(connection, key)?.version)
    }

    /// Whether so many bytes more may wait; then they count.
    fn admits(&self, bytes: usize) -> bool {
        let before = self.queued.fetch_add(bytes, Ordering::Relaxed);
        // One commit may always wait, however large.
        let admitted = before == 0 || before + bytes <= self.queue_bytes;
        if !admitted {
            self.took(bytes);
        }
        admitted
    }

    /// So many bytes wait no longer.
    pub(crate) fn took(&self, bytes: usize) {
        self.queued.fetch_sub(bytes, Ordering::Relaxed);
    }
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
        drop(files::open_private(file).map_err(|source| failed((file.clone(), source)))?);
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

    /// Lets the writer change the collections; waits for a place in its queue.
    async fn change(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<(), CommitError>>) -> Job,
    ) -> Result<(), CommitError> {
        self.shared.damage().admits_writes()?;
        let (answer, answered) = oneshot::channel();
        self.jobs.send(job(answer)).await.map_err(|_| unavailable(Closed))?;
        answered.await.map_err(|_| unavailable(Closed))?
    }

    fn table(&self, name: &str) -> Result<Arc<Table>, ReadError> {
        let tables = self.shared.tables.read().expect("no panic holds the tables");
        let table = tables.get(name).cloned();
        table.ok_or_else(|| {
            ReadError::Invalid(format!("the collection `{name}` is not defined in this store"))
        })
    }
}

impl Sqlite {
    /// A page of the log.
    fn part_of_log(
        &self,
        after: Position,
        filter: LogFilter,
        limit: usize,
    ) -> impl FnOnce(&mut Reader) -> Result<Part, ReadError> + Send + use<> {
        // What is committed and not yet made known is left for the next read.
        let head = *self.shared.head.borrow();
        let until = Position(head.0.min(after.0.saturating_add(self.window)));
        let older = self.shared.older;
        move |reader| match &filter.matching {
            Some(query) if query.is_by_tag() => {
                log::read_tagged(reader, (after, head), (&filter, query), limit, older).map(Part::from)
            }
            _ => log::read(reader, (after, until), &filter, limit, older),
        }
    }

    /// Begins what is expected behind a page that was just read, which had so many bytes and `step` positions: the next
    /// page, and some behind that, if this one had all events that it could have.
    fn read_ahead(&self, bytes: usize, step: u64, expected: &mut Next) {
        let Next { after, filter, limit, pages } = expected;
        if pages.front().is_some_and(|(begun, _)| *begun != *after) {
            pages.clear();
        }
        let was_whole = *filter == LogFilter::all() && step == self.window.min(*limit as u64);
        let count = if was_whole && bytes <= FEW_BYTES { PAGES } else { 1 };
        while pages.len() < count {
            let next = pages.back().map_or(*after, |(last, _)| Position(last.0 + step));
            if !self.has_page(next, *limit) {
                break;
            }
            let Some(begun) = self.readers.begin(self.part_of_log(next, filter.clone(), *limit)) else {
                break;
            };
            pages.push_back((next, begun));
        }
    }

    /// Whether the log has so many events behind a position.
    fn has_page(&self, after: Position, limit: usize) -> bool {
        self.shared.head.borrow().0 >= after.0.saturating_add(limit as u64)
    }

    /// The events of a stream with some versions. An index that turns out to be damaged is made anew by the writer.
    fn part_of_stream(
        &self,
        stream: StreamId,
        versions: impl FnOnce(&Shared, &Reader, &StreamId) -> rusqlite::Result<Range<u64>> + Send + 'static,
        backwards: bool,
    ) -> impl Future<Output = Result<Vec<Recorded>, ReadError>> + Send + '_ {
        let shared = Arc::clone(&self.shared);
        let read = self.readers.read(move |reader| {
            let index = |error| {
                if is_damage(&error) {
                    shared.index.read().expect("no panic holds the index").suspect();
                }
                unreadable_as(error, || format!("the index of the stream `{stream}`"))
            };
            let versions = versions(&shared, reader, &stream).map_err(index)?;
            let key = shared.keys.of(stream.as_str());
            let known = shared.index.read().expect("no panic holds the index");
            let lookup = known.lookup(key, versions.start, versions.end);
            drop(known);
            log::read_stream(reader, &stream, &lookup, versions, backwards, shared.older).map_err(|unread| {
                match unread {
                    Unread::Index(error) => index(error),
                    Unread::Event(error) => error,
                }
            })
        });
        async move {
            let read = read.await;
            if matches!(read, Err(ReadError::Unreadable { .. })) {
                // The writer may have nothing else to do. If its queue is full, the next read tells it again.
                let _ = self.jobs.try_send(Job::Mend);
            }
            read
        }
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
                    self.readers.read(self.part_of_log(after, filter.clone(), limit)).await?
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
            part.page()
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
            self.change(|answer| Job::Define(collection, answer)).await
        })
    }

    fn swap(&self, pairs: Vec<(String, String)>) -> BoxFuture<'_, Result<(), CommitError>> {
        Box::pin(async move {
            self.change(|answer| Job::Swap(pairs.clone(), answer)).await?;
            for (from, to) in &pairs {
                self.shared.damage().swapped(from, to);
            }
            Ok(())
        })
    }

    fn drop_collection(&self, name: String) -> BoxFuture<'_, Result<(), CommitError>> {
        Box::pin(async move {
            self.change(|answer| Job::Drop(name.clone(), answer)).await?;
            self.shared.damage().dropped(&name);
            Ok(())
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
            if self.jobs.send(Job::Close(answer)).await.is_ok()
                && matches!(answered.await, Ok(Closing::Unwell))
            {
                return;
            }
            let writer = self.writer.lock().expect("no panic holds the writer").take();
            if let Some(writer) = writer {
                // The thread has nothing left to do; it is about to end.
                let _ = writer.join();
            }
            let (archive, synchronous) = (Arc::clone(&self.shared.archive), self.synchronous);
            let _ = on_a_thread("sqlite-close", move || archive::tidy(&archive, synchronous)).await;
        })
    }
}
