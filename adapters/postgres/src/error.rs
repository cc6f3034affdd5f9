//! Why a store could not be opened, and what an error of the server means.

use std::io::ErrorKind;
use std::time::Duration;

use purlin::message::{Fault, FaultKind};
use purlin::store::transfer::HalfImported;
use purlin::store::{Cause, CommitError, ReadError};
use tokio_postgres::error::{Severity, SqlState};

use crate::address::{Address, Named};
use crate::tls;

/// A store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL is not one of PostgreSQL.
    #[error("not the URL of a PostgreSQL database: write postgres://user:password@host:port/database")]
    Url {
        /// What is wrong with it.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The encryption that the URL asks for cannot be set up.
    #[error("connections cannot be encrypted as the URL says: `{what}`")]
    Tls {
        /// Which parameter is at fault, and its file.
        what: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// The name cannot name a schema.
    #[error("`{name}` cannot name a schema: 1 to 63 bytes, no control characters, not `pg_..`")]
    Name {
        /// The name of the service.
        name: String,
    },
    /// The server cannot be reached, or does not let us in.
    #[error("the PostgreSQL server cannot be reached")]
    Unreachable {
        /// Why.
        #[source]
        source: Cause,
    },
    /// Another process has the store open, and it is for one alone.
    #[error("the schema `{schema}` is in use by another process: stop it first, or take another database")]
    InUse {
        /// The schema.
        schema: String,
    },
    /// A newer version of purlin wrote the schema.
    #[error(
        "the schema `{schema}` has format {found}, this program knows formats up to {known}: use a newer program"
    )]
    Newer {
        /// The schema.
        schema: String,
        /// Its format.
        found: i64,
        /// The newest format that is understood.
        known: i64,
    },
    /// An import into the store was cut off.
    #[error("the schema `{schema}` is not opened")]
    HalfImported {
        /// The schema.
        schema: String,
        /// What was imported, and what to do.
        #[source]
        source: HalfImported,
    },
    /// The server refuses what the store needs, or the schema is not a store.
    #[error("the schema `{schema}` cannot be used as a store")]
    Database {
        /// The schema.
        schema: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// The operating system refuses.
    #[error("cannot start the thread that serves the store")]
    Thread {
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl From<Unreached> for OpenError {
    fn from(source: Unreached) -> Self {
        Self::Unreachable { source: source.into() }
    }
}

impl Fault for OpenError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Unreachable { .. } | Self::InUse { .. } | Self::Database { .. } | Self::Thread { .. } => {
                FaultKind::Unavailable
            }
            Self::Url { .. }
            | Self::Tls { .. }
            | Self::Name { .. }
            | Self::Newer { .. }
            | Self::HalfImported { .. } => FaultKind::Rejected,
        }
    }
}

/// Why a connection was not made, or is no good any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreached {
    #[error(transparent)]
    Failed(#[from] tokio_postgres::Error),
    #[error("the server at {at} gives no answer: nothing in {within:?}")]
    Silent { at: Address, within: Duration },
    #[error("the name of the server {host} cannot be resolved")]
    Unresolved { host: Named, source: std::io::Error },
    #[error("the server ended the connection")]
    Ended,
    #[error("there is no address of a server")]
    Nowhere,
}

impl Unreached {
    /// Whether it may be better in a moment: a server that is starting, or hangs.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Failed(error) => match error.code() {
                Some(code) => *code == SqlState::CANNOT_CONNECT_NOW,
                None => is_lost(error) && !tls::is_refusal(error),
            },
            Self::Silent { .. } | Self::Unresolved { .. } | Self::Ended => true,
            Self::Nowhere => false,
        }
    }

    /// What the server said, or what was met, and why.
    pub(crate) fn said(&self) -> String {
        match self {
            Self::Failed(error) => said(error),
            Self::Unresolved { source, .. } => format!("{self}: {source}"),
            Self::Silent { .. } | Self::Ended | Self::Nowhere => self.to_string(),
        }
    }

    /// Whether nothing came from the server's machine: no answer, or only word from others that there is no way to it.
    pub(crate) fn is_silence(&self) -> bool {
        match self {
            Self::Silent { .. } => true,
            Self::Failed(error) => {
                matches!(met(error), Some(ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable))
            }
            Self::Unresolved { .. } | Self::Ended | Self::Nowhere => false,
        }
    }

    /// Whether a server said it, or what stands before it.
    pub(crate) fn is_an_answer(&self) -> bool {
        matches!(self, Self::Failed(error) if error.as_db_error().is_some())
    }
}

/// Nothing was applied.
pub(crate) fn unavailable(error: impl Into<Cause>) -> CommitError {
    CommitError::Unavailable(error.into())
}

