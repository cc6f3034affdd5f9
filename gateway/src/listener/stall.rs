//! Answers over HTTP/2 that nobody takes.
//!
//! A caller who grants an answer no window, or no more of it, costs himself nothing: nothing is written to him, so no write
//! of ours ever waits. The service's connection, and a place of its pool, wait instead. So each stream is watched: a
//! piece that was ready, and is not taken for too long, ends it. Who waits for a service that takes its time is not
//! meant: then nothing is ready.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::tasks::Tasks;

tokio::task_local! {
    static CURRENT: Ready;
}

/// The largest piece that a caller must have taken in time: a slow one takes a little, and should not be cut off.
const PIECE: usize = 16 << 10;

/// Since when something of an answer is ready, if it is.
#[derive(Debug, Clone, Default)]
struct Ready(Arc<Mutex<Option<Instant>>>);

impl Ready {
    fn since(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }
}

/// Runs the streams of a connection, and ends those whose answers nobody takes.
#[derive(Debug, Clone)]
pub(super) struct Watching {
    tasks: Tasks,
    patience: Duration,
}

impl Watching {
    /// Runs them among these tasks; a caller may take nothing for so long.
    pub(super) fn new(tasks: Tasks, patience: Duration) -> Self {
        Self { tasks, patience }
    }
}

impl<F> Executor<F> for Watching
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.tasks.execute(unless_stalled(stream, self.patience));
    }
}

/// Runs a stream; dropped unfinished, it is reset.
async fn unless_stalled<F: Future>(stream: F, patience: Duration) {
    let ready = Ready::default();
    let mut stream = pin!(CURRENT.scope(ready.clone(), stream));
    // Most answers are taken at once, and need none.
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    std::future::poll_fn(|context| {
        if stream.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        // Only the stream itself changes it, in the poll above.
        let Some(since) = ready.since() else {
            timer = None;
            return Poll::Pending;
        };
        let until = since + patience;
        let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        timer
            .as_mut()
            .poll(context)
            .map(|()| tracing::debug!("a stream was cut off: its caller takes nothing"))
    })
    .await;
}

/// A body that notes when a piece of it is ready, and when it is taken.
#[derive(Debug)]
pub(super) struct Taken<B> {
    body: B,
    rest: Bytes,
    ready: Option<Ready>,
}

impl<B: Body> Taken<B> {
    /// A body that is sent on the stream at work.
    pub(super) fn new(body: B) -> Self {
        let ready = CURRENT.try_with(Clone::clone).ok();
        let taken = Self { body, rest: Bytes::new(), ready };
        if !taken.body.is_end_stream() {
            taken.note(Some(Instant::now()));
        }
        taken
    }

    fn note(&self, since: Option<Instant>) {
        if let Some(ready) = &self.ready {
            ready.set(since);
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Taken<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = match self.rest.is_empty() {
            true => Pin::new(&mut self.body).poll_frame(context),
            false => Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.rest))))),
        };
        let Poll::Ready(Some(Ok(frame))) = polled else {
            // Whoever asks for more has taken what there was.
            self.note(None);
            return polled;
        };
        self.note(Some(Instant::now()));
        let frame = match frame.into_data() {
            Ok(mut data) => {
                if data.len() > PIECE {
                    self.rest = data.split_off(PIECE);
                }
                Frame::data(data)
            }
            Err(other) => other,
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (of_body, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(of_body.lower().saturating_add(rest));
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};

    use super::*;

    #[tokio::test]
    async fn a_body_comes_in_pieces_and_whole() {
        let whole: Vec<u8> = (0..3 * PIECE + 7).map(|at| at as u8).collect();
        let mut body = Taken::new(Full::new(Bytes::from(whole.clone())));
        assert_eq!(body.size_hint().exact(), Some(whole.len() as u64));
        let mut got = Vec::new();
        while let Some(frame) = body.frame().await {
            let piece = frame.unwrap().into_data().unwrap();
            assert!(piece.len() <= PIECE);
            got.extend(piece);
            assert_eq!(body.size_hint().exact(), Some((whole.len() - got.len()) as u64));
            assert_eq!(body.is_end_stream(), got.len() == whole.len());
        }
        assert_eq!(got, whole);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_whose_pieces_are_not_taken_ends_and_one_that_is_slow_or_waits_for_its_service_does_not()
    {
        let patience = Duration::from_secs(30);
        let begun = Instant::now();
        unless_stalled(
            async {
                let mut body = Taken::new(Full::new(Bytes::from(vec![0; 2 * PIECE])));
                body.frame().await.unwrap().unwrap();
                tokio::time::sleep(Duration::from_secs(20)).await;
                body.frame().await.unwrap().unwrap();
                std::future::pending::<()>().await;
            },
            patience,
        )
        .await;
        assert_eq!(begun.elapsed().as_secs(), 50);

        let slow = async {
            let mut body = Taken::new(Full::new(Bytes::from(vec![0; 16 * PIECE])));
            while let Some(piece) = body.frame().await {
                piece.unwrap();
                tokio::time::sleep(Duration::from_secs(20)).await;
            }
        };
        let begun = Instant::now();
        unless_stalled(slow, patience).await;
        assert_eq!(begun.elapsed().as_secs(), 16 * 20, "who takes each piece in time has them all");

        let waits = async {
            let (_sender, receiver) = tokio::sync::oneshot::channel::<()>();
            let silent = http_body_util::StreamBody::new(futures_util::stream::once(async {
                let _ = receiver.await;
                Ok::<_, std::convert::Infallible>(Frame::data(Bytes::new()))
            }));
            let mut body = Taken::new(Box::pin(silent));
            tokio::time::timeout(Duration::from_secs(500), body.frame()).await.is_err()
        };
        let waits = unless_stalled(async { assert!(waits.await) }, patience);
        let begun = Instant::now();
        waits.await;
        assert_eq!(begun.elapsed().as_secs(), 500);
    }
}
