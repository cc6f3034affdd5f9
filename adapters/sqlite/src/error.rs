//! Why a store's file could not be opened, and how errors of SQLite become errors of the store.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use purlin::message::{Fault, FaultKind};
use purlin::store::transfer::HalfImported;
use purlin::store::{Cause, CommitError, ReadError};

/// A store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder or file cannot be made or opened.
    #[error("cannot open `{}`", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// This process may not write the file or its folder.
    #[error(
        "`{}` is read-only for this process: mount the disk writable, or give the process's user the right to write the \
         file and its folder (a backup on a read-only disk is restored to another one first)",
        file.display()
    )]
    ReadOnly {
        /// The file or folder.
        file: PathBuf,
        /// Why.
        #[source]
        source: Cause,
    },
    /// Another process serves the store.
    #[error("`{}` is in use by another process: stop it first, or use its operator socket", file.display())]
    InUse {
        /// The store's file.
        file: PathBuf,
    },
    /// A newer version of purlin wrote the file.
    #[error("`{}` has format {found}, this program knows formats up to {known}: use a newer program", file.display())]
    Newer {
        /// The store's file.
        file: PathBuf,
        /// The file's format.
        found: i64,
        /// The newest format that is understood.
        known: i64,
    },
    /// An import into the store was cut off.
    #[error("`{}` is not opened", file.display())]
    HalfImported {
        /// The store's file.
        file: PathBuf,
        /// What was imported, and what to do.
        #[source]
        source: HalfImported,
    },
    /// SQLite refuses the file, or it is not a store.
    #[error("`{}` cannot be used as a store", file.display())]
    Database {
        /// The store's file.
        file: PathBuf,
        /// Why.
        #[source]
        source: Cause,
    },
}

impl OpenError {
    /// What the system says about a file.
    pub(crate) fn of_io(file: PathBuf, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::ReadOnly { file, source: source.into() }
            }
            _ => Self::File { file, source },
        }
    }
}

impl Fault for OpenError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::File { .. } | Self::ReadOnly { .. } | Self::InUse { .. } | Self::Database { .. } => {
                FaultKind::Unavailable
            }
            Self::Newer { .. } | Self::HalfImported { .. } => FaultKind::Rejected,
        }
    }
}

/// Why a transaction was not applied. What SQLite will not take of a commit, it will not take the next time either.
pub(crate) fn refused(error: &Arc<rusqlite::Error>) -> CommitError {
    use rusqlite::ErrorCode::{
        CannotOpen, ConstraintViolation, DiskFull, ReadOnly, SystemIoFailure, TooBig, TypeMismatch,
    };
    match error.sqlite_error_code() {
        Some(ConstraintViolation | TooBig | TypeMismatch) => {
            CommitError::Invalid(format!("SQLite refuses it: {error}"))
        }
        Some(DiskFull | ReadOnly | SystemIoFailure | CannotOpen) => {
            unavailable(Unwritable { source: Arc::clone(error) })
        }
        _ => unavailable(Arc::clone(error)),
    }
}

/// An error of SQLite while writing: nothing was applied.
pub(crate) fn unavailable(error: impl Into<Cause>) -> CommitError {
    CommitError::Unavailable(error.into())
}

/// Nothing can be read, of whatever it may be.
pub(crate) fn unreadable(error: impl Into<Cause>) -> ReadError {
    ReadError::Unavailable(error.into())
}

/// An error of SQLite while reading something. What is damaged stays so: reading it again would not help.
#[cold]
pub(crate) fn unreadable_as(error: rusqlite::Error, what: impl FnOnce() -> String) -> ReadError {
    match is_damage(&error) {
        true => ReadError::Unreadable { what: what(), source: cause_of(error) },
        false => unreadable(error),
    }
}

/// The same in a transaction of the writer.
#[cold]
pub(crate) fn in_writer(error: rusqlite::Error, what: impl FnOnce() -> String) -> rusqlite::Error {
    match is_damage(&error) {
        // The one error of SQLite's that is told as what is in it.
        true => rusqlite::Error::ToSqlConversionFailure(Box::new(Unreadable {
            what: what(),
            source: cause_of(error),
        })),
        false => error,
    }
}

/// Whether an error says that the file is damaged.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{
        FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, QueryReturnedNoRows,
        ToSqlConversionFailure, Utf8Error,
    };
    match error {
        FromSqlConversionFailure(..)
        | IntegralValueOutOfRange(..)
        | InvalidColumnType(..)
        | QueryReturnedNoRows
        | Utf8Error(..) => true,
        ToSqlConversionFailure(cause) => cause.is::<Unreadable>(),
        other => matches!(
            other.sqlite_error_code(),
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)
        ),
    }
}

/// What is in an error, where its frame says nothing.
fn cause_of(error: rusqlite::Error) -> Cause {
    match error {
        rusqlite::Error::FromSqlConversionFailure(_, _, cause) => cause,
        other => other.into(),
    }
}

/// What the writer must know to go on is damaged.
#[derive(Debug, thiserror::Error)]
#[error("{what} cannot be read")]
struct Unreadable {
    what: String,
    #[source]
    source: Cause,
}

/// The thread that would have answered is gone.
#[derive(Debug, thiserror::Error)]
#[error("the store is closed")]
pub(crate) struct Closed;

/// The disk does not take what a commit writes.
#[derive(Debug, thiserror::Error)]
#[error("the disk takes no writes: is it full, or read-only? The store goes on by itself once it does")]
struct Unwritable {
    #[source]
    source: Arc<rusqlite::Error>,
}

/// The disk does not take what the store must write before it can go on.
#[derive(Debug, thiserror::Error)]
#[error(
    "the store is finding out what became of a failed transaction, and the disk takes no writes: is it full, or \
     read-only? The store goes on by itself once it does"
)]
pub(crate) struct Unwell;
