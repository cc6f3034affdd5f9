//! How a store is opened.

use std::time::Duration;

use purlin::message::Clock;
use purlin::store::LogId;
use tokio_postgres::Config;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};

use crate::error::OpenError;

/// What an URL says of the archive.
const TABLESPACE: &str = "archive_tablespace=";

/// How a store is opened.
#[derive(Clone)]
pub struct Options {
    /// Where the server is, as PostgreSQL's own programs take it: `postgres://user:password@host:port/database`, or
    /// `host=.. user=..`.
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
    /// How long a commit that was not sent, or a read, waits for a server that is away.
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
        let said = self.archive_tablespace.clone().or_else(|| self.split().1);
        let fits = |name: &str| (1..=63).contains(&name.len()) && !name.chars().any(char::is_control);
        match said {
            Some(name) if !fits(&name) => Err(OpenError::Name { name }),
            said => Ok(said),
        }
    }

    /// The URL without what PostgreSQL's programs do not know, and that: the archive's tablespace.
    fn split(&self) -> (String, Option<String>) {
        let is_url = self.url.contains("://");
        let (mut rest, mut found) = (self.url.clone(), None);
        let (before, parameters, separator) = match self.url.split_once('?') {
            Some((before, parameters)) if is_url => (format!("{before}?"), parameters, '&'),
            _ if is_url => return (rest, None),
            _ => (String::new(), self.url.as_str(), ' '),
        };
        let ours = |parameter: &&str| parameter.starts_with(TABLESPACE);
        if let Some(parameter) = parameters.split(separator).find(ours) {
            found = Some(parameter[TABLESPACE.len()..].to_owned());
            let others: Vec<&str> = parameters.split(separator).filter(|one| !ours(one)).collect();
            rest = format!("{before}{}", others.join(&separator.to_string()));
        }
        (rest, found)
    }

    /// The URL as the client takes it. A peer that is gone is noticed in a minute unless the URL says otherwise.
    pub(crate) fn config(&self) -> Result<Config, OpenError> {
        let mut config: Config = self.split().0.parse().map_err(|source| OpenError::Url { source })?;
        if config.get_ssl_mode() == SslMode::Require {
            return Err(OpenError::Tls);
        }
        config.ssl_mode(SslMode::Disable);
        if config.get_user().is_none() {
            config.user("postgres");
        }
        if config.get_application_name().is_none() {
            config.application_name(format!("purlin {}", self.name));
        }
        if config.get_hosts().len() > 1 {
            // A standby would let us in, and then refuse every commit.
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(5));
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(Duration::from_secs(30));
        }
        config.keepalives_idle(config.get_keepalives_idle().min(Duration::from_secs(30)));
        if config.get_keepalives_interval().is_none() {
            config.keepalives_interval(Duration::from_secs(10));
        }
        Ok(config)
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
