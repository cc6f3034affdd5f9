//! A connection that lets through only what its scanner lets pass.

use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::config::Limits;
use crate::core::{Scanner, Violation};

use super::parting::Parting;

/// The head that was refused on a connection, if one was; the connection's last.
pub(crate) type Refused = Arc<OnceLock<RefusedHead>>;

/// A head that never reached the server's parser.
#[derive(Debug)]
pub(crate) struct RefusedHead {
    /// What is wrong with it.
    pub(crate) violation: Violation,
    /// The path it asks for, as far as it can be told.
    pub(crate) target: String,
}

/// The method of the request that stands for one that was refused: no method that a scanner lets pass is in small
/// letters.
pub(crate) const REFUSED: &str = "refused";
const STAND_IN: &[u8] = b"refused / HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n\r\n";

/// How long and how much is read of what a caller still sends when his connection is closed: closed at once, it would
/// be reset, and the answer might be lost with it.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 16 << 20;

/// How long a caller is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// From the first byte of a head to its last.
    pub(super) head: Duration,
    /// Until he takes some more of what is written to him.
    pub(super) write: Duration,
}

impl Patience {
    pub(super) fn of(limits: &Limits) -> Self {
        let (head, write) = (limits.head_timeout_ms, limits.write_timeout_ms);
        Self { head: Duration::from_millis(head), write: Duration::from_millis(write) }
    }
}

/// A stream in front of which a [`Scanner`] stands.
///
/// A violation in a head becomes a stand-in request, so that its answer takes its turn behind those of the requests
/// before it; one in a body becomes an error of the body. Nothing is read after either.
#[derive(Debug)]
pub(super) struct Guard<S> {
    stream: S,
    /// `None`: everything passes.
    scanner: Option<Scanner>,
    unread: BytesMut,
    /// How much of `unread` may pass.
    passable: usize,
    refused: Refused,
    patience: Patience,
    /// Runs while a head is incomplete.
    timer: Option<Pin<Box<Sleep>>>,
    /// Runs while the caller takes nothing of what is written to him.
    write_timer: Option<Pin<Box<Sleep>>>,
    parting: Parting,
    linger: Option<Linger>,
}

#[derive(Debug)]
struct Linger {
    until: Pin<Box<Sleep>>,
    left: usize,
}

const READ_SIZE: usize = 8 << 10;

impl<S> Guard<S> {
    /// A guarded stream from which `read` was read already.
    pub(super) fn new(
        stream: S,
        read: BytesMut,
        scanner: Scanner,
        patience: Patience,
        refused: Refused,
    ) -> Self {
        Self { scanner: Some(scanner), passable: 0, refused, ..Self::open(stream, read, patience) }
    }

    /// A stream that everything passes, from which `read` was read already.
    pub(super) fn open(stream: S, read: BytesMut, patience: Patience) -> Self {
        Self {
            stream,
            scanner: None,
            passable: read.len(),
            unread: read,
            refused: Refused::default(),
            patience,
            timer: None,
            write_timer: None,
            parting: Parting::default(),
            linger: None,
        }
    }

    /// The same, which waits so for a caller who has closed his side.
    pub(super) fn with_parting(self, parting: Parting) -> Self {
        Self { parting, ..self }
    }

    /// Finds out how much may pass.
    fn scan(&mut self) -> io::Result<()> {
        let Some(scanner) = &mut self.scanner else {
            self.passable = self.unread.len();
            return Ok(());
        };
        match scanner.scan(&self.unread) {
            Ok(passable) => {
                self.passable = passable;
                Ok(())
            }
            Err(violation) if scanner.in_head() => {
                self.refuse(violation);
                Ok(())
            }
            Err(violation) => Err(io::Error::new(io::ErrorKind::InvalidData, violation)),
        }
    }

    /// Puts the stand-in in the place of all that was read.
    #[cold]
    fn refuse(&mut self, violation: Violation) {
        let target = target(&self.unread);
        // Set once: nothing is scanned afterwards.
        let _ = self.refused.set(RefusedHead { violation, target });
        self.timer = None;
        self.unread.clear();
        self.unread.extend_from_slice(STAND_IN);
        self.passable = self.unread.len();
    }

    /// Whether an incomplete head is waiting for its rest; not if it has waited too long.
    fn poll_head_timer(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let in_head = self.scanner.as_ref().is_some_and(Scanner::in_head);
        if !in_head || self.unread.is_empty() {
            self.timer = None;
            return Poll::Pending;
        }
        let deadline = Instant::now() + self.patience.head;
        self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline))).as_mut().poll(context)
    }

    /// What a write came to; an error if the caller has taken nothing for too long. Without that, one who asks and
    /// does not read holds a connection for ever.
    fn poll_written<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_timer = None;
            self.parting.took();
            return written;
        }
        let deadline = Instant::now() + self.patience.write;
        let timer = self.write_timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        timer.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Whether the caller may be sending something that nobody will read. A caller whose requests were all read and
    /// answered has nothing to say that could cost him his answer.
    fn may_have_more(&self) -> bool {
        self.refused.get().is_some() || !self.has_said_all()
    }

    /// Whether all that was read are whole requests.
    fn has_said_all(&self) -> bool {
        self.unread.is_empty() && self.scanner.as_ref().is_some_and(Scanner::in_head)
    }
}

