//! The trace that the running task works for.

use crate::message::TraceContext;

use super::service;

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

/// Gives `work` the trace and the service of the task that calls this, for when another task will run it.
pub fn inherit<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let (trace, service) = (current(), service::current());
    async move {
        match (trace, service) {
            (Some(trace), Some(service)) => service::within(service, in_trace(trace, work)).await,
            (Some(trace), None) => in_trace(trace, work).await,
            (None, Some(service)) => service::within(service, work).await,
            (None, None) => work.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_for_another_task_keeps_its_trace_and_service() {
        let seen = || async { (current(), service::current()) };
        let trace = TraceContext::root();
        let mut work = None;
        service::within("orders", in_trace(trace, async { work = Some(inherit(seen())) })).await;
        assert_eq!(seen().await, (None, None));
        assert_eq!(work.unwrap().await, (Some(trace), Some("orders".into())));
    }
}
