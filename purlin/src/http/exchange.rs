//! The request that the running task answers.

use std::sync::Arc;

tokio::task_local! {
    static CURRENT: Arc<Exchange>;
}

/// One request, as far as its errors and logs must name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// The `x-request-id` that the client sent, or that we drew.
    pub request_id: String,
    /// The path that the client asked for.
    pub path: String,
}

/// The request that the running task answers, if it answers one.
pub fn current() -> Option<Exchange> {
    CURRENT.try_with(|exchange| Exchange::clone(exchange)).ok()
}

/// Runs `work` as the answering of a request.
pub(super) async fn within<F: Future>(exchange: Exchange, work: F) -> F::Output {
    CURRENT.scope(Arc::new(exchange), work).await
}
