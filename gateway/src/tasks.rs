//! Where the connections of servers and clients run: tasks that are counted, and end with the gateway.

use hyper::rt::Executor;
use purlin::telemetry::service;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// Runs what hyper asks to have run in the background.
#[derive(Debug, Clone)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    end: CancellationToken,
}

impl Tasks {
    /// No task yet; all of them end when the guard is dropped.
    pub(crate) fn new() -> (Self, DropGuard) {
        let end = CancellationToken::new();
        (Self { tracker: TaskTracker::new(), end: end.clone() }, end.drop_guard())
    }
}

impl<F> Executor<F> for Tasks
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        let end = self.end.clone();
        let work = async move { end.run_until_cancelled_owned(future).await };
        // The service, but not the trace: a connection outlives the request that opened it.
        match service::current() {
            Some(service) => self.tracker.spawn(async move { service::within(service, work).await }),
            None => self.tracker.spawn(work),
        };
    }
}
