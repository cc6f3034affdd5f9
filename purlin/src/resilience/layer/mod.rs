//! The same as tower layers, for clients and servers that are tower services (hyper, tonic, axum).
//!
//! [`CallLayer`] is the whole stack of a [`Caller`](super::Caller) around a client; `purlin::http::client` puts it
//! around an HTTP client. [`ShedLayer`] stands before a server. [`BreakerLayer`] and [`DeadlineLayer`] are parts of the
//! stack, for who composes his own.
//!
//! ```
//! use std::convert::Infallible;
//! use std::time::Duration;
//! use purlin::resilience::layer::{BreakerLayer, DeadlineLayer};
//! use purlin::resilience::{Breaker, BreakerConfig};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let client = service_fn(async |name: &'static str| Ok::<_, Infallible>(format!("hello {name}")));
//! // An attempt ends after a second; one that ended so, or failed, counts against the callee.
//! let client = DeadlineLayer::new(Duration::from_secs(1)).layer(client);
//! let breaker = Breaker::new("greeter", BreakerConfig::default());
//! let client = BreakerLayer::new(breaker, |answer: &Result<_, _>| answer.is_err()).layer(client);
//! assert_eq!(client.oneshot("ann").await.unwrap(), "hello ann");
//! # });
//! ```

mod breaker;
mod call;
mod shed;

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tower::{Layer, Service};

use super::{CallError, Deadline};

pub use breaker::{BreakerLayer, ByKind, Guarded, Handle, One, Own, PerKey, Pick, Watched};
pub use call::{CallLayer, Called, Exchange};
pub use shed::{Shed, ShedLayer};

/// Gives each call a deadline, or the task's own if that is earlier, and ends it then.
#[derive(Debug, Clone, Copy)]
pub struct DeadlineLayer {
    span: Duration,
}

impl DeadlineLayer {
    /// A layer that gives each call so long.
    pub fn new(span: Duration) -> Self {
        Self { span }
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = Timed<S>;

    fn layer(&self, inner: S) -> Timed<S> {
        Timed { inner, span: self.span }
    }
}

type Answer<T, E> = Pin<Box<dyn Future<Output = Result<T, CallError<E>>> + Send>>;

/// A service with a deadline.
#[derive(Debug, Clone)]
pub struct Timed<S> {
    inner: S,
    span: Duration,
}

impl<S, R> Service<R> for Timed<S>
where
    S: Service<R> + Clone + Send + 'static,
    S::Future: Send,
    R: Send + 'static,
{
    type Response = S::Response;
    type Error = CallError<S::Error>;
    type Future = Answer<S::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(CallError::Failed)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let mut inner = take_ready(&mut self.inner);
        let deadline = Deadline::after(self.span).tightened();
        Box::pin(async move {
            let answer = deadline.enforce(async { inner.call(request).await }).await;
            answer.map_err(|_| CallError::DeadlineExceeded)?.map_err(CallError::Failed)
        })
    }
}

/// The service that said it was ready; a clone of it, which has said nothing yet, stays behind.
fn take_ready<S: Clone>(service: &mut S) -> S {
    let clone = service.clone();
    std::mem::replace(service, clone)
}

#[cfg(test)]
mod tests;
