//! Copies of a store: backups, and restoring from one.
//!
//! A store with an archive has a copy of two files: the second is called as the first, with `.archive` behind it.
//!
//! A copy is *marked*. Whoever opens a marked copy to write begins a new incarnation of the log: from there on it may
//! say something else than the original does, and those who followed the original must not take it for the same.

use std::path::{Path, PathBuf};

use purlin::store::Cause;
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::archive::{self, Archive};
use crate::error::{Closed, OpenError};
use crate::files;
use crate::schema::{self, SchemaError};

/// Makes a store of a copy: of a backup, or of the files of a store that were copied while nobody had it open.
///
/// What is in `copy` is checked and written to `to`, which must not be there yet; `copy` is only read. The restored
/// log is a new incarnation: positions that were given out before mean nothing to it, and a relay or consumer group
/// that followed the old one stops and says so. A backup that is opened where it lies does the same, once. Files that
/// were copied by other means and are opened without this pass for the original.
pub async fn restore(copy: impl Into<PathBuf>, to: impl Into<PathBuf>) -> Result<(), OpenError> {
    let (copy, to) = (copy.into(), to.into());
    let file = to.clone();
    let restored = on_a_thread("sqlite-restore", move || restore_now(&copy, &to)).await;
    restored
        .map_err(|source| OpenError::File { file: file.clone(), source })?
        .unwrap_or_else(|| Err(OpenError::Database { file, source: Closed.into() }))
}

fn restore_now(copy: &Path, to: &Path) -> Result<(), OpenError> {
    let of_copy = |error: SchemaError| error.of(copy);
    if !schema::look(copy).map_err(of_copy)? {
        return Err(of_copy(SchemaError::Empty));
    }
    files::make_folder(to).map_err(|(file, source)| OpenError::File { file, source })?;
    write_copy(copy, to).map_err(|source| OpenError::Database { file: copy.to_owned(), source })
}

/// Runs something that waits for the disk on a thread of its own; nothing when that thread ended early.
pub(crate) async fn on_a_thread<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<Option<T>> {
    let (answer, answered) = oneshot::channel();
    // Whoever asked may have gone.
    std::thread::Builder::new().name(name.into()).spawn(move || drop(answer.send(run())))?;
    Ok(answered.await.ok())
}

/// Why a copy is not to be trusted.
#[derive(Debug, thiserror::Error)]
enum CopyError {
    #[error("`{}` is there already: a copy is not written over anything", .0.display())]
    Exists(PathBuf),
    #[error(
        "`{}` is there without a store beside it: it is what a copy left that was cut off, or another store's; remove it",
        .0.display()
    )]
    Lone(PathBuf),
    #[error("there is no folder `{}`: a copy is written into one that is there", .0.display())]
    NoFolder(PathBuf),
    #[error("the path of a copy must be UTF-8")]
    Path,
    #[error("the copy is damaged: {0}")]
    Damaged(String),
}

/// Writes a marked copy of a store, as of one instant, to a file that is not there yet, and of its archive beside that.
/// It gets its name once it has been checked and is durable: what has the name is whole, and has its archive.
pub(crate) fn write_copy(store: &Path, to: &Path) -> Result<(), Cause> {
    let archive_to = archive::place(to, None);
    if let Some(folder) = to.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
        return Err(CopyError::NoFolder(folder.to_owned()).into());
    }
    if to.try_exists()? {
        return Err(CopyError::Exists(to.to_owned()).into());
    }
    if archive_to.try_exists()? {
        return Err(CopyError::Lone(archive_to).into());
    }
    let (part, archive_part) = (files::beside(to, ".part"), files::beside(&archive_to, ".part"));
    let parts = [&part, &archive_part];
    parts.into_iter().for_each(|part| remove(part));
    let written = write_parts(store, &part, &archive_part).and_then(|has_archive| {
        if has_archive {
            std::fs::rename(&archive_part, &archive_to)?;
        }
        let named = files::sync_folder(to).and_then(|()| std::fs::rename(&part, to));
        if named.is_err() && has_archive {
            remove(&archive_to);
        }
        named?;
        Ok(files::sync_folder(to)?)
    });
    if written.is_err() {
        parts.into_iter().for_each(|part| remove(part));
    }
    written
}

/// Writes the copy, and that of the archive if there is one; whether there is.
fn write_parts(store: &Path, part: &Path, archive_part: &Path) -> Result<bool, Cause> {
    let connection = schema::open_reader(store)?;
    let copy = copy_pages(&connection, part)?;
    let archive = Archive::of(store, &copy, None)?;
    schema::mark_copy(&copy)?;
    finish(copy, part)?;
    let Some(archive) = archive else { return Ok(false) };
    // After the store: what had left it by then is in the archive.
    let head = schema::head(&schema::open_reader(part)?)?;
    let mut copy = copy_pages(&archive::open(&archive)?, archive_part)?;
    archive::prepare_copy(&mut copy, archive.log(), head)?;
    let have: u64 = archive::count_both(&copy, part)?;
    if have != head {
        let missing = head.saturating_sub(have);
        return Err(
            CopyError::Damaged(format!("{missing} of {head} events are in neither file of it")).into()
        );
    }
    finish(copy, archive_part)?;
    Ok(true)
}

/// Copies a file's pages as they are at one instant, and checks them.
fn copy_pages(connection: &Connection, part: &Path) -> Result<Connection, Cause> {
    let name = part.to_str().ok_or(CopyError::Path)?;
    // SQLite takes a file that is empty as one that is not there, and leaves its rights.
    drop(files::create_private(part)?);
    connection.execute("VACUUM INTO ?1", [name])?;
    let copy = Connection::open(part)?;
    copy.pragma_update(None, "journal_mode", "DELETE")?;
    let said: String = copy.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if said != "ok" {
        return Err(CopyError::Damaged(said).into());
    }
    Ok(copy)
}

/// Closes a copy, and makes it durable.
fn finish(copy: Connection, part: &Path) -> Result<(), Cause> {
    copy.close().map_err(|(_, error)| error)?;
    Ok(std::fs::File::open(part)?.sync_all()?)
}

/// Removes what is left of a copy that was not finished: a journal of it would be taken for the next one's.
fn remove(part: &Path) {
    for suffix in ["", "-journal", "-wal", "-shm"] {
        let _ = std::fs::remove_file(files::beside(part, suffix));
    }
}
