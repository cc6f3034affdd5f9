//! What a request says while it is under way, to whoever waits for its answer.

use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;

use purlin::resilience::Ticket;

use crate::core::Refusal;

use super::send::Answered;

/// What a request says while it is under way. The call that it is part of is then dropped without a result, which says
/// nothing about the service.
#[derive(Debug, Default)]
pub(super) struct Aside(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    said: Option<Said>,
    /// Of a probe, until it is slow, which it says once.
    probe: Option<Ticket>,
}

/// What it says.
#[derive(Debug)]
pub(super) enum Said {
    /// Its caller spoilt it: the service may not have done anything wrong.
    Spoilt(Refusal),
    /// It has an answer, by which nobody can tell how the service is.
    Hasty(Box<Answered>),
    /// It takes longer than a probe may. It goes on, but others may probe, and what comes of it is told with this.
    Slow(Ticket),
}

impl Aside {
    /// It is a probe, if there is a ticket.
    pub(super) fn probes(&self, ticket: Option<Ticket>) {
        self.state().probe = ticket;
    }

    /// Whether it is a probe that others wait for.
    pub(super) fn is_probe(&self) -> bool {
        self.state().probe.as_ref().is_some_and(Ticket::counts)
    }

    /// Ends the request with this; whoever says so is dropped.
    pub(super) async fn end<T>(&self, said: Said) -> T {
        self.state().said = Some(said);
        std::future::pending().await
    }

    /// It takes its time. Whoever says so must be about to wait.
    pub(super) fn slow(&self) {
        let mut state = self.state();
        if let Some(ticket) = state.probe.take() {
            state.said = Some(Said::Slow(ticket));
        }
    }

    /// What comes of `call`, unless something is said from within.
    pub(super) async fn unless<F: Future>(&self, call: F) -> Result<F::Output, Said> {
        let mut call = pin!(call);
        std::future::poll_fn(|context| match call.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Ok(answer)),
            Poll::Pending => match self.state().said.take() {
                Some(said) => Poll::Ready(Err(said)),
                None => Poll::Pending,
            },
        })
        .await
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
