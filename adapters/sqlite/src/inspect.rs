//! What can be said of a store's file from outside, beside the process that has it open.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use purlin::message::Timestamp;
use purlin::store::{LogId, Position};
use rusqlite::{Connection, OptionalExtension};

use crate::archive::{self, Archive, Counted};
use crate::codec::{Seen, WITHOUT_DATA, select};
use crate::copy::on_a_thread;
use crate::error::{Closed, OpenError};
use crate::files;
use crate::schema::{self, SchemaError};

/// A store as its file shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// The file's format.
    pub format: i64,
    /// The format that it has once this program has opened it.
    pub known: i64,
    /// Which log.
    pub log: LogId,
    /// It is a copy that nobody has opened: the log begins a new incarnation with the first opening.
    pub copy: bool,
    /// The last event's position.
    pub head: Position,
    /// The last event's time.
    pub last: Option<Timestamp>,
    /// Where what is seldom read was moved to, if anything was.
    pub archive: Option<ArchiveInspection>,
    /// The names of the collections.
    pub collections: Vec<String>,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes of what is not moved into the file yet.
    pub wal_bytes: u64,
}

/// The archive of a store as its file shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArchiveInspection {
    /// Where it is.
    pub file: PathBuf,
    /// Bytes of it, with what is not moved into the file yet.
    pub bytes: u64,
    /// Events that it has.
    pub events: u64,
    /// Bytes of their data.
    pub data_bytes: u64,
    /// Why it cannot be used: it is not there, or another's.
    pub refused: Option<String>,
}

/// Looks at a store's file, and changes nothing; a process may have it open.
pub async fn inspect(file: impl Into<PathBuf>) -> Result<Inspection, OpenError> {
    inspect_with(file, None).await
}

/// As [`inspect`], with the archive where it is said to be, whatever the store remembers of it.
pub async fn inspect_with(
    file: impl Into<PathBuf>,
    archive: Option<PathBuf>,
) -> Result<Inspection, OpenError> {
    on_file(file.into(), move |file| inspect_now(file, archive.as_deref())).await
}

/// Whether a process has the store open. A process that opens it at this very moment would be refused.
pub fn in_use(file: &Path) -> std::io::Result<bool> {
    let lock = match File::open(files::beside(file, ".lock")) {
        Ok(lock) => lock,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match lock.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

async fn on_file<T: Send + 'static>(
    file: PathBuf,
    run: impl FnOnce(&Path) -> Result<T, OpenError> + Send + 'static,
) -> Result<T, OpenError> {
    let of = file.clone();
    let ran = on_a_thread("sqlite-inspect", move || run(&of)).await;
    ran.map_err(|source| OpenError::File { file: file.clone(), source })?
        .unwrap_or_else(|| Err(OpenError::Database { file, source: Closed.into() }))
}

fn open(file: &Path) -> Result<Connection, OpenError> {
    // A file that is not there would look like one in which there is nothing.
    std::fs::metadata(file).map_err(|source| OpenError::File { file: file.to_owned(), source })?;
    if !schema::look(file).map_err(|error| error.of(file))? {
        return Err(SchemaError::Empty.of(file));
    }
    schema::open_reader(file).map_err(|error| SchemaError::from(error).of(file))
}

fn inspect_now(file: &Path, archive: Option<&Path>) -> Result<Inspection, OpenError> {
    let connection = open(file)?;
    read(&connection, file, archive).map_err(|error| error.of(file))
}

fn read(connection: &Connection, file: &Path, elsewhere: Option<&Path>) -> Result<Inspection, SchemaError> {
    let older = schema::read_older(connection)?;
    let head = schema::head(connection)?;
    let last = select(older.shape(head), WITHOUT_DATA, "ORDER BY position DESC LIMIT 1");
    // A damaged one does not say when it happened.
    let last =
        connection.query_row(&last, [], |row| Ok(Seen::read(row, older).map_or(None, |seen| Some(seen.at))));
    let last: Option<i64> = last.optional()?.flatten();
    let mut names = connection.prepare("SELECT name FROM _collection ORDER BY name")?;
    let collections = names.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
    let size = |suffix: &str| std::fs::metadata(files::beside(file, suffix)).map_or(0, |file| file.len());
    let (format, log, copy) = schema::described(connection)?;
    Ok(Inspection {
        format,
        known: schema::FORMAT,
        archive: Archive::of(file, connection, elsewhere)?.map(|archive| of_archive(&archive)).transpose()?,
        log,
        copy,
        head: Position(head),
        last: last.and_then(|at| Timestamp::from_microsecond(at).ok()),
        collections,
        bytes: size(""),
        wal_bytes: size("-wal"),
    })
}

fn of_archive(archive: &Archive) -> Result<ArchiveInspection, SchemaError> {
    let size =
        |suffix: &str| std::fs::metadata(files::beside(archive.file(), suffix)).map_or(0, |file| file.len());
    let (file, bytes) = (archive.file().to_owned(), size("") + size("-wal"));
    let (counted, refused) = match archive::open(archive) {
        Ok(connection) => (Counted::of(&connection)?, None),
        Err(refused) => (Counted::default(), Some(refused.to_string())),
    };
    Ok(ArchiveInspection { file, bytes, events: counted.events, data_bytes: counted.bytes, refused })
}
