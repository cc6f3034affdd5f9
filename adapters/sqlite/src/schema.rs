//! The tables of a store, and the version of their format.

use std::path::{Path, PathBuf};
use std::time::Duration;

use purlin::message::Uuid;
use purlin::store::{Cause, LogId};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, ToSql};

use crate::checksum::Sum;
use crate::codec::{mismatch, signed, unsigned};
use crate::older::Older;
use crate::synchronous::Synchronous;
use crate::{codec, collection, files, tag};

/// The newest format that this code reads and writes. Format 1 had neither checksums nor tags; up to format 2 the index
/// knew streams by 64 bits that it took from their names alone; format 4 was that of a store with an archive; up to it
/// an event's parts were in columns of their own (see `older`).
pub(crate) const FORMAT: i64 = 5;

/// The formats whose index can be read.
const KEYED_BY_SECRET: std::ops::RangeInclusive<i64> = 3..=FORMAT;

/// How long a connection waits for another's lock.
pub(crate) const BUSY: Duration = Duration::from_secs(10);

/// Bytes to which a WAL that grew behind a long read is cut when it begins anew.
const WAL_BYTES: i64 = 128 << 20;

/// Everything but the events, the collections and the index. Names begin with `_`, so that no collection has one of them.
const TABLES: &str = "
CREATE TABLE _meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE _collection(name TEXT PRIMARY KEY, fields TEXT NOT NULL) WITHOUT ROWID;
";

/// The stream index (see `index`): a block is a slice of sorted entries, a run describes some blocks.
const INDEX: &str = "
CREATE TABLE _run(
    run INTEGER PRIMARY KEY,
    level INTEGER NOT NULL,
    first INTEGER NOT NULL,
    through INTEGER NOT NULL,
    fences BLOB NOT NULL,
    filter BLOB NOT NULL,
    sum INTEGER NOT NULL
);
CREATE TABLE _block(block INTEGER PRIMARY KEY, entries BLOB NOT NULL);
";

/// Why a file is not a store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SchemaError {
    #[error("the file was written by a newer version (format {0})")]
    Newer(i64),
    #[error("the file is an SQLite database, but not a store")]
    Foreign,
    #[error(
        "the file was written by an older version (format {0}), which wrote no checksums: open the store once"
    )]
    Older(i64),
    #[error("there is nothing in the file")]
    Empty,
    #[error("the file cannot be given a write-ahead log: its journal mode stays `{0}`")]
    NoWal(String),
    #[error("the file's own description is damaged: {0}")]
    Damaged(&'static str),
    #[error("the path of an archive must be UTF-8")]
    ArchivePath,
    #[error("SQLite refuses")]
    Sqlite(#[from] rusqlite::Error),
}

/// The connection that writes: durable at every commit, checkpoints done elsewhere.
pub(crate) fn open_writer(file: &Path, synchronous: Synchronous) -> Result<Connection, SchemaError> {
    let connection = Connection::open(file)?;
    let mode = use_wal(&connection)?;
    if mode != "wal" {
        return Err(SchemaError::NoWal(mode));
    }
    connection.pragma_update(None, "synchronous", synchronous.name())?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES)?;
    connection.pragma_update(None, "cache_size", -32 * 1024)?;
    configure(&connection)?;
    Ok(connection)
}

/// Gives the file a write-ahead log; the mode that it has then. SQLite says the mode before it has written it down:
/// whether that worked is known when there is no further row. Without it, the file would be used with a rollback
/// journal, whose removal nothing makes durable.
pub(crate) fn use_wal(connection: &Connection) -> rusqlite::Result<String> {
    let mut pragma = connection.prepare("PRAGMA journal_mode = WAL")?;
    let mut rows = pragma.query([])?;
    let mode = rows.next()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?.get(0)?;
    while rows.next()?.is_some() {}
    Ok(mode)
}

/// A connection that only reads. It reads by calls, and maps nothing into memory: of a page that the disk does not give, a
/// call is told, and whoever touches mapped memory is killed.
pub(crate) fn open_reader(file: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.pragma_update(None, "cache_size", -8 * 1024)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    configure(&connection)?;
    Ok(connection)
}

