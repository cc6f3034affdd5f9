//! Which service the running task works for; several services may share a process.

use std::sync::Arc;

tokio::task_local! {
    static CURRENT: Arc<str>;
}

/// The name of the running task's service, if it has one.
pub fn current() -> Option<Arc<str>> {
    CURRENT.try_with(Arc::clone).ok()
}

/// Runs `work` for a service: its log lines bear the name.
pub async fn within<F: Future>(name: impl Into<Arc<str>>, work: F) -> F::Output {
    CURRENT.scope(name.into(), work).await
}
