//! One connection, from its first byte to its end.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use hyper::service::service_fn;
use hyper::{server::conn::http1, server::conn::http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::core::Scanner;
use crate::exchange::Exchanges;
use crate::kept::Kept;
use crate::tasks::Tasks;

use super::guard::{Guard, Patience, Refused};
use super::parting::{InHand, Parting};
use super::sniff::{Protocol, sniff};
use super::stall::Watching;
use super::streams::Open;

/// What a connection needs to be served.
pub(super) struct Connection {
    pub(super) exchanges: Arc<Exchanges>,
    pub(super) peer: SocketAddr,
    /// The gateway stops: requests in hand are finished, and a connection that has said nothing yet need not begin.
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
        let refused = Refused::default();
        let scanner = Scanner::new(limits.head_bytes);
        let in_hand = InHand::default();
        let guard = Guard::new(stream, read, scanner, Patience::of(limits), Arc::clone(&refused));
        let guard = guard.with_parting(Parting::of(in_hand.clone()));
        let mut server = http1::Builder::new();
        // The guard times a head that has begun; this bounds the pause before it.
        server.timer(TokioTimer::new()).header_read_timeout(idle);
        server.max_buf_size(limits.head_bytes.max(8 << 10) * 2);
        let (exchanges, peer) = (Arc::clone(&self.exchanges), self.peer.ip());
        let service = service_fn(move |request| {
            let (exchanges, refused, asked) = (Arc::clone(&exchanges), Arc::clone(&refused), in_hand.begin());
            async move {
                let answer = exchanges.answer(peer, request, refused.get()).await;
                Ok::<_, Infallible>(answer.map(|body| Kept::new(body, asked)))
            }
        });
        let mut connection = pin!(server.serve_connection(TokioIo::new(guard), service));
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = self.stopping.cancelled() => {}
        }
        connection.as_mut().graceful_shutdown();
        connection.await
    }

    /// A connection of HTTP/2 takes no new streams when the gateway stops, when it was idle for long, and when it is
    /// old; streams that are open then have their time, but not for ever, since a caller who takes a little of each now
    /// and then holds them open at no cost.
    async fn http2(self, stream: TcpStream, read: BytesMut) -> hyper::Result<()> {
        let limits = self.exchanges.limits();
        let (idle, age) =
            (Duration::from_millis(limits.idle_timeout_ms), Duration::from_millis(limits.http2_age_ms));
        let patience = Patience::of(limits);
        let mut server = http2::Builder::new(Watching::new(self.streams.clone(), patience.write));
        server.timer(TokioTimer::new());
        server.max_concurrent_streams(MAX_STREAMS).max_send_buf_size(MAX_SEND_BUFFER);
        server.max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX));
        server.keep_alive_interval(idle);
        let (exchanges, peer): (_, IpAddr) = (Arc::clone(&self.exchanges), self.peer.ip());
        let open = Open::default();
        let counted = open.clone();
        let service = service_fn(move |request| {
            let (exchanges, stream) = (Arc::clone(&exchanges), counted.begin());
            async move { Ok::<_, Infallible>(stream.until_end_of(exchanges.answer(peer, request, None).await)) }
        });
        let stream = Guard::open(stream, read, patience);
        let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = self.stopping.cancelled() => {}
            () = open.idle_for(idle) => {}
            () = tokio::time::sleep(age) => {}
        }
        connection.as_mut().graceful_shutdown();
        tokio::time::timeout(age, connection).await.unwrap_or_else(|_| {
            tracing::debug!("a connection was cut off: its streams did not end");
            Ok(())
        })
    }
}
