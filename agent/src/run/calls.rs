//! The calls of a turn at work side by side, in the task of the run, so that trace and deadline hold in them too.

use std::panic::AssertUnwindSafe;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _};
use purlin::message::Uuid;
use tokio::time::{Instant, timeout_at};

use crate::machine::{Happening, Pending};
use crate::tool::{At, Failure, Outcome, Tool};

use super::Agent;
use super::engine::millis_since;

/// On whose behalf and in which run calls are made, and until when.
pub(super) struct Start<'a, C> {
    pub(super) caller: &'a C,
    pub(super) run: Uuid,
    pub(super) deadline: Instant,
}

/// Calls at work; dropping them stops them.
pub(super) struct Calls(BoxStream<'static, Happening>);

impl Calls {
    pub(super) fn start<C: Clone + Send + Sync + 'static>(
        agent: &Agent<C>,
        start: &Start<'_, C>,
        pending: &[Pending<'_>],
    ) -> Self {
        let calls: Vec<_> = pending.iter().map(|one| call(agent, start, one)).collect();
        let parallel = agent.limits.max_parallel.max(1);
        Self(stream::iter(calls).buffer_unordered(parallel).boxed())
    }

    /// How the next call ended; none when all have.
    pub(super) async fn next(&mut self) -> Option<Happening> {
        self.0.next().await
    }
}

fn call<C: Clone + Send + Sync + 'static>(
    agent: &Agent<C>,
    start: &Start<'_, C>,
    pending: &Pending<'_>,
) -> BoxFuture<'static, Happening> {
    let Pending { turn, position, call } = *pending;
    let tool = agent.tools.iter().find(|tool| tool.definition().name() == call.name).cloned();
    let tool = tool.expect("the machine only plans calls of tools that exist");
    let limits = &agent.limits;
    let timeout = tool.definition().timeout().unwrap_or(limits.tool_timeout);
    let (caller, run_deadline, max_bytes) = (start.caller.clone(), start.deadline, limits.max_result_bytes);
    let (key, arguments) = (format!("{}/{turn}/{position}", start.run), call.arguments.clone());
    async move {
        // The time of a call counts from when it is its turn, not from when it waits for a place.
        let begun = Instant::now();
        let deadline = begun + timeout;
        let at = At::new(caller, key, run_deadline.min(deadline), max_bytes);
        // The end of the run is the engine's to see: it is no failure of this tool.
        let outcome = outcome(&tool, arguments, at, deadline).await;
        let (duration_ms, failed) = (millis_since(begun), matches!(outcome, Outcome::Error(_)));
        tracing::debug!(tool = tool.definition().name(), turn, duration_ms, failed, "a tool was called");
        Happening::Returned { position, outcome, duration_ms }
    }
    .boxed()
}

async fn outcome<C: Send + 'static>(
    tool: &Tool<C>,
    arguments: serde_json::Value,
    at: At<C>,
    deadline: Instant,
) -> Outcome {
    let name = tool.definition().name();
    let work = AssertUnwindSafe(async { tool.call(arguments, at).await }).catch_unwind();
    match timeout_at(deadline, work).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => {
            let said = panic.downcast_ref::<&str>().map(ToString::to_string);
            let said = said.or_else(|| panic.downcast_ref::<String>().cloned());
            tracing::error!(tool = name, panic = said, "a tool panicked");
            Outcome::Error(Failure::panicked())
        }
        Err(_) => {
            tracing::warn!(tool = name, "a tool gave no answer in time");
            Outcome::Error(Failure::timeout())
        }
    }
}