/// The connection that moves the WAL into the file.
pub(crate) fn open_checkpointer(file: &Path, synchronous: Synchronous) -> rusqlite::Result<Connection> {
    let connection = Connection::open(file)?;
    connection.pragma_update(None, "synchronous", synchronous.name())?;
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

/// Makes the tables when the file is new, for a log that is named or a new one, and brings an older file to this format;
/// the log's id.
pub(crate) fn prepare(
    connection: &mut Connection,
    log: Option<LogId>,
) -> Result<(LogId, Older), SchemaError> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let is_new = !is_store(&transaction)?;
    let (mut id, mut older, mut changed) = (log.unwrap_or_default(), Older::default(), is_new);
    if is_new {
        transaction.execute_batch(TABLES)?;
        transaction.execute_batch(codec::table(older))?;
        transaction.execute_batch(tag::TABLE)?;
        transaction.execute_batch(INDEX)?;
        set_meta(&transaction, "log", id.log.as_bytes().as_slice())?;
        set_secret(&transaction)?;
    } else {
        let log: Vec<u8> = meta(&transaction, "log")?.ok_or(SchemaError::Damaged("no log id"))?;
        id.log = Uuid::from_slice(&log).map_err(|_| SchemaError::Damaged("the log id is not 16 bytes"))?;
        id.incarnation = meta(&transaction, "incarnation")?.ok_or(SchemaError::Damaged("no incarnation"))?;
        let format = meta::<i64>(&transaction, "format")?;
        older = read_older(&transaction)?;
        let is_older = format.is_some_and(|format| format < FORMAT);
        if is_older && head(&transaction)? == 0 && has_had_events(&transaction)? {
            return Err(SchemaError::Damaged("its log is empty, and has not always been"));
        }
        match format {
            Some(1) => older = upgrade(&transaction)?,
            _ if meta(&transaction, "sum")? != Some(identity_sum(id, older)) => {
                return Err(SchemaError::Damaged("its identity does not match its checksum"));
            }
            Some(2) => {
                // It is made anew from the log.
                forget_index(&transaction)?;
                set_secret(&transaction)?;
            }
            // Before there was a format of its own for it. Some such stores have an index without a secret.
            Some(3) if archive(&transaction)?.is_some() => {
                if meta::<Vec<u8>>(&transaction, "secret")?.is_none() {
                    forget_index(&transaction)?;
                    set_secret(&transaction)?;
                }
                // Positions are dense: what the store's file has not, left it.
                let here: i64 = transaction.query_row("SELECT count(*) FROM _event", [], |row| row.get(0))?;
                set_left(&transaction, head(&transaction)?.saturating_sub(unsigned(here)))?;
            }
            _ => {}
        }
        if is_older {
            older.apart = keep_apart(&transaction)?;
            changed = true;
        }
        if meta::<i64>(&transaction, "copy")?.is_some() {
            set_meta(&transaction, "incarnation_before", id.incarnation)?;
            (id, changed) = (id.restored(), true);
            transaction.execute("DELETE FROM _meta WHERE name = 'copy'", [])?;
        }
        collection::complete(&transaction)?;
    }
    if changed {
        set_meta(&transaction, "format", FORMAT)?;
        set_meta(&transaction, "incarnation", id.incarnation)?;
        set_meta(&transaction, "apart", Checked::write(older.apart))?;
        set_meta(&transaction, "unchecked_position", signed(older.unchecked))?;
        set_meta(&transaction, "unchecked_revision", signed(older.unchecked_revision))?;
        set_meta(&transaction, "sum", identity_sum(id, older))?;
    }
    transaction.commit()?;
    Ok((id, older))
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

/// Gives a file of format 1 room for checksums and tags. What is in it is left without; the index is made anew from the
/// log.
fn upgrade(connection: &Connection) -> rusqlite::Result<Older> {
    connection
        .execute_batch("ALTER TABLE _event ADD COLUMN sum INTEGER; DROP TABLE _run; DROP TABLE _block;")?;
    connection.execute_batch(INDEX)?;
    set_secret(connection)?;
    connection.execute_batch(tag::TABLE)?;
    collection::add_checksums(connection)?;
    let (unchecked, unchecked_revision) = (head(connection)?, revision(connection)?);
    Ok(Older { apart: 0, unchecked, unchecked_revision })
}

/// The last event of an older format, whose events stay as they are: their parts are in columns of their own. Without
/// any, the table becomes what it is today.
fn keep_apart(connection: &Connection) -> rusqlite::Result<u64> {
    let apart = head(connection)?;
    if apart == 0 {
        connection.execute_batch("DROP TABLE _event")?;
        connection.execute_batch(codec::table(Older::default()))?;
    }
    Ok(apart)
}

/// Whether something other than its table says that a store has had events.
fn has_had_events(connection: &Connection) -> rusqlite::Result<bool> {
    for table in ["_run", "_block", "_tag"] {
        let is_there = connection.table_exists(None, table)?;
        let some = format!("SELECT EXISTS (SELECT 1 FROM {table})");
        if is_there && connection.query_row(&some, [], |row| row.get(0))? {
            return Ok(true);
        }
    }
    Ok(left(connection)? > 0 || archive(connection)?.is_some())
}

/// Up to where what is in a file was written by older formats.
pub(crate) fn read_older(connection: &Connection) -> Result<Older, SchemaError> {
    let format = meta::<i64>(connection, "format")?.ok_or(SchemaError::Damaged("no format"))?;
    let apart = match (format, meta::<Vec<u8>>(connection, "apart")?) {
        (FORMAT, apart) => apart.and_then(|apart| Checked::read(&apart)),
        // Nothing else is in such a file.
        (_, None) => Some(u64::MAX),
        // An older format knows no border: it is the format that is not what it was.
        (_, Some(_)) => None,
    };
    Ok(Older {
        apart: apart.ok_or(SchemaError::Damaged("how old its events are does not match its checksum"))?,
        unchecked: meta::<i64>(connection, "unchecked_position")?.map_or(0, unsigned),
        unchecked_revision: unchecked_revision(connection)?,
    })
}

/// The last revision of a record that may be without a checksum.
pub(crate) fn unchecked_revision(connection: &Connection) -> rusqlite::Result<u64> {
    Ok(meta::<i64>(connection, "unchecked_revision")?.map_or(0, unsigned))
}

/// Whether the index of the streams in a file of a format can be read; else it is made anew.
pub(crate) fn has_index(format: i64) -> bool {
    KEYED_BY_SECRET.contains(&format)
}

/// The checksum of what a file says of itself.
pub(crate) fn identity_sum(id: LogId, older: Older) -> i64 {
    let numbers = [u64::from(id.incarnation), older.unchecked, older.unchecked_revision];
    Sum::default().bytes(id.log.as_bytes()).numbers(numbers).stored()
}

/// Gives a store the secret under which its index knows streams; whoever has another cannot read the index.
fn set_secret(connection: &Connection) -> rusqlite::Result<()> {
    let secret = Uuid::new_v4().into_bytes();
    let sum = Sum::default().bytes(&secret).to_bytes();
    set_meta(connection, "secret", [&secret[..], &sum].concat())
}

/// The secret under which the index knows streams.
pub(crate) fn secret(connection: &Connection) -> Result<[u8; 16], SchemaError> {
    let stored: Vec<u8> = meta(connection, "secret")?.ok_or(SchemaError::Damaged("no secret"))?;
    let secret = stored.split_first_chunk::<16>();
    let whole = secret.filter(|(secret, sum)| Sum::default().bytes(*secret).to_bytes() == **sum);
    whole.map(|(secret, _)| *secret).ok_or(SchemaError::Damaged("the secret does not match its checksum"))
}

/// Throws the stream index away; part of a transaction of the caller's.
pub(crate) fn forget_index(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("DROP TABLE _run; DROP TABLE _block;")?;
    connection.execute_batch(INDEX)
}

/// Marks a copy, so that whoever opens it to write begins a new incarnation. Its archive is beside it, or will be.
pub(crate) fn mark_copy(copy: &Connection) -> rusqlite::Result<()> {
    copy.execute("DELETE FROM _meta WHERE name = 'archive_to_be'", [])?;
    if archive(copy)?.is_some() {
        set_meta(copy, "archive", "")?;
    }
    set_meta(copy, "copy", 1)
}

/// The position of the last event, which never leaves the store's file.
pub(crate) fn head(connection: &Connection) -> rusqlite::Result<u64> {
    let last = "SELECT coalesce(max(position), 0) FROM _event";
    connection.query_row(last, [], |row| row.get(0)).map(unsigned)
}

/// The incarnation of which a copy was made that this one began with.
pub(crate) fn incarnation_before(connection: &Connection) -> rusqlite::Result<Option<u32>> {
    meta(connection, "incarnation_before")
}

/// Where a store's archive is (empty: beside the store), if it has one.
pub(crate) fn archive(connection: &Connection) -> rusqlite::Result<Option<String>> {
    meta(connection, "archive")
}

/// Where a store's archive is, or is to be, and whether it has one.
pub(crate) fn find_archive(
    connection: &Connection,
    said: Option<&Path>,
    store: &Path,
) -> Result<(PathBuf, bool), SchemaError> {
    let remembered = archive(connection)?;
    let made = remembered.is_some();
    if let Some(said) = said {
        let said = std::path::absolute(said).unwrap_or_else(|_| said.to_owned());
        said.to_str().ok_or(SchemaError::ArchivePath)?;
        return Ok((said, made));
    }
    let remembered = if made { remembered } else { meta(connection, "archive_to_be")? };
    Ok((crate::archive::place(store, remembered.as_deref()), made))
}

/// Remembers where a store's archive was found, or where it will be made if it has none.
pub(crate) fn remember_archive(connection: &Connection, place: &str, is_made: bool) -> rusqlite::Result<()> {
    let name = if is_made { "archive" } else { "archive_to_be" };
    let remembered: Option<String> = meta(connection, name)?;
    if remembered.as_deref().unwrap_or_default() == place {
        return Ok(());
    }
    set_meta(connection, name, place)
}

/// How many events left a store's file for its archive.
pub(crate) fn left(connection: &Connection) -> rusqlite::Result<u64> {
    Ok(meta::<i64>(connection, "left")?.map_or(0, unsigned))
}

/// Writes down how many events left; part of a transaction of the caller's.
pub(crate) fn set_left(connection: &Connection, left: u64) -> rusqlite::Result<()> {
    set_meta(connection, "left", signed(left))
}

/// Remembers that a store has an archive, and where; part of a transaction of the caller's.
pub(crate) fn set_archive(connection: &Connection, place: &str) -> rusqlite::Result<()> {
    set_meta(connection, "archive", place)
}

fn meta<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> rusqlite::Result<Option<T>> {
    connection.query_row("SELECT value FROM _meta WHERE name = ?1", [name], |row| row.get(0)).optional()
}

fn set_meta(connection: &Connection, name: &str, value: impl ToSql) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO _meta(name, value) VALUES(?1, ?2)";
    connection.prepare_cached(sql)?.execute((name, value)).map(drop)
}

