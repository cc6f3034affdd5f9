//! What is counted of calls.

use std::sync::Arc;
use std::time::Duration;

use crate::telemetry::Metrics;
use crate::telemetry::metrics::{Counter, Family, Histogram, SECONDS};

/// What is counted of the calls to one callee.
#[derive(Debug)]
pub(super) struct Seen {
    callee: Arc<str>,
    calls: Family<Counter, 2>,
    /// Of `calls`, so that the usual outcome is not looked up.
    ok: Counter,
    pub(super) retries: Counter,
    pub(super) hedges: Counter,
    pub(super) fallbacks: Counter,
    seconds: Histogram,
}

impl Seen {
    pub(super) fn new(callee: &Arc<str>, metrics: &Metrics) -> Self {
        let of = [&**callee];
        let counter = |name, help| metrics.counter(name, help, ["callee"]).with(of);
        let calls = metrics.counter("purlin_calls", "Calls to other services", ["callee", "outcome"]);
        let seconds = metrics.histogram("purlin_call_seconds", "How long calls took", ["callee"], SECONDS);
        Self {
            ok: calls.with([callee, "ok"]),
            calls,
            retries: counter("purlin_call_retries", "Attempts after the first"),
            hedges: counter("purlin_call_hedges", "Attempts beside a slow one"),
            fallbacks: counter("purlin_call_fallbacks", "Calls answered by their fallback"),
            seconds: seconds.with(of),
            callee: Arc::clone(callee),
        }
    }

    pub(super) fn ended(&self, outcome: &'static str, took: Duration) {
        match outcome {
            "ok" => self.ok.inc(),
            other => self.calls.with([&self.callee, other]).inc(),
        };
        self.seconds.observe(took.as_secs_f64());
    }
}
