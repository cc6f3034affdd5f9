//! Whether the limits are shared at the moment, for whoever looks.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::watch;

use crate::telemetry::Metrics;
use crate::telemetry::metrics::{Counter, Gauge};

use super::counter::Cause;

/// How shared limits stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SharedLimitsStatus {
    /// Whether the counter answers. If not, each process has its own part of each limit.
    pub shared: bool,
    /// How many processes share them, as far as is known: the limits' parts are made by it.
    pub processes: u32,
    /// How often the counter was lost.
    pub lost: u64,
    /// Why it does not answer, or did not when it was last lost.
    pub reason: Option<String>,
}

/// What keeps the status, and says what becomes of it.
#[derive(Debug)]
pub(super) struct Standing {
    status: Mutex<SharedLimitsStatus>,
    shared: watch::Sender<bool>,
    gauge: Gauge,
    processes: Gauge,
    pub(super) asked: Counter,
    pub(super) failed: Counter,
    pub(super) granted: Counter,
}

impl Standing {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let gauge = |name, help| metrics.gauge(name, help, []).with([]);
        let counter = |name, help| metrics.counter(name, help, []).with([]);
        let standing = Self {
            status: Mutex::new(SharedLimitsStatus { shared: false, processes: 1, lost: 0, reason: None }),
            shared: watch::Sender::new(false),
            gauge: gauge(
                "rate_limits_shared",
                "Whether rate limits are counted together with other processes",
            ),
            processes: gauge("rate_limits_processes", "Processes that share the rate limits, as last known"),
            asked: counter("rate_limits_asks", "Asks of keys to the shared counter"),
            failed: counter("rate_limits_unanswered", "Asks of keys that the shared counter did not answer"),
            granted: counter("rate_limits_leased", "Requests that the shared counter granted ahead"),
        };
        standing.processes.set(1);
        standing
    }

    pub(super) fn status(&self) -> SharedLimitsStatus {
        self.lock().clone()
    }

    pub(super) fn watch(&self) -> watch::Receiver<bool> {
        self.shared.subscribe()
    }

    /// The counter answers.
    pub(super) fn found(&self, processes: u32) {
        let mut status = self.lock();
        status.processes = processes;
        self.processes.set(i64::from(processes));
        if !std::mem::replace(&mut status.shared, true) {
            drop(status);
            self.gauge.set(1);
            self.shared.send_replace(true);
            tracing::info!(processes, "rate limits are shared");
        }
    }

    /// The counter does not answer: said once, however long it lasts.
    pub(super) fn lost(&self, cause: &Cause) {
        let reason = describe(cause);
        let mut status = self.lock();
        let was_shared = std::mem::replace(&mut status.shared, false);
        let first = status.reason.is_none() && status.lost == 0;
        if was_shared || first {
            status.lost += 1;
            tracing::warn!(%reason, processes = status.processes, "rate limits are not shared: each process has its part");
        }
        status.reason = Some(reason);
        drop(status);
        self.gauge.set(0);
        self.shared.send_replace(false);
    }

    fn lock(&self) -> MutexGuard<'_, SharedLimitsStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn describe(cause: &Cause) -> String {
    let mut text = cause.to_string();
    let mut next = cause.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}
