//! The events of a run as a stream.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::Stream;
use futures_util::future::BoxFuture;
use purlin::resilience::deadline;

use super::{Agent, Event};

/// The events of a run; the run goes on only while this is read.
pub struct Events {
    /// None when the run has ended.
    run: Option<BoxFuture<'static, ()>>,
    told: Told,
}

/// What the run has told and nobody has read yet: at most what one step of the run tells, since the run only goes
/// on when all of it was read.
type Told = Arc<Mutex<VecDeque<Event>>>;

impl Events {
    pub(super) fn of<C: Clone + Send + Sync + 'static>(agent: Agent<C>, prompt: String, caller: C) -> Self {
        let told = Told::default();
        let tell = Arc::clone(&told);
        let deadline = deadline::current();
        let run = async move {
            let run = agent.run_with(prompt, caller, |event| lock(&tell).push_back(event));
            // How it ended is told by its last event.
            let _ = match deadline {
                Some(deadline) => deadline::within(deadline, run).await,
                None => run.await,
            };
        };
        Self { run: Some(Box::pin(run)), told }
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        loop {
            if let Some(event) = lock(&self.told).pop_front() {
                return Poll::Ready(Some(event));
            }
            let Some(run) = &mut self.run else { return Poll::Ready(None) };
            match run.as_mut().poll(cx) {
                Poll::Ready(()) => self.run = None,
                Poll::Pending if lock(&self.told).is_empty() => return Poll::Pending,
                Poll::Pending => {}
            }
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("ended", &self.run.is_none()).finish_non_exhaustive()
    }
}

fn lock(told: &Mutex<VecDeque<Event>>) -> std::sync::MutexGuard<'_, VecDeque<Event>> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}
