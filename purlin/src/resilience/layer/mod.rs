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

use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::message::Fault;

use super::breaker::OwnedPermit;
use super::{Breaker, CallError, Deadline, KeyedBreakers, Open};

pub use call::{CallLayer, Called, Exchange};
pub use shed::{Shed, ShedLayer};

/// Sends calls through a breaker; `judge` says of an answer whether it is a failure of the callee.
///
/// All clones of the service share the breaker. One breaker for each key (a host, a tenant, a route) is
/// [`BreakerLayer::per_key`]; one for each endpoint is a layer for each.
#[derive(Debug, Clone)]
pub struct BreakerLayer<J, B = Breaker> {
    breakers: B,
    judge: J,
}

impl<J> BreakerLayer<J> {
    /// A layer with this breaker.
    pub fn new(breaker: Breaker, judge: J) -> Self {
        Self { breakers: breaker, judge }
    }
}

/// Judges an answer by its error's kind.
pub type ByKind<T, E> = fn(&Result<T, E>) -> bool;

impl<T, E: Fault> BreakerLayer<ByKind<T, E>> {
    /// A layer with this breaker, for which an error is a failure of the callee if it may pass
    /// ([`FaultKind::is_transient`](crate::message::FaultKind::is_transient)).
    pub fn by_kind(breaker: Breaker) -> Self {
        Self::new(breaker, |answer| matches!(answer, Err(error) if error.kind().is_transient()))
    }
}

impl<J, K> BreakerLayer<J, PerKey<K>> {
    /// A layer with a breaker for each key; `key` says which one a request has.
    pub fn per_key(breakers: KeyedBreakers, key: K, judge: J) -> Self {
        Self { breakers: PerKey { breakers, key }, judge }
    }
}

/// A breaker for each key of a request.
#[derive(Debug, Clone)]
pub struct PerKey<K> {
    breakers: KeyedBreakers,
    key: K,
}

/// Whose breaker a request goes through.
pub trait Pick<R> {
    /// The breaker.
    fn pick(&self, request: &R) -> Breaker;
}

impl<R> Pick<R> for Breaker {
    fn pick(&self, _: &R) -> Breaker {
        self.clone()
    }
}

impl<R, K, T> Pick<R> for PerKey<K>
where
    K: Fn(&R) -> T,
    T: AsRef<str>,
{
    fn pick(&self, request: &R) -> Breaker {
        self.breakers.breaker((self.key)(request).as_ref())
    }
}

impl<S, J: Clone, B: Clone> Layer<S> for BreakerLayer<J, B> {
    type Service = Guarded<S, J, B>;

    fn layer(&self, inner: S) -> Self::Service {
        Guarded { inner, breakers: self.breakers.clone(), judge: self.judge.clone() }
    }
}

/// A service behind a breaker.
#[derive(Debug, Clone)]
pub struct Guarded<S, J, B = Breaker> {
    inner: S,
    breakers: B,
    judge: J,
}

impl<S, J, B, R> Service<R> for Guarded<S, J, B>
where
    S: Service<R>,
    J: Fn(&Result<S::Response, S::Error>) -> bool + Clone,
    B: Pick<R>,
{
    type Response = S::Response;
    type Error = CallError<S::Error>;
    type Future = Watched<S::Future, J>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(CallError::Failed)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let leave = self.breakers.pick(&request).enter_owned();
        let call = leave.is_ok().then(|| self.inner.call(request));
        Watched { call, leave: Some(leave), judge: self.judge.clone() }
    }
}

pin_project! {
    /// A call whose result the breaker is told. Dropped before its end, it is a call that was given up.
    #[derive(Debug)]
    pub struct Watched<F, J> {
        // None if it was refused.
        #[pin]
        call: Option<F>,
        // Until there is an answer.
        leave: Option<Result<OwnedPermit, Open>>,
        judge: J,
    }
}

impl<F, J, T, E> Future for Watched<F, J>
where
    F: Future<Output = Result<T, E>>,
    J: Fn(&Result<T, E>) -> bool,
{
    type Output = Result<T, CallError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = match this.call.as_pin_mut().map(|call| call.poll(cx)) {
            Some(Poll::Ready(answer)) => Some(answer),
            Some(Poll::Pending) => {
                this.leave.iter_mut().flatten().for_each(OwnedPermit::waits);
                return Poll::Pending;
            }
            None => None,
        };
        let leave = this.leave.take().expect("a future is not polled after its end");
        Poll::Ready(match (leave, answer) {
            (Ok(permit), Some(answer)) => {
                permit.judged((this.judge)(&answer));
                answer.map_err(CallError::Failed)
            }
            (Ok(_), None) => unreachable!("who was let through calls"),
            (Err(open), _) => Err(CallError::Open(open)),
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
mod tests {
    use std::convert::Infallible;

    use tokio::time::Instant;
    use tower::{ServiceExt, service_fn};

    use crate::resilience::{BreakerConfig, BreakerState, DeadlineExceeded, deadline};

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
    async fn each_key_has_a_breaker_of_its_own() {
        let echo =
            service_fn(async |(_, up): (&'static str, bool)| if up { Ok(()) } else { Err(DeadlineExceeded) });
        let config = BreakerConfig { failure_threshold: 1, ..BreakerConfig::default() };
        let hosts = KeyedBreakers::new("hosts", config, 10);
        let judge = |answer: &Result<(), DeadlineExceeded>| answer.is_err();
        let client =
            BreakerLayer::per_key(hosts, |request: &(&'static str, bool)| request.0, judge).layer(echo);
        assert!(matches!(client.clone().oneshot(("a", false)).await, Err(CallError::Failed(_))));
        assert!(matches!(client.clone().oneshot(("a", true)).await, Err(CallError::Open(_))));
        assert!(client.oneshot(("b", true)).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_dropped_gives_its_place_back_or_fails_if_it_took_long() {
        let down =
            service_fn(
                async |hangs: bool| {
                    if hangs { std::future::pending().await } else { Err::<(), _>(DeadlineExceeded) }
                },
            );
        let config = BreakerConfig { failure_threshold: 1, success_threshold: 1, ..BreakerConfig::default() };
        let breaker = Breaker::new("down", config);
        let client = BreakerLayer::by_kind(breaker.clone()).layer(down);
        assert!(client.clone().oneshot(false).await.is_err());
        tokio::time::advance(config.timeout).await;
        for (waits, expected) in [(SECOND / 2, BreakerState::HalfOpen), (SECOND, BreakerState::Open)] {
            assert!(tokio::time::timeout(waits, client.clone().oneshot(true)).await.is_err());
            assert_eq!(breaker.status(Instant::now()).state, expected);
        }
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