/// An error while reading, of a server that was there.
pub(crate) fn unreadable(error: tokio_postgres::Error) -> ReadError {
    if is_of_the_values(&error) {
        return ReadError::Invalid(said(&error));
    }
    ReadError::Unavailable(error.into())
}

/// Whether the connection is gone, so that it is not known what became of what was sent last.
pub(crate) fn is_lost(error: &tokio_postgres::Error) -> bool {
    match error.as_db_error() {
        Some(said) => !refuses(said.parsed_severity(), said.code()),
        None => error.is_closed() || met(error).is_some(),
    }
}

/// Whether an error that came in words is of a server that goes on to serve the connection, and rolled back what it
/// speaks of.
///
/// What a server itself says has a severity that is not translated. What stands between, and has lost the server, says
/// something without one, or of the class of connections: PgBouncer, for example.
fn refuses(severity: Option<Severity>, code: &SqlState) -> bool {
    let of_a_connection = code.code().starts_with("08");
    let ends = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW];
    matches!(severity, Some(Severity::Error)) && !of_a_connection && !ends.contains(code)
}

/// Whether it is the values that the server does not take: they never will be.
pub(crate) fn is_of_the_values(error: &tokio_postgres::Error) -> bool {
    // Data exceptions, limits of the program.
    error.code().is_some_and(|code| ["22", "54"].contains(&&code.code()[..2]))
}

/// Whether every commit would meet the same error: no space, no right to write, told to stop.
pub(crate) fn concerns_all(error: &tokio_postgres::Error) -> bool {
    error
        .code()
        .is_none_or(|code| ["25", "28", "42", "53", "55", "57", "58", "XX"].contains(&&code.code()[..2]))
}

/// Whether a table or column is not there, as after another process changed the collections.
pub(crate) fn is_stale(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| *code == SqlState::UNDEFINED_TABLE || *code == SqlState::UNDEFINED_COLUMN)
}

/// Whether the server only reads: a standby, or one that was told to. Another connection may meet another server.
pub(crate) fn is_of_a_standby(error: &tokio_postgres::Error) -> bool {
    // A standby does not let a transaction write (25006), nor begin as one that may (0A000).
    error.code().is_some_and(|code| {
        [SqlState::READ_ONLY_SQL_TRANSACTION, SqlState::FEATURE_NOT_SUPPORTED].contains(code)
    })
}

/// What the system met, when that is why.
pub(crate) fn met(error: &tokio_postgres::Error) -> Option<ErrorKind> {
    let source = std::error::Error::source(error)?;
    source.downcast_ref::<std::io::Error>().map(std::io::Error::kind)
}

/// What the server said, without what the client adds; or what the client met, and why.
pub(crate) fn said(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), std::error::Error::source(error)) {
        (Some(refused), _) => refused.message().to_owned(),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

/// The thread that would have answered is gone.
#[derive(Debug, thiserror::Error)]
#[error("the store is closed")]
pub(crate) struct Closed;

/// The server was away for longer than the caller's patience; nothing was sent to it.
#[derive(Debug, thiserror::Error)]
#[error("the PostgreSQL server did not take the commit in time")]
pub(crate) struct Away;

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
    use tokio_postgres::{Config, NoTls};

    use super::*;

    /// A way on which only that is met.
    struct Meets(ErrorKind);

    impl AsyncRead for Meets {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(self.0.into()))
        }
    }

    impl AsyncWrite for Meets {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(self.0.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(self.0.into()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_machine_to_which_there_is_no_way_says_nothing_and_one_that_refuses_does() {
        for (kind, silent) in [
            (ErrorKind::HostUnreachable, true),
            (ErrorKind::NetworkUnreachable, true),
            (ErrorKind::ConnectionRefused, false),
            (ErrorKind::ConnectionReset, false),
        ] {
            let mut config = Config::new();
            let met = config.user("u").connect_raw(Meets(kind), NoTls).await.err().unwrap();
            assert_eq!(Unreached::Failed(met).is_silence(), silent, "{kind}");
        }
    }

    #[test]
    fn only_a_server_that_goes_on_has_rolled_back() {
        let unique = SqlState::UNIQUE_VIOLATION;
        assert!(refuses(Some(Severity::Error), &unique));
        assert!(!refuses(Some(Severity::Fatal), &unique) && !refuses(Some(Severity::Panic), &unique));
        // A pool that has lost its server: no severity that is not translated, a protocol violation.
        assert!(!refuses(None, &SqlState::PROTOCOL_VIOLATION) && !refuses(None, &unique));
        assert!(!refuses(Some(Severity::Error), &SqlState::CONNECTION_FAILURE));
        assert!(!refuses(Some(Severity::Error), &SqlState::ADMIN_SHUTDOWN));
    }
}
