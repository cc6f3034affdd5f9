//! The whole stack of a [`Caller`] around a client that is a tower service.

use std::task::{Context, Poll};

use tower::{Layer, Service, ServiceExt};

use super::{Answer, take_ready};
use crate::resilience::{CallError, Caller, Verdict};

/// What a stack must know of the requests and answers that it stands around.
pub trait Exchange<R, T, E> {
    /// The request once more; none if it may be made only once.
    fn again(&self, request: &R) -> Option<R>;

    /// What an answer says about the callee.
    fn judge(&self, answer: &Result<T, E>) -> Verdict;
}

/// Makes a client's calls as a [`Caller`] makes them: within their deadline, repeated within the budget, and so on, in
/// the order that stands [there](Caller). An answer that is a failure (a status 503, say) is returned as it is when no
/// attempt had a better one.
#[derive(Debug, Clone)]
pub struct CallLayer<X> {
    caller: Caller,
    exchange: X,
}

impl<X> CallLayer<X> {
    /// A layer with this caller.
    pub fn new(caller: Caller, exchange: X) -> Self {
        Self { caller, exchange }
    }
}

impl<S, X: Clone> Layer<S> for CallLayer<X> {
    type Service = Called<S, X>;

    fn layer(&self, inner: S) -> Called<S, X> {
        Called { inner, caller: self.caller.clone(), exchange: self.exchange.clone() }
    }
}

/// A client that is called as a [`Caller`] calls.
#[derive(Debug, Clone)]
pub struct Called<S, X> {
    inner: S,
    caller: Caller,
    exchange: X,
}

impl<S, X, R> Service<R> for Called<S, X>
where
    S: Service<R> + Clone + Send + 'static,
    S::Future: Send,
    S::Response: Send,
    S::Error: Send,
    X: Exchange<R, S::Response, S::Error> + Clone + Send + Sync + 'static,
    R: Send + 'static,
{
    type Response = S::Response;
    type Error = CallError<S::Error>;
    type Future = Answer<S::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(CallError::Failed)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let ready = take_ready(&mut self.inner);
        let (spare, caller, exchange) = (self.inner.clone(), self.caller.clone(), self.exchange.clone());
        Box::pin(async move {
            let model = exchange.again(&request);
            let (repeatable, mut first) = (model.is_some(), Some((ready, request)));
            let judge = exchange.clone();
            let work = move |_| {
                // The first attempt is made by the service that said it was ready; later ones ask it again.
                let (attempt, is_ready) = match first.take() {
                    Some(first) => (Some(first), true),
                    None => {
                        let again = model.as_ref().and_then(|model| exchange.again(model));
                        (again.map(|request| (spare.clone(), request)), false)
                    }
                };
                let (mut service, request) = attempt.expect("only what may be made again is repeated");
                async move {
                    if !is_ready {
                        service.ready().await?;
                    }
                    service.call(request).await
                }
            };
            let answer = caller.judged(repeatable, |answer| judge.judge(answer), work).await;
            answer.map_err(CallError::from)?.map_err(CallError::Failed)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU16, Ordering};
    use std::time::Duration;

    use tokio::time::Instant;
    use tower::service_fn;

    use crate::message::FaultKind;
    use crate::resilience::{Breakers, CallPolicy, Retry};

    use super::*;

    /// Requests are numbers, of which even ones may be repeated; answers are statuses.
    #[derive(Debug, Clone)]
    struct Statuses;

    impl Exchange<u32, u16, Infallible> for Statuses {
        fn again(&self, request: &u32) -> Option<u32> {
            request.is_multiple_of(2).then_some(*request)
        }

        fn judge(&self, answer: &Result<u16, Infallible>) -> Verdict {
            let retry_after = Some(Duration::from_secs(1));
            match answer {
                Ok(503) => Verdict::Failed { kind: FaultKind::Unavailable, retry_after },
                Ok(404) => Verdict::Refused(FaultKind::NotFound),
                Ok(_) => Verdict::Good,
                Err(never) => match *never {},
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_be_repeated_is_and_the_answer_comes_as_it_is() {
        let policy = CallPolicy { retry: Retry { jitter: 0.0, ..Retry::default() }, ..CallPolicy::default() };
        let layer = CallLayer::new(Caller::new("echo", policy, &Breakers::new()), Statuses);
        for (request, attempts, status) in [(2, 3, 200), (1, 1, 503)] {
            let asked = Arc::new(AtomicU16::new(0));
            let inner = Arc::clone(&asked);
            let server = service_fn(move |_: u32| {
                let status = if inner.fetch_add(1, Ordering::Relaxed) < 2 { 503 } else { 200 };
                async move { Ok::<_, Infallible>(status) }
            });
            let start = Instant::now();
            let answer = layer.layer(server).oneshot(request).await.unwrap();
            assert_eq!((answer, asked.load(Ordering::Relaxed)), (status, attempts));
            let paused = Duration::from_millis(if attempts == 3 { 2 * 1000 + 50 + 100 } else { 0 });
            assert_eq!(start.elapsed(), paused, "two pauses, each behind the second that was asked for");
        }
    }
}
