//! The server that a store is on, and how its connections are made.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{sleep, timeout};
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Error, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::address::{Address, Named};
use crate::error::{OpenError, Unreached, met, said};
use crate::pulse;
use crate::tls;
use crate::url::Url;

/// How long a connection may take to be made unless the URL says otherwise.
pub(crate) const CONNECT: Duration = Duration::from_secs(5);

/// What moves the bytes of a connection.
pub(crate) type Driver = Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// A connection that was made.
pub(crate) struct Reached {
    pub(crate) client: Client,
    pub(crate) line: Line,
}

/// What a connection goes over.
pub(crate) struct Line {
    pub(crate) driver: Driver,
    pub(crate) at: Address,
}

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
            config.connect_timeout(CONNECT);
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

    /// The same, of which every server will do.
    pub(crate) fn lenient(mut self) -> Self {
        self.config.target_session_attrs(TargetSessionAttrs::Any);
        self
    }

    /// A new connection to the first server that will do, on which `setup` was said. All that one needs to be made has to come
    /// within the URL's `connect_timeout` (5 s). After a fifth of that the next server is tried beside one that is slow.
    pub(crate) async fn connect(&self, setup: &str) -> Result<Reached, Unreached> {
        let Some(hosts) = Named::all(&self.config) else {
            // The client library says what does not go together.
            let made = self.config.connect(self.tls.clone()).await;
            return Err(made.err().map_or(Unreached::Nowhere, Unreached::Failed));
        };
        self.first(hosts, |host| self.connect_to(host, setup)).await
    }

    async fn connect_to(&self, host: Named, setup: &str) -> Result<Reached, Unreached> {
        let servers = match timeout(self.limit(), host.servers(&self.config)).await {
            Ok(Ok(servers)) => servers,
            Ok(Err(source)) => return Err(Unreached::Unresolved { host, source }),
            Err(_) => return Err(Unreached::Unresolved { host, source: ErrorKind::TimedOut.into() }),
        };
        let reach = |at: Address| async move {
            let (client, driver) = self.reach(&at, setup).await?;
            Ok(Reached { client, line: Line { driver, at } })
        };
        self.first(servers, reach).await
    }

    /// What is made first of what is tried in order. The next is tried once one has failed, or after a while beside it
    /// (as RFC 8305 does it with addresses).
    async fn first<T, M: Future<Output = Result<Reached, Unreached>>>(
        &self,
        all: Vec<T>,
        make: impl Fn(T) -> M,
    ) -> Result<Reached, Unreached> {
        let (mut left, mut under_way) = (VecDeque::from(all), FuturesUnordered::new());
        let mut failed = Unreached::Nowhere;
        loop {
            under_way.extend(left.pop_front().map(&make));
            tokio::select! {
                made = under_way.next() => match made {
                    Some(Ok(made)) => return Ok(made),
                    // What a server says tells more than that another one says nothing.
                    Some(Err(error)) if error.is_an_answer() || !failed.is_an_answer() => failed = error,
                    Some(Err(_)) => {}
                    None => return Err(failed),
                },
                () = sleep(self.limit() / 5), if !left.is_empty() => {}
            }
        }
    }

    /// A new connection to this server, on which `setup` was said.
    pub(crate) async fn reach(&self, at: &Address, setup: &str) -> Result<(Client, Driver), Unreached> {
        let made = async {
            let (client, mut driver) = self.encrypted(at.only(&self.config)).await?;
            {
                let mut said = pin!(client.batch_execute(setup));
                loop {
                    tokio::select! {
                        said = &mut said => break said?,
                        Some(message) = next(&mut driver) => drop(message?),
                    }
                }
            }
            Ok((client, driver))
        };
        let silent = || Unreached::Silent { at: at.clone(), within: self.limit() };
        match timeout(self.limit(), made).await {
            // The client library gives up in the same time when no connection comes, and the system in its own.
            Err(_) => Err(silent()),
            Ok(Err(error)) if met(&error) == Some(ErrorKind::TimedOut) => Err(silent()),
            Ok(made) => made.map_err(Unreached::Failed),
        }
    }

    /// What is done on a connection, while its bytes are moved; an error when the connection ends before, or the server
    /// does not answer any more.
    pub(crate) async fn during<T>(
        &self,
        client: &Client,
        line: Line,
        patience: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, Unreached> {
        let Line { driver, at } = line;
        tokio::select! {
            done = work => Ok(done),
            ended = driver => Err(ended.err().map_or(Unreached::Ended, Unreached::Failed)),
            silent = pulse::silence(client, self, &at, patience) => Err(silent),
        }
    }

    fn limit(&self) -> Duration {
        self.config.get_connect_timeout().copied().unwrap_or(CONNECT)
    }

    /// A connection as far encrypted as it should be and can be.
    async fn encrypted(&self, mut config: Config) -> Result<(Client, Driver), Error> {
        match config.connect(self.tls.clone()).await {
            // Nobody insisted: a server that says it can and then cannot is no reason to go without it.
            Err(error) if config.get_ssl_mode() == SslMode::Prefer && tls::is_refusal(&error) => {
                tracing::warn!(
                    error = said(&error),
                    "the connection to PostgreSQL cannot be encrypted, and is made without"
                );
                config.ssl_mode(SslMode::Disable).connect(self.tls.clone()).await
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

/// What the server says next without being asked; none once the connection has ended.
pub(crate) async fn next(driver: &mut Driver) -> Option<Result<AsyncMessage, Error>> {
    std::future::poll_fn(|cx| driver.poll_message(cx)).await
}
