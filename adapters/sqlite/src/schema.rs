//! The tables of a store, and the version of their format.

use std::path::Path;
use std::time::Duration;

use purlin::message::Uuid;
use purlin::store::{Cause, LogId};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};

use crate::codec::{signed, unsigned};
use crate::{collection, tag};

/// The newest format that this code reads and writes.
pub(crate) const FORMAT: i64 = 2;

/// How long a connection waits for another's lock.
pub(crate) const BUSY: Duration = Duration::from_secs(10);

/// Bytes to which a WAL that grew behind a long read is cut when it begins anew.
const WAL_BYTES: i64 = 128 << 20;

/// Everything but the collections. Names begin with `_`, so that no collection has one of them.
///
/// `_run` and `_block` are the stream index (see `index`): a block is a slice of sorted entries.
const TABLES: &str = "
CREATE TABLE _meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE _event(
    position INTEGER PRIMARY KEY,
    stream TEXT NOT NULL,
    version INTEGER NOT NULL,
    kind TEXT NOT NULL,
    id BLOB NOT NULL,
    at INTEGER NOT NULL,
    schema INTEGER NOT NULL,
    public INTEGER NOT NULL,
    meta BLOB,
    data TEXT NOT NULL
);
CREATE TABLE _run(
    run INTEGER PRIMARY KEY,
    level INTEGER NOT NULL,
    through INTEGER NOT NULL,
    fences BLOB NOT NULL,
    filter BLOB NOT NULL
);
CREATE TABLE _block(block INTEGER PRIMARY KEY, entries BLOB NOT NULL);
CREATE TABLE _collection(name TEXT PRIMARY KEY, fields TEXT NOT NULL) WITHOUT ROWID;
";

/// Why a file is not a store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SchemaError {
    #[error("the file was written by a newer version (format {0})")]
    Newer(i64),
    #[error("the file is an SQLite database, but not a store")]
    Foreign,
    #[error("there is nothing in the file")]
    Empty,
    #[error("the file cannot be given a write-ahead log: its journal mode stays `{0}`")]
    NoWal(String),
    #[error("the file's own description is damaged: {0}")]
    Damaged(&'static str),
    #[error("SQLite refuses")]
    Sqlite(#[from] rusqlite::Error),
}

/// The connection that writes: durable at every commit, checkpoints done elsewhere.
pub(crate) fn open_writer(file: &Path) -> Result<Connection, SchemaError> {
    let connection = Connection::open(file)?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        return Err(SchemaError::NoWal(mode));
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES)?;
    connection.pragma_update(None, "cache_size", -32 * 1024)?;
    configure(&connection)?;
    Ok(connection)
}

/// A connection that only reads.
pub(crate) fn open_reader(file: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.pragma_update(None, "cache_size", -8 * 1024)?;
    connection.pragma_update(None, "mmap_size", 1 << 30)?;
    configure(&connection)?;
    Ok(connection)
}

/// The connection that moves the WAL into the file.
pub(crate) fn open_checkpointer(file: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(file)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.busy_timeout(Duration::from_millis(100))?;
    Ok(connection)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(256);
    Ok(())
}

