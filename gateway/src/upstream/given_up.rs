//! A request that its caller spoils, while a service has it in hand.

use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;

use crate::core::Refusal;

/// What the caller of one request did, if that ends it.
///
/// The call is then dropped without a result, which says nothing about the service: it may not have done anything wrong.
#[derive(Debug, Default)]
pub(super) struct GivenUp(Mutex<Option<Refusal>>);

impl GivenUp {
    /// Ends the request with this; whoever says so is dropped.
    pub(super) async fn end<T>(&self, refusal: Refusal) -> T {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
        std::future::pending().await
    }

    /// What comes of `call`, unless it is ended from within.
    pub(super) async fn unless<F: Future>(&self, call: F) -> Result<F::Output, Refusal> {
        let mut call = pin!(call);
        std::future::poll_fn(|context| match call.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Ok(answer)),
            Poll::Pending => match self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
                Some(refusal) => Poll::Ready(Err(refusal)),
                None => Poll::Pending,
            },
        })
        .await
    }
}
