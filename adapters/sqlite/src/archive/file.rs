//! The archive's file: made, opened, and known for this store's own.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use purlin::message::Uuid;
use purlin::store::{Cause, LogId};
use rusqlite::{Connection, OptionalExtension, ToSql};

use super::Archive;
use crate::codec::{self, signed, unsigned};
use crate::error::OpenError;
use crate::older::Older;
use crate::synchronous::Synchronous;
use crate::{files, schema};

/// The newest format of an archive.
const FORMAT: i64 = PACKED;

/// The format of an archive whose events lie as those of a store of today.
const PACKED: i64 = 2;

/// The format of one whose events lie as those of a store that was made by an older format (see [`crate::older`]).
const OLDER: i64 = 1;

/// Its tables; `_event` is as in a store.
const TABLES: &str = "CREATE TABLE _meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;";

/// An archive that is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error(
        "the archive `{}` is not there: put it back (or say where it is when the store is opened), and open the store \
         again", .0.display()
    )]
    Missing(PathBuf),
    #[error("`{}` is not the archive of this store ({what}): put the right file in its place", file.display())]
    Wrong { file: PathBuf, what: String },
    #[error(
        "the archive `{}` was replaced by another file while the store was open: open the store again", .0.display()
    )]
    Replaced(PathBuf),
    #[error("the archive `{}` cannot be opened", file.display())]
    Unusable { file: PathBuf, source: Cause },
}

impl Refused {
    /// As an error of SQLite's that says what is in it.
    pub(crate) fn into_error(self) -> rusqlite::Error {
        rusqlite::Error::ToSqlConversionFailure(self.into())
    }

    /// As the error of whoever opens the store.
    pub(crate) fn into_open_error(self, store: &Path) -> OpenError {
        OpenError::Database { file: store.to_owned(), source: self.into() }
    }
}

/// What is counted of an archive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) events: u64,
    /// Bytes of their data.
    pub(crate) bytes: u64,
}

/// Opens an archive to read, if it is this log's.
pub(crate) fn open(archive: &Archive) -> Result<Connection, Refused> {
    let file = archive.file();
    match std::fs::metadata(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(Refused::Missing(file.to_owned())),
        Err(source) => return Err(Refused::Unusable { file: file.to_owned(), source: source.into() }),
        Ok(_) => {}
    }
    let connection = schema::open_reader(file).map_err(|error| refused(file, error))?;
    archive.is_same()?;
    known(&connection, archive)?;
    archive.known()?;
    Ok(connection)
}

/// Opens an archive to write, or makes it if no event has left the store yet. One that was copied together with the
/// store becomes the copy's own.
pub(crate) fn open_writable(archive: &Archive, synchronous: Synchronous) -> Result<Connection, Refused> {
    let file = archive.file();
    let unusable = |source: Cause| Refused::Unusable { file: file.to_owned(), source };
    if archive.is_made() && !file.exists() {
        return Err(Refused::Missing(file.to_owned()));
    }
    archive.is_same()?;
    files::make_folder(file).map_err(|(_, source)| unusable(source.into()))?;
    files::make_private(file).map_err(|source| unusable(source.into()))?;
    let opened = |error| refused(file, error);
    let mut connection = Connection::open(file).map_err(opened)?;
    connection.busy_timeout(schema::BUSY).map_err(opened)?;
    let tables = "SELECT count(*) FROM sqlite_schema";
    let tables: i64 = connection.query_row(tables, [], |row| row.get(0)).map_err(opened)?;
    if tables > 0 || archive.is_made() {
        known(&connection, archive)?;
    }
    let mode = schema::use_wal(&connection).map_err(opened)?;
    if mode != "wal" {
        return Err(unusable(schema::SchemaError::NoWal(mode).into()));
    }
    connection.pragma_update(None, "synchronous", synchronous.name()).map_err(opened)?;
    prepare(&mut connection, archive, tables == 0).map_err(opened)?;
    if !archive.is_made() && !crate::checkpoint::truncate(&connection).map_err(opened)? {
        // A log beside a file that turns out to be empty is thrown away.
        return Err(unusable("somebody reads it before there is anything in it".into()));
    }
    if synchronous == Synchronous::Full {
        files::sync_folder(file).map_err(|source| unusable(source.into()))?;
    }
    archive.known()?;
    Ok(connection)
}

