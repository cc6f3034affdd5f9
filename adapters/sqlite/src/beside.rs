//! The log of a store, read beside the process that has the store open.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use purlin::message::Timestamp;
use purlin::store::{
    Archived, BoxFuture, Cause, Collection, Commit, CommitError, Committed, Engine, LogFilter, LogId,
    LogPage, Position, Query, ReadError, Record, Recorded, Store, StreamId,
};
use rusqlite::Connection;
use tokio::sync::watch;

use crate::archive::{Archive, Cold};
use crate::copy::on_a_thread;
use crate::error::{Closed, OpenError, unavailable, unreadable};
use crate::files;
use crate::log;
use crate::part::{Most, Part};
use crate::reader::{Reader, Readers};
use crate::schema::{self, SchemaError};

/// How often it is looked whether something was committed.
const LOOKS: Duration = Duration::from_millis(50);

/// How often in a row that may fail.
const FAILED: u32 = 200;

/// Positions that one read looks through at the most.
const WINDOW: u64 = 50_000;

/// Opens the log of a store to read, and nothing else of it: whether a process has the store open, opens it or closes it
/// meanwhile, and none is kept from it. The archive is where the store says, unless it is said here.
///
/// What others commit is seen some milliseconds later. A file that takes the place of the one that was opened is an error.
pub async fn open_beside(file: impl Into<PathBuf>, archive: Option<PathBuf>) -> Result<Store, OpenError> {
    let file = file.into();
    let name = file.clone();
    let opened = on_a_thread("sqlite-open", move || Beside::open(&file, archive.as_deref())).await;
    opened
        .map_err(|source| OpenError::File { file: name.clone(), source })?
        .unwrap_or_else(|| Err(OpenError::Database { file: name, source: Closed.into() }))
        .map(Store::new)
}

/// A log that others write.
struct Beside {
    id: LogId,
    place: Arc<Place>,
    readers: Readers,
    head: watch::Receiver<Position>,
}

/// Where the log is.
struct Place {
    file: PathBuf,
    which: (u64, u64),
    archive: Option<PathBuf>,
    /// Whether the reader knows the archive.
    is_archived: AtomicBool,
}

/// What can only be asked of a store that is open.
#[derive(Debug, thiserror::Error)]
#[error("the log is read beside the store: nothing else can be read of it, and nothing written")]
struct OnlyTheLog;

/// Another file has the name now.
#[derive(Debug, thiserror::Error)]
#[error("`{}` is not the file any more that it was: a store was restored there, or it was moved away", .0.display())]
struct Replaced(PathBuf);

impl Beside {
    fn open(file: &Path, archive: Option<&Path>) -> Result<Self, OpenError> {
        let refused = |error: SchemaError| error.of(file);
        let failed = |source| OpenError::File { file: file.to_owned(), source };
        let which = files::which(file).map_err(failed)?;
        if !schema::look(file).map_err(refused)? {
            return Err(refused(SchemaError::Empty));
        }
        let connection = schema::open_reader(file).map_err(|error| refused(error.into()))?;
        let (format, id, _) = schema::described(&connection).map_err(refused)?;
        if format == 1 {
            return Err(refused(SchemaError::Older(format)));
        }
        let found = Archive::find(&connection, id, archive, file).map_err(refused)?;
        let place = Place {
            file: file.to_owned(),
            which,
            archive: archive.map(Path::to_owned),
            is_archived: found.is_made().into(),
        };
        let place = Arc::new(place);
        let last = schema::head(&connection).map_err(|error| refused(error.into()))?;
        let readers = Readers::start(file, &Arc::new(found), 1).map_err(|error| refused(error.into()))?;
        let (tell, head) = watch::channel(Position(last));
        let looking = Arc::clone(&place);
        let look = move || looking.look(&connection, &tell);
        if let Err(error) = std::thread::Builder::new().name("sqlite-look".into()).spawn(look) {
            readers.stop();
            return Err(failed(error));
        }
        Ok(Self { id, place, readers, head })
    }
}

impl Place {
    /// Tells what others commit, as long as anybody listens, and as long as it can be found out: for what passes it is looked
    /// again. Whoever waits hears that nothing more is told, reads, and meets why.
    fn look(&self, connection: &Connection, tell: &watch::Sender<Position>) {
        let mut failed = 0;
        while !tell.is_closed() && failed < FAILED && !self.is_replaced() {
            match schema::head(connection) {
                Ok(head) => {
                    failed = 0;
                    tell.send_if_modified(|known| {
                        let is_news = Position(head) > *known;
                        *known = Position(head).max(*known);
                        is_news
                    });
                }
                Err(_) => failed += 1,
            }
            std::thread::park_timeout(LOOKS);
        }
    }

