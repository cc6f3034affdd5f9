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
    /// Whether the service ever said something.
    heard: AtomicBool,
    /// Whether it has said nothing since we last did.
    silent: AtomicBool,
    /// Whether it took no more of what we said.
    cut: AtomicBool,
}

/// Connections made by `http`, each of which is watched.
pub(super) fn watched(http: HttpConnector) -> Connector {
    http.map_response(|stream| TokioIo::new(Wire { stream: stream.into_inner(), trace: Arc::default() }))
}

/// Whether a request's connection had served another before, and not a byte of an answer came to this one: then the
/// service closed an idle connection while the request was on its way.
pub(super) fn was_idle(connection: &CaptureConnection) -> bool {
    trace(connection)
        .is_some_and(|trace| trace.heard.load(Ordering::Acquire) && trace.silent.load(Ordering::Acquire))
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
            Poll::Ready(Ok(1..)) => self.trace.silent.store(true, Ordering::Release),
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
