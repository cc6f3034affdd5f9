//! The server's side: no more at once than it can bear, and the least critical refused first.

use std::task::{Context, Poll};

use tokio::time::Instant;
use tower::{Layer, Service};

use super::{Answer, take_ready};
use crate::resilience::{Bulkhead, CallError, Deadline};

/// Lets a service answer as many requests at once as a [`Bulkhead`] has places, each of the class of its task
/// ([`criticality`](crate::resilience::criticality)); the others get [`CallError::Full`] at once, or after they have
/// waited. How long answers take is what an adaptive bulkhead learns from.
///
/// ```
/// use std::convert::Infallible;
/// use purlin::resilience::layer::ShedLayer;
/// use purlin::resilience::{Bulkhead, BulkheadConfig, CallError, Criticality, criticality};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let four = Bulkhead::new(BulkheadConfig { max_under_way: 4, max_waiting: 0, ..BulkheadConfig::default() });
/// let server = ShedLayer::new(four.clone()).layer(service_fn(async |()| Ok::<_, Infallible>("answer")));
/// let _busy = (four.enter().await.unwrap(), four.enter().await.unwrap());
/// let batch = criticality::within(Criticality::Sheddable, server.clone().oneshot(()));
/// assert!(matches!(batch.await, Err(CallError::Full(_))), "half of the places are as many as a batch may take");
/// assert_eq!(server.oneshot(()).await.unwrap(), "answer");
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct ShedLayer {
    bulkhead: Bulkhead,
}

impl ShedLayer {
    /// A layer with these places.
    pub fn new(bulkhead: Bulkhead) -> Self {
        Self { bulkhead }
    }
}

impl<S> Layer<S> for ShedLayer {
    type Service = Shed<S>;

    fn layer(&self, inner: S) -> Shed<S> {
        Shed { inner, bulkhead: self.bulkhead.clone() }
    }
}

/// A service that refuses what is too much.
#[derive(Debug, Clone)]
pub struct Shed<S> {
    inner: S,
    bulkhead: Bulkhead,
}

impl<S, R> Service<R> for Shed<S>
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
        let (mut inner, bulkhead) = (take_ready(&mut self.inner), self.bulkhead.clone());
        Box::pin(async move { bulkhead.answering(inner.call(request)).await?.map_err(CallError::Failed) })
    }
}

impl Bulkhead {
    /// Answers a request in a place of its own, which learns how long that took. One whose deadline passed meanwhile
    /// is a sign of overload, if it had as long as answers usually take.
    pub(crate) async fn answering<F: Future>(&self, answer: F) -> Result<F::Output, crate::resilience::Full> {
        let place = self.enter().await?;
        let answer = answer.await;
        let now = Instant::now();
        match crate::resilience::deadline::current().is_some_and(|deadline| deadline <= Deadline::at(now)) {
            true => place.late(now),
            false => place.answered(now),
        }
        Ok(answer)
    }
}
