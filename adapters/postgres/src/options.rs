//! How a store is opened.

use std::time::Duration;

use purlin::message::Clock;
use purlin::store::LogId;

use crate::error::OpenError;
use crate::target::Target;
use crate::url::Url;

/// How a store is opened.
#[derive(Clone)]
pub struct Options {
    /// Where the server is, as PostgreSQL's own programs take it: `postgres://user:password@host:port/database`, or
    /// `host=.. user=..`. With `sslmode`, `sslrootcert` (a file, or `system`), `sslcert` and `sslkey` it says how far
    /// connections are encrypted, and what the server must show; see [the crate](crate#encryption).
    pub url: String,
    /// The service; its store is the schema of this name.
    pub name: String,
    /// Commits that may wait for the writer; one more is answered with `Overloaded`.
    pub queue: usize,
    /// Bytes of commits that may wait for the writer; more are answered with `Overloaded`.
    pub queue_bytes: usize,
    /// Connections that read.
    pub readers: usize,
    /// Whether a second process on the same store is refused. Commits of several are right, but what runs beside them
    /// (relays, consumer groups, sagas) may be made for one.
    pub sole: bool,
    /// How long a commit that was not sent, or a read, waits for a server that is away. A statement that takes longer is
    /// waited for as long as the server answers on another connection within the URL's `connect_timeout`; if it does not,
    /// the connection is given up.
    pub patience: Duration,
    /// Tells when a commit happens.
    pub clock: Clock,
    /// In which tablespace the archive is made; where all else is when none is said, here or in the URL as
    /// `archive_tablespace=NAME`. An archive that there is stays where it is (`ALTER TABLE .. SET TABLESPACE` moves it).
    pub archive_tablespace: Option<String>,
    /// Which log a store that is made anew is to go on as (for imports); a new one when none is said.
    pub log: Option<LogId>,
    /// Opens a store into which an import was cut off, too: for that import to go on, and to look at what came. It is
    /// refused otherwise, because it has half of a log.
    pub half_imported: bool,
}

impl Options {
    /// The defaults for a service's store in a database.
    pub fn new(url: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            name: name.into(),
            queue: 16 * 1024,
            queue_bytes: 64 << 20,
            readers: 2,
            sole: false,
            patience: Duration::from_secs(5),
            clock: Clock::system(),
            archive_tablespace: None,
            log: None,
            half_imported: false,
        }
    }

    /// Where the archive is to be made.
    pub(crate) fn tablespace_of_archive(&self) -> Result<Option<String>, OpenError> {
        let of_url = || Url::split(&self.url).get("archive_tablespace").map(str::to_owned);
        let said = self.archive_tablespace.clone().or_else(of_url);
        let fits = |name: &str| (1..=63).contains(&name.len()) && !name.chars().any(char::is_control);
        match said {
            Some(name) if !fits(&name) => Err(OpenError::Name { name }),
            said => Ok(said),
        }
    }

    /// The server that the URL says.
    pub(crate) fn target(&self) -> Result<Target, OpenError> {
        Target::new(&Url::split(&self.url), &self.name)
    }
}

impl std::fmt::Debug for Options {
    /// Without the URL, which may have a password in it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("name", &self.name)
            .field("queue", &self.queue)
            .field("queue_bytes", &self.queue_bytes)
            .field("readers", &self.readers)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}
