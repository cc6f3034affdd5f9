//! The server that a store is on, and how its connections are made.

use std::time::Duration;

use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Error, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::OpenError;
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
        self.config.connect(self.tls.clone()).await
    }

    /// How far connections are encrypted.
    #[cfg(test)]
    pub(crate) fn mode(&self) -> tokio_postgres::config::SslMode {
        self.config.get_ssl_mode()
    }
}
