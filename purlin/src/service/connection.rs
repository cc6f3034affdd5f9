//! One connection of a listener.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::ServeConfig;

/// Serves connections alike.
pub(super) struct Server {
    router: Router,
    builder: Builder<Streams>,
    streams: Streams,
    header_timeout: Duration,
    shutdown: CancellationToken,
}

impl Server {
    /// Connections that finish what they have in hand on `shutdown`, and drop it on `cut_off`.
    pub(super) fn new(
        router: Router,
        config: &ServeConfig,
        shutdown: CancellationToken,
        cut_off: CancellationToken,
    ) -> Self {
        let streams = Streams { tracker: TaskTracker::new(), cut_off };
        let mut builder = Builder::new(streams.clone());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(config.header_timeout).half_close(true);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(config.max_streams)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(20));
        Self { router, builder, streams, header_timeout: config.header_timeout, shutdown }
    }

    /// Answers the requests of a connection until it ends.
    pub(super) fn connection<Io>(&self, io: Io) -> impl Future<Output = ()> + Send + use<Io>
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let heard = Arc::new(AtomicBool::new(false));
        let io = TokioIo::new(Impatient::new(io, self.header_timeout, Arc::clone(&heard)));
        let (router, builder, shutdown) = (self.router.clone(), self.builder.clone(), self.shutdown.clone());
        let answer = hyper::service::service_fn(move |request: http::Request<Incoming>| {
            heard.store(true, Ordering::Relaxed);
            router.clone().oneshot(request.map(Body::new))
        });
        async move {
            let mut connection = std::pin::pin!(builder.serve_connection_with_upgrades(io, answer));
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = shutdown.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(error, "a connection broke");
            }
        }
    }

    /// Waits until nothing runs any more that belongs to a connection.
    pub(super) async fn finished(&self) {
        self.streams.tracker.close();
        self.streams.tracker.wait().await;
    }
}

/// Runs the streams of HTTP/2 connections.
#[derive(Clone)]
struct Streams {
    tracker: TaskTracker,
    cut_off: CancellationToken,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let cut_off = self.cut_off.clone();
        self.tracker.spawn(async move { cut_off.run_until_cancelled_owned(stream).await });
    }
}

/// A connection that is broken off unless the client soon says which protocol it speaks: hyper's own time limit
/// begins only after that.
struct Impatient<Io> {
    io: Io,
    patience: Option<Pin<Box<Sleep>>>,
    read: usize,
    heard: Arc<AtomicBool>,
}

/// What HTTP/2 begins with has so many bytes.
const PREFACE: usize = 24;

impl<Io> Impatient<Io> {
    fn new(io: Io, timeout: Duration, heard: Arc<AtomicBool>) -> Self {
        Self { io, patience: Some(Box::pin(sleep(timeout))), read: 0, heard }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Impatient<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut self.io).poll_read(cx, buf) {
            self.read += buf.filled().len() - before;
            if self.read >= PREFACE {
                self.patience = None;
            }
            return Poll::Ready(read);
        }
        if self.heard.load(Ordering::Relaxed) {
            self.patience = None;
        }
        let Some(patience) = &mut self.patience else { return Poll::Pending };
        ready!(patience.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Impatient<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