fn prepare(connection: &mut Connection, archive: &Archive, is_new: bool) -> rusqlite::Result<()> {
    let is_copy = !is_new && meta::<i64>(connection, "copy")?.is_some();
    if !is_new && !is_copy {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    if is_new {
        transaction.execute_batch(TABLES)?;
        transaction.execute_batch(codec::table(archive.older))?;
        set_meta(&transaction, "archive_format", format_beside(archive.older))?;
        set_meta(&transaction, "log", archive.log().log.as_bytes().as_slice())?;
    }
    set_identity(&transaction, archive.log())?;
    transaction.execute("DELETE FROM _meta WHERE name = 'copy'", [])?;
    transaction.commit()
}

/// The format of a store's archive.
fn format_beside(store: Older) -> i64 {
    match store.apart {
        0 => PACKED,
        _ => OLDER,
    }
}

/// Says whose archive it is; part of a transaction of the caller's.
fn set_identity(connection: &Connection, log: LogId) -> rusqlite::Result<()> {
    set_meta(connection, "incarnation", log.incarnation)?;
    set_meta(connection, "sum", schema::identity_sum(log, Older::default()))
}

/// Whether this is the log's own archive. A copy that was made together with a store is also that of the incarnation
/// which the copied store began.
fn known(connection: &Connection, archive: &Archive) -> Result<(), Refused> {
    let file = archive.file();
    let wrong = |what: &str| Refused::Wrong { file: file.to_owned(), what: what.to_owned() };
    let opened = |error| refused(file, error);
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name IN ('_meta', '_event')";
    match connection.query_row(tables, [], |row| row.get::<_, i64>(0)).map_err(opened)? {
        0 => return Err(wrong("there is no archive in it")),
        2 => {}
        _ => return Err(wrong("it is no archive")),
    }
    match meta::<i64>(connection, "archive_format").map_err(opened)? {
        None => return Err(wrong("it is no archive")),
        Some(format) if format > FORMAT => {
            return Err(wrong(&format!("a newer version wrote it, in format {format}")));
        }
        Some(format) if format != format_beside(archive.older) => {
            return Err(wrong("its events lie in it otherwise than in the store"));
        }
        Some(_) => {}
    }
    let log: Vec<u8> = meta(connection, "log").map_err(opened)?.unwrap_or_default();
    let log = Uuid::from_slice(&log).map_err(|_| wrong("its identity is damaged"))?;
    let incarnation = meta(connection, "incarnation").map_err(opened)?;
    let id = LogId { log, incarnation: incarnation.ok_or_else(|| wrong("its identity is damaged"))? };
    let sum: Option<i64> = meta(connection, "sum").map_err(opened)?;
    if sum != Some(schema::identity_sum(id, Older::default())) {
        return Err(wrong("its identity does not match its checksum"));
    }
    if id.log != archive.log().log {
        return Err(wrong("it is that of another log"));
    }
    let is_copy = meta::<i64>(connection, "copy").map_err(opened)?.is_some();
    if id != archive.log() && !(is_copy && archive.before == Some(id.incarnation)) {
        let (theirs, ours) = (id.incarnation, archive.log().incarnation);
        return Err(wrong(&format!("it is that of incarnation {theirs} of the log, and this is {ours}")));
    }
    // What left the store was in its archive before.
    let (left, there) = (archive.left(), Counted::of(connection).map_err(opened)?.events);
    if there < left {
        return Err(wrong(&format!("it is an older one: it has {there} events, and {left} left the store")));
    }
    Ok(())
}

impl Counted {
    /// Of an archive.
    pub(crate) fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let number = |name| Ok::<_, rusqlite::Error>(meta::<i64>(connection, name)?.map_or(0, unsigned));
        Ok(Self { events: number("events")?, bytes: number("bytes")? })
    }

    /// Counts what came to an archive; part of a transaction of the caller's.
    pub(super) fn added_to(self, connection: &Connection) -> rusqlite::Result<()> {
        let Self { events, bytes } = Self::of(connection)?;
        Self { events: events + self.events, bytes: bytes + self.bytes }.write(connection)
    }

    /// Writes it down; part of a transaction of the caller's.
    fn write(self, connection: &Connection) -> rusqlite::Result<()> {
        set_meta(connection, "events", signed(self.events))?;
        set_meta(connection, "bytes", signed(self.bytes))
    }
}

/// Makes a copy of an archive fit for a copy of the store that is this log and ends with `head`, and marks it as one. The
/// archive may still be marked as that of an earlier incarnation: whoever opens the copy knows only of the store's.
pub(crate) fn prepare_copy(copy: &mut Connection, log: LogId, head: u64) -> rusqlite::Result<()> {
    let transaction = copy.transaction()?;
    let behind = "SELECT count(*), coalesce(sum(octet_length(data)), 0) FROM _event WHERE position > ?1";
    let (events, bytes): (i64, i64) =
        transaction.query_row(behind, [signed(head)], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let all = Counted::of(&transaction)?;
    // What came to the archive since the store was copied: the copy may say something else there.
    transaction.execute("DELETE FROM _event WHERE position > ?1", [signed(head)])?;
    let left = Counted {
        events: all.events.saturating_sub(unsigned(events)),
        bytes: all.bytes.saturating_sub(unsigned(bytes)),
    };
    left.write(&transaction)?;
    set_identity(&transaction, log)?;
    set_meta(&transaction, "copy", 1)?;
    transaction.commit()
}

/// How many events a store's file and its archive have together; neither is in use.
pub(crate) fn count_both(archive: &Connection, store: &Path) -> Result<u64, Cause> {
    let store = store.to_str().ok_or("the path of a copy must be UTF-8")?;
    archive.execute("ATTACH ?1 AS store", [store])?;
    let both = "SELECT (SELECT count(*) FROM store._event) + (SELECT count(*) FROM main._event AS cold
                 WHERE NOT EXISTS (SELECT 1 FROM store._event AS hot WHERE hot.position = cold.position))";
    let count: i64 = archive.query_row(both, [], |row| row.get(0))?;
    archive.execute("DETACH store", [])?;
    Ok(unsigned(count))
}

fn refused(file: &Path, error: rusqlite::Error) -> Refused {
    match crate::error::is_damage(&error) {
        true => Refused::Wrong { file: file.to_owned(), what: format!("it is damaged: {error}") },
        false => Refused::Unusable { file: file.to_owned(), source: error.into() },
    }
}

fn meta<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> rusqlite::Result<Option<T>> {
    connection.query_row("SELECT value FROM _meta WHERE name = ?1", [name], |row| row.get(0)).optional()
}

fn set_meta(connection: &Connection, name: &str, value: impl ToSql) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO _meta(name, value) VALUES(?1, ?2)";
    connection.prepare_cached(sql)?.execute((name, value)).map(drop)
}
