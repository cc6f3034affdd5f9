//! Answers requests on a socket: HTTP/1 and HTTP/2, REST and gRPC, over TCP or a unix socket.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::connection::Server;

/// How patient a listener is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServeConfig {
    /// How long a client may take to say what it wants: for the first bytes, and for the head of each request.
    pub header_timeout: Duration,
    /// How many connections are open at once; further ones wait to be accepted.
    pub max_connections: usize,
    /// How many requests are answered at once on one HTTP/2 connection.
    pub max_streams: u32,
    /// How long requests in hand may take once everything stops.
    pub drain: Duration,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            max_connections: 10_000,
            max_streams: 200,
            drain: Duration::from_secs(10),
        }
    }
}

/// Answers requests with `router` until told to stop; then takes no new connection, finishes the requests in hand,
/// and ends.
///
/// The listener is a `TcpListener` or a `UnixListener`. (For TCP without Nagle's delay, give it
/// `listener.tap_io(|io| { let _ = io.set_nodelay(true); })` of `axum::serve::ListenerExt`.)
pub async fn serve<L: Listener>(
    mut listener: L,
    router: Router,
    config: ServeConfig,
    shutdown: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(config.max_connections));
    let (cut_off, drain) = (CancellationToken::new(), config.drain);
    let server = Server::new(router, &config, shutdown.clone(), cut_off.clone());
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let place = Arc::clone(&room).acquire_owned();
        let accepted = async {
            let place = place.await.expect("nobody closes the semaphore");
            (listener.accept().await.0, place)
        };
        let (io, place) = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = accepted => accepted,
        };
        let connection = server.connection(io);
        connections.spawn(async move {
            connection.await;
            drop(place);
        });
    }
    drop(listener);
    let finished = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(drain, finished).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "requests were cut off: they took too long to finish"
        );
    }
    cut_off.cancel();
    connections.shutdown().await;
    server.finished().await;
}
