//! A breaker around a service.

use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::message::Fault;
use crate::resilience::breaker::OwnedPermit;
use crate::resilience::per_thread::{Apart, Lines};
use crate::resilience::{Breaker, CallError, Judged, KeyedBreakers, Verdict};

/// Sends calls through a breaker; `judge` says what an answer tells of the callee: a [`Verdict`], or `true` if it is a
/// failure ([`Judged`]).
///
/// All clones of the service share the breaker. One breaker for each key (a host, a tenant, a route) is
/// [`BreakerLayer::per_key`]; one for each endpoint is a layer for each. A call through one breaker allocates nothing, and
/// while all is well one that ends on the thread on which it began, which is one of the first 16, writes nothing that
/// another thread's call writes.
#[derive(Debug, Clone)]
pub struct BreakerLayer<J, B = One> {
    breakers: B,
    judge: J,
}

impl<J> BreakerLayer<J> {
    /// A layer with this breaker; `judge` says of an answer whether it is a failure, or gives a [`Verdict`].
    pub fn new(breaker: Breaker, judge: J) -> Self {
        Self { breakers: One::new(breaker), judge }
    }
}

/// Judges an answer by its error's kind.
pub type ByKind<T, E> = fn(&Result<T, E>) -> Verdict;

impl<T, E: Fault> BreakerLayer<ByKind<T, E>> {
    /// A layer with this breaker, for which an answer says what its error's kind does for all breakers: one that is away
    /// or late failed, one that refuses the request has answered, shed load and bugs say nothing.
    pub fn by_kind(breaker: Breaker) -> Self {
        Self::new(breaker, |answer| answer.as_ref().map_or_else(Verdict::of, |_| Verdict::Good))
    }
}

impl<J, K> BreakerLayer<J, PerKey<K>> {
    /// A layer with a breaker for each key; `key` says which one a request has.
    pub fn per_key(breakers: KeyedBreakers, key: K, judge: J) -> Self {
        Self { breakers: PerKey { breakers, key }, judge }
    }
}

/// One breaker for all requests, with a handle for each thread: a call holds one until it ends, and counting those that
/// hold it is then nothing that threads have in common.
#[derive(Debug, Clone)]
pub struct One {
    handles: Arc<Lines<Handle>>,
}

impl One {
    fn new(breaker: Breaker) -> Self {
        let handle = move || Handle(Arc::new(Apart(breaker.clone())));
        Self { handles: Arc::new(Lines::new(handle)) }
    }
}

/// A thread's handle of a breaker.
#[derive(Debug, Clone)]
pub struct Handle(Arc<Apart<Breaker>>);

impl Deref for Handle {
    type Target = Breaker;

    fn deref(&self) -> &Breaker {
        &self.0
    }
}

/// A breaker for each key of a request.
#[derive(Debug, Clone)]
pub struct PerKey<K> {
    breakers: KeyedBreakers,
    key: K,
}

/// A breaker that is a call's until it ends.
#[derive(Debug, Clone)]
pub struct Own(Breaker);

impl Deref for Own {
    type Target = Breaker;

    fn deref(&self) -> &Breaker {
        &self.0
    }
}

/// Whose breaker a request goes through.
pub trait Pick<R> {
    /// How it is held until the call ends.
    type Held: Deref<Target = Breaker>;

    /// The breaker.
    fn pick(&self, request: &R) -> Self::Held;
}

impl<R> Pick<R> for One {
    type Held = Handle;

    #[inline]
    fn pick(&self, _: &R) -> Handle {
        self.handles.here().clone()
    }
}

impl<R, K, T> Pick<R> for PerKey<K>
where
    K: Fn(&R) -> T,
    T: AsRef<str>,
{
    type Held = Own;

    fn pick(&self, request: &R) -> Own {
        Own(self.breakers.breaker((self.key)(request).as_ref()))
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
pub struct Guarded<S, J, B = One> {
    inner: S,
    breakers: B,
    judge: J,
}

impl<S, J, B, R, V> Service<R> for Guarded<S, J, B>
where
    S: Service<R>,
    J: Fn(&Result<S::Response, S::Error>) -> V + Clone,
    V: Judged,
    B: Pick<R>,
{
    type Response = S::Response;
    type Error = CallError<S::Error>;
    type Future = Watched<S::Future, J, B::Held>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(CallError::Failed)
    }

    #[inline]
    fn call(&mut self, request: R) -> Self::Future {
        let permit = OwnedPermit::enter(self.breakers.pick(&request));
        let call = permit.is_let_through().then(|| self.inner.call(request));
        Watched { call, permit, judge: self.judge.clone() }
    }
}

pin_project! {
    /// A call whose result the breaker is told. Dropped before its end, it is a call that was given up.
    #[derive(Debug)]
    pub struct Watched<F, J, H: Deref<Target = Breaker> = Handle> {
        // None if it was refused.
        #[pin]
        call: Option<F>,
        permit: OwnedPermit<H>,
        judge: J,
    }
}

impl<F, J, H, T, E, V> Future for Watched<F, J, H>
where
    F: Future<Output = Result<T, E>>,
    J: Fn(&Result<T, E>) -> V,
    V: Judged,
    H: Deref<Target = Breaker>,
{
    type Output = Result<T, CallError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(call) = this.call.as_pin_mut() else {
            return Poll::Ready(Err(CallError::Open(this.permit.refusal())));
        };
        match call.poll(cx) {
            Poll::Ready(answer) => {
                this.permit.judged((this.judge)(&answer).verdict().says());
                Poll::Ready(answer.map_err(CallError::Failed))
            }
            Poll::Pending => {
                this.permit.waits();
                Poll::Pending
            }
        }
    }
}
