//! One connection, from its first byte to its end.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use hyper::service::service_fn;
use hyper::{server::conn::http1, server::conn::http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::core::Scanner;
use crate::exchange::Exchanges;
use crate::tasks::Tasks;

use super::guard::{Guard, Refused};
use super::sniff::{Protocol, sniff};

/// What a connection needs to be served.
pub(super) struct Connection {
    pub(super) exchanges: Arc<Exchanges>,
    pub(super) peer: SocketAddr,
    pub(super) watcher: Watcher,
    /// The gateway stops: a connection that has said nothing yet need not.
    pub(super) stopping: CancellationToken,
    /// Where the streams of HTTP/2 run.
    pub(super) streams: Tasks,
}

const MAX_STREAMS: u32 = 100;
const MAX_SEND_BUFFER: usize = 64 << 10;

impl Connection {
    /// Answers all requests of the connection.
    pub(super) async fn serve(self, mut stream: TcpStream) {
        let _open = self.exchanges.connection_opens();
        let head_timeout = Duration::from_millis(self.exchanges.limits().head_timeout_ms);
        let _ = stream.set_nodelay(true);
        let first = tokio::select! {
            first = tokio::time::timeout(head_timeout, sniff(&mut stream)) => first,
            () = self.stopping.cancelled() => return,
        };
        let ended = match first {
            Ok(Ok(Some(Protocol::Http1(read)))) => self.http1(stream, read).await,
            Ok(Ok(Some(Protocol::Http2(read)))) => self.http2(stream, read).await,
            Ok(Ok(None) | Err(_)) | Err(_) => return,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection broke off");
        }
    }

    async fn http1(self, stream: TcpStream, read: BytesMut) -> hyper::Result<()> {
        let limits = self.exchanges.limits();
        let idle = Duration::from_millis(limits.idle_timeout_ms);
        let head = Duration::from_millis(limits.head_timeout_ms);
        let refused = Refused::default();
        let scanner = Scanner::new(limits.head_bytes);
        let guard = Guard::new(stream, read, scanner, head, Arc::clone(&refused));
        let mut server = http1::Builder::new();
        // The guard times a head that has begun; this bounds the pause before it.
        server.timer(TokioTimer::new()).header_read_timeout(idle);
        server.max_buf_size(limits.head_bytes.max(8 << 10) * 2);
        let (exchanges, peer) = (self.exchanges, self.peer.ip());
        let service = service_fn(move |request| {
            let (exchanges, refused) = (Arc::clone(&exchanges), Arc::clone(&refused));
            async move { Ok::<_, Infallible>(exchanges.answer(peer, request, refused.get()).await) }
        });
        self.watcher.watch(server.serve_connection(TokioIo::new(guard), service)).await
    }

    async fn http2(self, stream: TcpStream, read: BytesMut) -> hyper::Result<()> {
        let limits = self.exchanges.limits();
        let mut server = http2::Builder::new(self.streams.clone());
        server.timer(TokioTimer::new());
        server.max_concurrent_streams(MAX_STREAMS).max_send_buf_size(MAX_SEND_BUFFER);
        server.max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX));
        server.keep_alive_interval(Duration::from_millis(limits.idle_timeout_ms));
        let (exchanges, peer): (_, IpAddr) = (Arc::clone(&self.exchanges), self.peer.ip());
        let service = service_fn(move |request| {
            let exchanges = Arc::clone(&exchanges);
            async move { Ok::<_, Infallible>(exchanges.answer(peer, request, None).await) }
        });
        let stream = Guard::open(stream, read);
        self.watcher.watch(server.serve_connection(TokioIo::new(stream), service)).await
    }
}