/// Looks at a file, and changes nothing: whether a store is in it, or nothing at all. What is neither is refused.
pub(crate) fn look(file: &Path) -> Result<bool, SchemaError> {
    if std::fs::metadata(file).map_or(true, |file| file.len() == 0) {
        return Ok(false);
    }
    let look = |flags: OpenFlags| {
        let connection = Connection::open_with_flags(file, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.busy_timeout(BUSY)?;
        is_store(&connection)
    };
    match look(OpenFlags::SQLITE_OPEN_READ_ONLY) {
        // It was cut off before it had a write-ahead log, and wants to be rolled back first.
        Err(SchemaError::Sqlite(error)) if error.sqlite_error_code() == Some(ErrorCode::ReadOnly) => {
            look(OpenFlags::SQLITE_OPEN_READ_WRITE)
        }
        looked => looked,
    }
}

/// Whether there is a store that this program understands, or nothing at all.
fn is_store(connection: &Connection) -> Result<bool, SchemaError> {
    let count = "SELECT count(*), count(*) FILTER (WHERE name = '_meta') FROM sqlite_schema";
    let (tables, known): (i64, i64) =
        connection.query_row(count, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if tables == 0 {
        return Ok(false);
    }
    if known == 0 {
        return Err(SchemaError::Foreign);
    }
    match meta::<i64>(connection, "format")?.ok_or(SchemaError::Damaged("no format"))? {
        format if format > FORMAT => Err(SchemaError::Newer(format)),
        _ => Ok(true),
    }
}

/// Makes the tables when the file is new, for a log that is named or a new one; the log's id otherwise too.
pub(crate) fn prepare(connection: &mut Connection, log: Option<LogId>) -> Result<LogId, SchemaError> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    if !is_store(&transaction)? {
        transaction.execute_batch(TABLES)?;
        transaction.execute_batch(tag::TABLE)?;
        let id = log.unwrap_or_default();
        let mut insert = transaction.prepare("INSERT INTO _meta(name, value) VALUES(?1, ?2)")?;
        insert.execute(("format", FORMAT))?;
        insert.execute(("log", id.log.as_bytes().as_slice()))?;
        insert.execute(("incarnation", id.incarnation))?;
        drop(insert);
        transaction.commit()?;
        return Ok(id);
    }
    let (_, mut id, copy) = described(&transaction)?;
    if copy {
        id = id.restored();
        transaction.execute("UPDATE _meta SET value = ?1 WHERE name = 'incarnation'", [id.incarnation])?;
        transaction.execute("DELETE FROM _meta WHERE name = 'copy'", [])?;
    }
    upgrade(&transaction)?;
    collection::complete(&transaction)?;
    transaction.commit()?;
    Ok(id)
}

/// What the file says of itself: its format, which log it is, and whether it is a copy that nobody has opened.
pub(crate) fn described(connection: &Connection) -> Result<(i64, LogId, bool), SchemaError> {
    let format = meta(connection, "format")?.ok_or(SchemaError::Damaged("no format"))?;
    let log: Vec<u8> = meta(connection, "log")?.ok_or(SchemaError::Damaged("no log id"))?;
    let log = Uuid::from_slice(&log).map_err(|_| SchemaError::Damaged("the log id is not 16 bytes"))?;
    let incarnation = meta(connection, "incarnation")?.ok_or(SchemaError::Damaged("no incarnation"))?;
    let copy = meta::<i64>(connection, "copy")?.is_some();
    Ok((format, LogId { log, incarnation }, copy))
}

/// Gives a file of an older format what it lacks.
fn upgrade(connection: &Connection) -> rusqlite::Result<()> {
    // 2: events may have tags.
    connection.execute_batch(tag::TABLE)?;
    connection.execute("UPDATE _meta SET value = ?1 WHERE name = 'format' AND value < ?1", [FORMAT]).map(drop)
}

/// Marks a copy, so that whoever opens it to write begins a new incarnation.
pub(crate) fn mark_copy(copy: &Connection) -> rusqlite::Result<()> {
    copy.execute("INSERT OR REPLACE INTO _meta(name, value) VALUES('copy', 1)", []).map(drop)
}

fn meta<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> rusqlite::Result<Option<T>> {
    connection.query_row("SELECT value FROM _meta WHERE name = ?1", [name], |row| row.get(0)).optional()
}

/// The last revision that was given to a record.
pub(crate) fn revision(connection: &Connection) -> rusqlite::Result<u64> {
    Ok(meta::<i64>(connection, "revision")?.map_or(0, unsigned))
}

/// Writes the last revision down; part of a transaction of the caller's.
pub(crate) fn set_revision(connection: &Connection, revision: u64) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO _meta(name, value) VALUES('revision', ?1)";
    connection.prepare_cached(sql)?.execute([signed(revision)]).map(drop)
}

/// Counts the doubts that were settled; part of a transaction of the caller's.
pub(crate) fn count_settled(connection: &Connection) -> rusqlite::Result<()> {
    let settled = meta::<i64>(connection, "settled")?.unwrap_or(0) + 1;
    connection.execute("INSERT OR REPLACE INTO _meta(name, value) VALUES('settled', ?1)", [settled]).map(drop)
}

impl SchemaError {
    /// As the error that the user sees.
    pub(crate) fn of(self, file: &Path) -> crate::OpenError {
        let file = file.to_owned();
        match self {
            Self::Newer(found) => crate::OpenError::Newer { file, found, known: FORMAT },
            other => crate::OpenError::Database { file, source: Cause::from(other) },
        }
    }
}
