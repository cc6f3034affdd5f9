//! A caller's body on its way to a service: counted, watched, and given back if nobody wanted it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::unread::Inbound;

use super::blame::Broken;

/// Why a body cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyFault {
    /// It is larger than the limit.
    #[error("the body is larger than the limit")]
    TooLarge,
    /// It broke off, or is malformed.
    #[error("the body is incomplete or malformed")]
    Broken,
}

/// The body as the client's connection sends it.
#[derive(Debug)]
pub(super) struct Outgoing {
    body: Option<Inbound>,
    left: u64,
    loan: Arc<Loan>,
}

/// What became of the body that was lent to a connection.
#[derive(Debug)]
pub(super) struct Loan {
    state: Mutex<State>,
    faulted: Notify,
}

#[derive(Debug)]
struct State {
    returned: Option<Inbound>,
    touched: bool,
    /// Whether the connection has taken all of it.
    over: bool,
    awaits_caller: bool,
    /// When the connection got something of the body last, or its end.
    fed: Instant,
    fault: Option<BodyFault>,
}

impl Outgoing {
    /// Lends `body`, of which at most `limit` bytes may pass.
    pub(super) fn lend(body: Inbound, limit: u64, now: Instant) -> (Self, Arc<Loan>) {
        let state = State {
            returned: None,
            touched: false,
            over: body.is_end_stream(),
            awaits_caller: false,
            fed: now,
            fault: None,
        };
        let loan = Arc::new(Loan { state: Mutex::new(state), faulted: Notify::new() });
        (Self { body: Some(body), left: limit, loan: Arc::clone(&loan) }, loan)
    }
}

impl Loan {
    /// Whether nothing was taken from the body.
    pub(super) fn is_untouched(&self) -> bool {
        !self.state().touched
    }

    /// How far it had come when its connection broke, of which the service had `begun` to take something, or which was `cut`
    /// while we wrote.
    pub(super) fn broken(&self, begun: bool, cut: bool) -> Broken {
        let state = self.state();
        let is_empty = state.over && !state.touched;
        Broken { begun, body: !is_empty, over: state.over, cut }
    }

    /// The body, or what is left of it, if the connection has given it back.
    pub(super) fn returned(&self) -> Option<Inbound> {
        self.state().returned.take()
    }

    /// What went wrong with the body, if something did.
    pub(super) fn fault(&self) -> Option<BodyFault> {
        self.state().fault
    }

    /// Waits until something goes wrong with the body.
    pub(super) async fn faulted(&self) -> BodyFault {
        loop {
            // `notify_one` keeps its word for one who asks later.
            let told = self.faulted.notified();
            if let Some(fault) = self.fault() {
                return fault;
            }
            told.await;
        }
    }

    /// Whether the connection waits for more of the body.
    pub(super) fn awaits_caller(&self) -> bool {
        self.state().awaits_caller
    }

    /// Since when the service has all that there was to have: from then on it is its turn.
    pub(super) fn fed(&self) -> Instant {
        self.state().fed
    }

    fn fail(&self, fault: BodyFault) -> BodyFault {
        self.state().fault = Some(fault);
        self.faulted.notify_one();
        fault
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let Self { body, loan, .. } = &mut *self;
        let Some(body) = body else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(&mut *body).poll_frame(context);
        {
            let mut state = loan.state();
            state.touched = true;
            state.awaits_caller = polled.is_pending();
            if let Poll::Ready(frame) = &polled {
                state.fed = Instant::now();
                state.over = frame.is_none() || body.is_end_stream();
            }
        }
        let Some(frame) = std::task::ready!(polled) else {
            return Poll::Ready(None);
        };
        // Trailers end here: no service asks for them.
        let Ok(data) = frame.map(Frame::into_data) else {
            return Poll::Ready(Some(Err(self.loan.fail(BodyFault::Broken))));
        };
        let Ok(data) = data else {
            return Poll::Ready(None);
        };
        match self.left.checked_sub(data.len() as u64) {
            Some(left) => {
                self.left = left;
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            None => Poll::Ready(Some(Err(self.loan.fail(BodyFault::TooLarge)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.loan.state().returned = self.body.take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_is_over_before_anybody_asks_for_it_is_none() {
        let broken = |touched, over| {
            let fed = Instant::now();
            let state = State { returned: None, touched, over, awaits_caller: false, fed, fault: None };
            let loan = Loan { state: Mutex::new(state), faulted: Notify::new() };
            let Broken { body, over, .. } = loan.broken(true, false);
            (body, over)
        };
        assert_eq!(broken(false, true), (false, true));
        assert_eq!(broken(false, false), (true, false), "it waits for its turn");
        assert_eq!(broken(true, true), (true, true));
        assert_eq!(broken(true, false), (true, false));
    }
}
