//! How a step is undone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::message::Fault;
use crate::resilience::Retry;
use crate::store::BoxFuture;

use super::journal::Payload;
use super::{At, Failure};

/// A compensation, ready to be called as often as it takes.
pub(super) struct Undo<S> {
    call: Box<Call<S>>,
    pub(super) retry: Retry,
    pub(super) timeout: Duration,
}

type Call<S> = dyn Fn(At<S>, Option<Payload>) -> BoxFuture<'static, Result<(), Failure>> + Send;

impl<S: Send + Sync + 'static> Undo<S> {
    pub(super) fn new<T, U, Fut, R, E>(undo: U, retry: Retry, timeout: Duration) -> Self
    where
        T: DeserializeOwned,
        U: FnOnce(At<S>, Option<T>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        E: Fault,
    {
        let call = move |at: At<S>, output: Option<Payload>| -> BoxFuture<'static, Result<(), Failure>> {
            let output = match output.map(|output| output.read::<T>()).transpose() {
                Ok(output) => output,
                Err(error) => {
                    let failure = Failure::bug(format!("what the step returned cannot be read: {error}"));
                    return Box::pin(std::future::ready(Err(failure)));
                }
            };
            let undo = undo.clone();
            let called = catch_unwind(AssertUnwindSafe(|| undo(at, output)));
            match called {
                Ok(future) => {
                    Box::pin(async move { future.await.map(drop).map_err(|error| Failure::of(&error)) })
                }
                Err(panic) => Box::pin(std::future::ready(Err(Failure::panic(&*panic)))),
            }
        };
        Self { call: Box::new(call), retry, timeout }
    }

    pub(super) fn call(&self, at: At<S>, output: Option<Payload>) -> BoxFuture<'static, Result<(), Failure>> {
        (self.call)(at, output)
    }
}
