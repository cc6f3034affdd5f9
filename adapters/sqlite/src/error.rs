//! Why a store's file could not be opened, and how errors of SQLite become errors of the store.

use std::path::PathBuf;
use std::sync::Arc;

use purlin::message::{Fault, FaultKind};
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
        source: std::io::Error,
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

impl Fault for OpenError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::File { .. } | Self::InUse { .. } | Self::Database { .. } => FaultKind::Unavailable,
            Self::Newer { .. } => FaultKind::Rejected,
        }
    }
}

/// Why a transaction was not applied. What SQLite will not take of a commit, it will not take the next time either.
pub(crate) fn refused(error: &Arc<rusqlite::Error>) -> CommitError {
    use rusqlite::ErrorCode::{ConstraintViolation, TooBig, TypeMismatch};
    match error.sqlite_error_code() {
        Some(ConstraintViolation | TooBig | TypeMismatch) => {
            CommitError::Invalid(format!("SQLite refuses it: {error}"))
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
    use rusqlite::Error::{
        FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, QueryReturnedNoRows, Utf8Error,
    };
    let damaged = match &error {
        FromSqlConversionFailure(..)
        | IntegralValueOutOfRange(..)
        | InvalidColumnType(..)
        | QueryReturnedNoRows
        | Utf8Error(..) => true,
        other => matches!(
            other.sqlite_error_code(),
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)
        ),
    };
    match damaged {
        true => ReadError::Unreadable { what: what(), source: error.into() },
        false => unreadable(error),
    }
}

/// The thread that would have answered is gone.
#[derive(Debug, thiserror::Error)]
#[error("the store is closed")]
pub(crate) struct Closed;

/// The disk does not take what the store must write before it can go on.
#[derive(Debug, thiserror::Error)]
#[error("the store is finding out what became of a failed transaction")]
pub(crate) struct Unwell;
