//! The files of a store: their names, and that nobody but their owner reads them.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
#[cfg(unix)]
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The file of the same name with something behind it.
pub(crate) fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(suffix);
    name.into()
}

/// Sees to it that a database is a file that its owner alone can read: SQLite gives the files that it makes beside it the
/// rights of the database. One that is there is not opened: whoever closes a file lets go of all the locks that his
/// process has on it, also of those that SQLite relies on.
pub(crate) fn make_private(file: &Path) -> io::Result<()> {
    match create_private(file) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Opens a file, or makes it, readable by its owner alone.
pub(crate) fn open_private(file: &Path) -> io::Result<File> {
    private().create(true).open(file)
}

/// Makes a file that is not there yet, readable by its owner alone.
pub(crate) fn create_private(file: &Path) -> io::Result<File> {
    private().create_new(true).open(file)
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).truncate(false);
    #[cfg(unix)]
    options.mode(0o600);
    options
}

/// Makes the folder of a file, and those above it, for their owner alone; one that is there is left as it is. What was
/// made is durable: a store is not lost with its folder.
pub(crate) fn make_folder(file: &Path) -> Result<(), (PathBuf, io::Error)> {
    let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    let made: Vec<_> = folder.ancestors().take_while(|folder| !folder.exists()).collect();
    if made.is_empty() {
        return Ok(());
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    builder.mode(0o700);
    builder.create(folder).map_err(|error| (folder.to_owned(), error))?;
    for folder in made.into_iter().filter(|folder| !folder.as_os_str().is_empty()).rev() {
        sync_folder(folder).map_err(|error| (folder.to_owned(), error))?;
    }
    Ok(())
}

/// Which file it is that has a name now: another one in its place is another. Where no system tells, all are one.
pub(crate) fn which(file: &Path) -> io::Result<(u64, u64)> {
    let found = std::fs::metadata(file)?;
    #[cfg(unix)]
    let which = (found.dev(), found.ino());
    #[cfg(not(unix))]
    let which = {
        drop(found);
        (0, 0)
    };
    Ok(which)
}

/// Whether a file could be made beside another; why not, if it could not.
pub(crate) fn try_beside(file: &Path) -> io::Result<()> {
    let probe = beside(file, ".probe");
    drop(create_private(&probe)?);
    std::fs::remove_file(probe)
}

/// Makes durable what was made, renamed or removed in the folder of a file.
pub(crate) fn sync_folder(file: &Path) -> io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