    fn is_replaced(&self) -> bool {
        match files::which(&self.file) {
            Ok(which) => which != self.which,
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        }
    }

    fn is_same(&self) -> Result<(), ReadError> {
        if self.is_replaced() {
            return Err(unreadable(Replaced(self.file.clone())));
        }
        files::which(&self.file).map(drop).map_err(unreadable)
    }

    /// A page of the log as the file has it now.
    fn read(
        &self,
        reader: &mut Reader,
        after: Position,
        filter: &LogFilter,
        limit: usize,
    ) -> Result<Part, ReadError> {
        self.is_same()?;
        let mut read = || {
            // A newer program may have opened the store since, and has brought it to its format.
            let older = schema::read_older(&reader.hot).map_err(unreadable)?;
            let head = Position(schema::head(&reader.hot).map_err(unreadable)?);
            let until = head.min(Position(after.0.saturating_add(WINDOW)));
            log::page(reader, after, (until, head), filter, Most::page(limit), older)
        };
        match read() {
            // What is missing may be in an archive that was made since.
            Err(ReadError::Unreadable { .. }) if self.has_archive_now(reader)? => {
                self.read(reader, after, filter, limit)
            }
            read => read,
        }
    }

    /// Whether the store has an archive that was not known; from now on it is.
    fn has_archive_now(&self, reader: &mut Reader) -> Result<bool, ReadError> {
        if self.is_archived.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let found = Archive::of(&self.file, &reader.hot, self.archive.as_deref()).map_err(unreadable)?;
        let Some(found) = found else { return Ok(false) };
        reader.cold = Cold::new(Arc::new(found));
        self.is_archived.store(true, Ordering::Relaxed);
        Ok(true)
    }
}

/// Answers what can only be asked of a store that is open.
fn refuse<T: Send + 'static>() -> BoxFuture<'static, Result<T, ReadError>> {
    Box::pin(std::future::ready(Err(unreadable(OnlyTheLog))))
}

/// The same to who would write.
fn refuse_write<T: Send + 'static>() -> BoxFuture<'static, Result<T, CommitError>> {
    Box::pin(std::future::ready(Err(unavailable(OnlyTheLog))))
}

impl Engine for Beside {
    fn log_id(&self) -> LogId {
        self.id
    }

    fn read_log(
        &self,
        after: Position,
        filter: LogFilter,
        limit: usize,
    ) -> BoxFuture<'_, Result<LogPage, ReadError>> {
        let place = Arc::clone(&self.place);
        Box::pin(async move {
            let part = self.readers.read(move |reader| place.read(reader, after, &filter, limit));
            part.await?.page().await
        })
    }

    fn watch(&self) -> watch::Receiver<Position> {
        self.head.clone()
    }

    fn commit(&self, _: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        refuse_write()
    }

    fn read_stream(&self, _: StreamId, _: u64, _: usize) -> BoxFuture<'_, Result<Vec<Recorded>, ReadError>> {
        refuse()
    }

    fn read_stream_back(
        &self,
        _: StreamId,
        _: u64,
        _: usize,
    ) -> BoxFuture<'_, Result<Vec<Recorded>, ReadError>> {
        refuse()
    }

    fn get(&self, _: String, _: String) -> BoxFuture<'_, Result<Option<Record>, ReadError>> {
        refuse()
    }

    fn get_many(&self, _: String, _: Vec<String>) -> BoxFuture<'_, Result<Vec<Option<Record>>, ReadError>> {
        refuse()
    }

    fn list(&self, _: String, _: Query) -> BoxFuture<'_, Result<Vec<Record>, ReadError>> {
        refuse()
    }

    fn due(
        &self,
        _: String,
        _: Timestamp,
        _: Option<String>,
        _: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, ReadError>> {
        refuse()
    }

    fn collections(&self) -> BoxFuture<'_, Result<Vec<Collection>, ReadError>> {
        refuse()
    }

    fn define(&self, _: Collection) -> BoxFuture<'_, Result<(), CommitError>> {
        refuse_write()
    }

    fn archive(&self, _: Vec<StreamId>, _: usize) -> BoxFuture<'_, Result<Archived, CommitError>> {
        refuse_write()
    }

    fn backup<'a>(&'a self, _: &'a Path) -> BoxFuture<'a, Result<(), Cause>> {
        Box::pin(std::future::ready(Err(OnlyTheLog.into())))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.readers.close())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.readers.stop();
    }
}
