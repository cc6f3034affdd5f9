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

mod call;
mod shed;

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;
use tower::{Layer, Service};

use super::{Breaker, CallError, Deadline};

pub use call::{CallLayer, Called, Exchange};
pub use shed::{Shed, ShedLayer};

/// Sends calls through a breaker; `judge` says of an answer whether it is a failure of the callee.
#[derive(Debug, Clone)]
pub struct BreakerLayer<J> {
    breaker: Breaker,
    judge: J,
}

impl<J> BreakerLayer<J> {
    /// A layer with this breaker.
    pub fn new(breaker: Breaker, judge: J) -> Self {
        Self { breaker, judge }
    }
}

impl<S, J: Clone> Layer<S> for BreakerLayer<J> {
    type Service = Guarded<S, J>;

    fn layer(&self, inner: S) -> Self::Service {
        Guarded { inner, breaker: self.breaker.clone(), judge: self.judge.clone() }
    }
}

/// A service behind a breaker.
#[derive(Debug, Clone)]
pub struct Guarded<S, J> {
    inner: S,
    breaker: Breaker,
    judge: J,
}

type Answer<T, E> = Pin<Box<dyn Future<Output = Result<T, CallError<E>>> + Send>>;

impl<S, J, R> Service<R> for Guarded<S, J>
where
    S: Service<R> + Clone + Send + 'static,
    S::Future: Send,
    J: Fn(&Result<S::Response, S::Error>) -> bool + Clone + Send + 'static,
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
        let (breaker, judge) = (self.breaker.clone(), self.judge.clone());
        Box::pin(async move {
            let permit = breaker.admit(Instant::now())?;
            let answer = inner.call(request).await;
            if judge(&answer) {
                permit.failed(Instant::now());
            } else {
                permit.succeeded();
            }
            answer.map_err(CallError::Failed)
        })
    }
}

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
mod tests {
    use std::convert::Infallible;

    use tower::{ServiceExt, service_fn};

    use crate::resilience::{BreakerConfig, deadline};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn answers_that_are_judged_failures_open_the_breaker() {
        let echo = service_fn(async |status: u16| Ok::<_, Infallible>(status));
        let breaker =
            Breaker::new("echo", BreakerConfig { failure_threshold: 2, ..BreakerConfig::default() });
        let judge = |answer: &Result<u16, Infallible>| matches!(answer, Ok(500..));
        let mut client = BreakerLayer::new(breaker.clone(), judge).layer(echo);
        for status in [404, 503, 404, 503] {
            assert_eq!(client.ready().await.unwrap().call(status).await.unwrap(), status);
        }
        let refused = client.ready().await.unwrap().call(200).await;
        assert!(matches!(refused, Err(CallError::Open(_))), "{refused:?}");
        tokio::time::advance(breaker.config().timeout).await;
        assert_eq!(client.ready().await.unwrap().call(200).await.unwrap(), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_at_its_own_deadline_or_that_of_its_task() {
        let hang = service_fn(async |()| std::future::pending::<Result<(), Infallible>>().await);
        let client = DeadlineLayer::new(3 * SECOND).layer(hang);
        for (outer, expected) in [(10 * SECOND, 3 * SECOND), (SECOND, SECOND)] {
            let start = Instant::now();
            let call = deadline::within(Deadline::after(outer), client.clone().oneshot(()));
            assert!(matches!(call.await, Err(CallError::DeadlineExceeded)));
            assert_eq!(start.elapsed(), expected);
        }
    }
}