/// The last revision that was given to a record.
pub(crate) fn revision(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT value FROM _meta WHERE name = 'revision'";
    let read = |row: &Row<'_>| match row.get_ref(0)? {
        // As format 1 wrote it.
        ValueRef::Integer(revision) => Ok(unsigned(revision)),
        other => Checked::read(other.as_blob()?).ok_or_else(mismatch),
    };
    Ok(connection.query_row(sql, [], read).optional()?.unwrap_or(0))
}

/// Writes the last revision down; part of a transaction of the caller's.
pub(crate) fn set_revision(connection: &Connection, revision: u64) -> rusqlite::Result<()> {
    set_meta(connection, "revision", Checked::write(revision))
}

/// A number with its checksum behind it.
struct Checked;

impl Checked {
    fn write(number: u64) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        bytes[8..].copy_from_slice(&Sum::default().numbers([number]).to_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Option<u64> {
        let number = u64::from_be_bytes(*bytes.first_chunk()?);
        (Self::write(number) == bytes).then_some(number)
    }
}

/// Counts the doubts that were settled; part of a transaction of the caller's.
pub(crate) fn count_settled(connection: &Connection) -> rusqlite::Result<()> {
    let settled = meta::<i64>(connection, "settled")?.unwrap_or(0) + 1;
    set_meta(connection, "settled", settled)
}

impl SchemaError {
    /// As the error that the user sees.
    pub(crate) fn of(self, file: &Path) -> crate::OpenError {
        let file = file.to_owned();
        match self {
            Self::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::ReadOnly) => {
                crate::OpenError::ReadOnly { file, source: error.into() }
            }
            // It does not say why a file beside the store cannot be made.
            Self::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) => {
                match files::try_beside(&file) {
                    Err(source) => crate::OpenError::of_io(file, source),
                    Ok(()) => crate::OpenError::Database { file, source: Cause::from(error) },
                }
            }
            Self::Newer(found) => crate::OpenError::Newer { file, found, known: FORMAT },
            other => crate::OpenError::Database { file, source: Cause::from(other) },
        }
    }
}
