//! The trace that the running task works for.

use crate::message::TraceContext;

tokio::task_local! {
    static CURRENT: TraceContext;
}

/// The trace context of the running task, if it has one.
pub fn current() -> Option<TraceContext> {
    CURRENT.try_with(|context| *context).ok()
}

/// Runs `work` as part of a trace: what it records, sends and logs carries `context`.
pub async fn in_trace<F: Future>(context: TraceContext, work: F) -> F::Output {
    CURRENT.scope(context, work).await
}
