//! The server that a store is on, and how its connections are made.

use std::time::Duration;

use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Error, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{OpenError, said};
use crate::tls;
use crate::url::Url;

/// What moves the bytes of a connection.
pub(crate) type Driver = Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// The server, or the servers of which one is to be reached.
#[derive(Clone)]
pub(crate) struct Target {
    config: Config,
    tls: MakeRustlsConnect,
}

impl Target {
    /// What a URL says. A peer that is gone is noticed in a minute unless the URL says otherwise.
    pub(crate) fn new(url: &Url, service: &str) -> Result<Self, OpenError> {
        let mut config: Config = url.rest.parse().map_err(|source| OpenError::Url { source })?;
        if config.get_ssl_mode() != SslMode::Prefer {
            // Said in a way that we did not see: nothing may be weaker than what was asked for.
            return Err(tls::odd("sslmode", "it cannot be read: write `sslmode=require` as it stands here"));
        }
        if config.get_hosts().is_empty() {
            // Without a name, an address is what a certificate must be of.
            for address in config.get_hostaddrs().to_vec() {
                config.host(address.to_string());
            }
        }
        let (mode, tls) = tls::said(url, config.get_hosts(), config.get_hostaddrs())?;
        config.ssl_mode(mode);
        if config.get_user().is_none() {
            config.user("postgres");
        }
        if config.get_application_name().is_none() {
            config.application_name(format!("purlin {service}"));
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
        Ok(Self { config, tls })
    }

    /// The same, of which only a server will do that takes commits.
    pub(crate) fn writable(mut self) -> Self {
        self.config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        self
    }

    /// A new connection.
    pub(crate) async fn connect(&self) -> Result<(Client, Driver), Error> {
        match self.config.connect(self.tls.clone()).await {
            // Nobody insisted: a server that says it can and then cannot is no reason to go without it.
            Err(error) if self.config.get_ssl_mode() == SslMode::Prefer && tls::is_refusal(&error) => {
                tracing::warn!(
                    error = said(&error),
                    "the connection to PostgreSQL cannot be encrypted, and is made without"
                );
                let mut plain = self.config.clone();
                plain.ssl_mode(SslMode::Disable).connect(self.tls.clone()).await
            }
            made => made,
        }
    }

    /// How far connections are encrypted.
    #[cfg(test)]
    pub(crate) fn mode(&self) -> SslMode {
        self.config.get_ssl_mode()
    }
}

/// What comes of a use of a connection, as long as that is there.
pub(crate) async fn with<T>(
    driver: Driver,
    using: impl Future<Output = Result<T, OpenError>>,
) -> Result<T, OpenError> {
    tokio::select! {
        used = using => used,
        ended = driver => Err(OpenError::Unreachable {
            source: ended.err().map_or_else(|| "the server ended the connection".into(), Into::into),
        }),
    }
}
