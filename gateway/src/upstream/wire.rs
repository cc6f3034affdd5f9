//! Connections to services that know whether they were used before, whether they were heard from since, and how they broke.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use http::Extensions;
use hyper_util::client::legacy::connect::{CaptureConnection, Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tower::util::{MapResponse, ServiceExt as _};

/// Makes such connections.
pub(super) type Connector = MapResponse<HttpConnector, fn(TokioIo<TcpStream>) -> TokioIo<Wire>>;

/// A connection to a service.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    trace: Arc<Trace>,
}

/// What came over a connection.
#[derive(Debug, Default)]
struct Trace {
    /// Whether it ever took something of what we said.
    written: AtomicBool,
    /// Whether the service ever said something.
    heard: AtomicBool,
    /// Whether it has said nothing since we last did.
    silent: AtomicBool,
    /// Whether it took no more of what we said.
    cut: AtomicBool,
}

impl Trace {
    fn is_idle(&self) -> bool {
        let unanswered = self.silent.load(Ordering::Acquire) || self.cut.load(Ordering::Acquire);
        self.heard.load(Ordering::Acquire) && unanswered
    }

    /// Whether anything was ever written. Of a connection that had served another that is so of his request; it breaks but
    /// once.
    fn is_begun(&self) -> bool {
        self.written.load(Ordering::Acquire)
    }
}

/// Connections made by `http`, each of which is watched.
pub(super) fn watched(http: HttpConnector) -> Connector {
    http.map_response(|stream| TokioIo::new(Wire { stream: stream.into_inner(), trace: Arc::default() }))
}

/// Whether a request's connection had served another before, and not a byte of an answer came to this one: then the
/// service closed an idle connection while the request was on its way, or before a byte of it was.
pub(super) fn was_idle(connection: &CaptureConnection) -> bool {
    trace(connection).is_some_and(|trace| trace.is_idle())
}

/// Whether the service may have taken something of a request whose connection broke without an answer: who has nothing of
/// it cannot have refused it.
pub(super) fn was_begun(connection: &CaptureConnection) -> bool {
    trace(connection).is_some_and(|trace| trace.is_begun())
}

/// Whether a request's connection broke while we wrote, and not while we waited for the answer.
pub(super) fn was_cut(connection: &CaptureConnection) -> bool {
    trace(connection).is_some_and(|trace| trace.cut.load(Ordering::Acquire))
}

fn trace(connection: &CaptureConnection) -> Option<Arc<Trace>> {
    let mut extras = Extensions::new();
    connection.connection_metadata().as_ref()?.get_extras(&mut extras);
    extras.remove()
}

impl Wire {
    fn told(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Ready(Ok(1..)) => {
                self.trace.written.store(true, Ordering::Release);
                self.trace.silent.store(true, Ordering::Release);
            }
            Poll::Ready(Err(_)) => self.trace.cut.store(true, Ordering::Release),
            Poll::Ready(Ok(_)) | Poll::Pending => {}
        }
    }
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(Arc::clone(&self.trace))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, into);
        if into.filled().len() > before {
            self.trace.heard.store(true, Ordering::Release);
            self.trace.silent.store(false, Ordering::Release);
        }
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.told(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.told(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Both ends of a connection.
    async fn connected() -> (Wire, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (service, _) = listener.accept().await.unwrap();
        (Wire { stream, trace: Arc::default() }, service)
    }

    /// The service resets it, and that has arrived.
    async fn reset(wire: &Wire, service: TcpStream) {
        service.set_zero_linger().unwrap();
        drop(service);
        wire.stream.peek(&mut [0]).await.unwrap_err();
    }

    fn seen(wire: &Wire) -> (bool, bool) {
        (wire.trace.is_begun(), wire.trace.cut.load(Ordering::Acquire))
    }

    #[tokio::test]
    async fn of_a_connection_that_breaks_at_once_nothing_was_taken() {
        let (mut wire, service) = connected().await;
        reset(&wire, service).await;
        wire.write_all(b"GET").await.unwrap_err();
        assert_eq!(seen(&wire), (false, true));
        assert!(!wire.trace.is_idle(), "it has served nobody");
    }

    #[tokio::test]
    async fn a_connection_that_had_served_another_can_break_before_anything_is_written() {
        let (mut wire, mut service) = connected().await;
        wire.write_all(b"GET").await.unwrap();
        assert_eq!(seen(&wire), (true, false));
        service.read_exact(&mut [0; 3]).await.unwrap();
        service.write_all(b"200").await.unwrap();
        wire.read_exact(&mut [0; 3]).await.unwrap();
        reset(&wire, service).await;
        wire.write_all(b"GET").await.unwrap_err();
        assert_eq!(seen(&wire), (true, true));
        assert!(wire.trace.is_idle(), "it can be sent again elsewhere");
    }

    #[tokio::test]
    async fn what_was_taken_of_a_request_is_taken_whatever_the_service_says_before_its_answer() {
        let (mut wire, mut service) = connected().await;
        wire.write_all(b"POST").await.unwrap();
        service.read_exact(&mut [0; 4]).await.unwrap();
        service.write_all(b"100").await.unwrap();
        wire.read_exact(&mut [0; 3]).await.unwrap();
        assert_eq!(seen(&wire), (true, false));
        assert!(!wire.trace.is_idle(), "it has been heard");
    }

    #[tokio::test]
    async fn who_speaks_before_he_is_spoken_to_has_taken_nothing() {
        let (mut wire, mut service) = connected().await;
        service.write_all(b"421").await.unwrap();
        wire.read_exact(&mut [0; 3]).await.unwrap();
        reset(&wire, service).await;
        wire.write_all(b"GET").await.unwrap_err();
        assert_eq!(seen(&wire), (false, true));
    }

    #[tokio::test]
    async fn a_connection_can_break_behind_a_part_of_a_request() {
        let (mut wire, service) = connected().await;
        wire.write_all(b"POST").await.unwrap();
        reset(&wire, service).await;
        wire.write_all(b"body").await.unwrap_err();
        assert_eq!(seen(&wire), (true, true));
    }
}