impl<S: AsyncRead + Unpin> Guard<S> {
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.unread.reserve(READ_SIZE);
        // The future holds nothing between two polls, so a new one each time is as good.
        pin!(self.stream.read_buf(&mut self.unread)).poll(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.passable > 0 {
                let now = self.passable.min(buffer.remaining());
                buffer.put_slice(&self.unread[..now]);
                self.unread.advance(now);
                self.passable -= now;
                return Poll::Ready(Ok(()));
            }
            // Behind a stand-in the connection has nothing more to say; an end would look as if the caller had left.
            if self.refused.get().is_some() {
                return Poll::Pending;
            }
            self.scan()?;
            if self.passable > 0 {
                self.timer = None;
                continue;
            }
            match self.poll_more(context)? {
                Poll::Ready(0) => {
                    // In the middle of a request it is broken, whoever waits.
                    if self.has_said_all() {
                        ready!(self.parting.poll_gone(context));
                    }
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(_) => {}
                Poll::Pending => {
                    if self.unread.is_empty() {
                        // An idle connection keeps no buffer.
                        self.unread = BytesMut::new();
                    }
                    ready!(self.poll_head_timer(context));
                    self.refuse(Violation::HeadTooSlow);
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.poll_written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.poll_written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.poll_written(context, flushed)
    }

    /// Says that nothing more comes, then reads for a while what the caller still sends, if he may be sending.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
            if !self.may_have_more() {
                return Poll::Ready(Ok(()));
            }
            let until = Box::pin(sleep_until(Instant::now() + LINGER));
            self.linger = Some(Linger { until, left: LINGER_BYTES });
        }
        loop {
            self.unread.clear();
            let read = self.poll_more(context);
            let Some(linger) = &mut self.linger else {
                return Poll::Ready(Ok(()));
            };
            match read {
                Poll::Ready(Ok(read)) if read > 0 && read < linger.left => linger.left -= read,
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return linger.until.as_mut().poll(context).map(Ok),
            }
        }
    }
}

/// The path that a malformed head asks for, if its first line has one.
fn target(head: &[u8]) -> String {
    let line = head.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    let target = line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    let plain = path.starts_with(b"/") && path.len() <= 256 && path.iter().all(u8::is_ascii_graphic);
    if plain { String::from_utf8_lossy(path).into_owned() } else { "/".to_owned() }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    const PATIENCE: Patience = Patience { head: Duration::from_secs(10), write: Duration::from_secs(30) };

    #[tokio::test(start_paused = true)]
    async fn a_caller_who_takes_nothing_is_given_up_and_a_slow_one_is_not() {
        let (mut caller, server) = tokio::io::duplex(8);
        let mut guard = Guard::open(server, BytesMut::new(), PATIENCE);
        guard.write_all(&[0; 8]).await.unwrap();
        let reading = async {
            for _ in 0..4 {
                tokio::time::sleep(Duration::from_secs(20)).await;
                caller.read_exact(&mut [0; 2]).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(guard.write_all(&[0; 8]), reading);
        written.unwrap();
        let start = Instant::now();
        assert_eq!(guard.write_all(&[0]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn closing_lingers_only_where_the_caller_may_have_more_to_say() {
        let start = Instant::now();
        for (read, seconds) in [("", 0), ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0), ("x", 2)] {
            let (mut caller, server) = tokio::io::duplex(1024);
            let (scanner, begun) = (Scanner::new(1024), start.elapsed().as_secs());
            let mut guard = Guard::new(server, BytesMut::new(), scanner, PATIENCE, Refused::default());
            caller.write_all(read.as_bytes()).await.unwrap();
            let _ = poll!(pin!(guard.read(&mut [0; 1024])));
            guard.shutdown().await.unwrap();
            assert_eq!(start.elapsed().as_secs() - begun, seconds, "{read:?}");
        }
    }

    #[tokio::test]
    async fn behind_a_stand_in_nothing_is_read() {
        let (mut caller, server) = tokio::io::duplex(1024);
        let refused = Refused::default();
        let mut guard =
            Guard::new(server, BytesMut::new(), Scanner::new(1024), PATIENCE, Arc::clone(&refused));
        caller.write_all(b"GET /path?x HTTP/1.1\r\n\r\n").await.unwrap();
        let mut read = [0; 1024];
        let count = guard.read(&mut read).await.unwrap();
        assert_eq!(&read[..count], STAND_IN);
        let head = refused.get().unwrap();
        assert_eq!((head.violation, head.target.as_str()), (Violation::NoHost, "/path"));

        caller.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert!(poll!(pin!(guard.read(&mut read))).is_pending());
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_is_timed_from_its_first_byte_and_a_body_is_not() {
        let (mut caller, server) = tokio::io::duplex(1024);
        let refused = Refused::default();
        let mut guard =
            Guard::new(server, BytesMut::new(), Scanner::new(1024), PATIENCE, Arc::clone(&refused));
        let mut read = [0; 1024];
        let start = Instant::now();
        let idle = tokio::time::timeout(Duration::from_secs(60), guard.read(&mut read)).await;
        assert!(idle.is_err(), "what has not begun is not timed here");
        caller.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx").await.unwrap();
        assert!(guard.read(&mut read).await.unwrap() > 0);
        let body = tokio::time::timeout(Duration::from_secs(60), guard.read(&mut read)).await;
        assert!(body.is_err(), "a body has the request's deadline");
        caller.write_all(b"xG").await.unwrap();
        assert_eq!(guard.read(&mut read).await.unwrap(), 1);
        let count = guard.read(&mut read).await.unwrap();
        assert_eq!((&read[..count], refused.get().unwrap().violation), (STAND_IN, Violation::HeadTooSlow));
        assert_eq!(start.elapsed().as_secs(), 130);
    }
}
