//! What a running group tells the metrics.

use std::sync::Arc;
use std::time::Duration;

use crate::message::FaultKind;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{Counter, Family, Gauge};

use super::{Group, GroupStatus};

/// How long a change may wait to be seen in the gauges.
const FRESH: Duration = Duration::from_secs(1);

/// The metrics of one group.
#[derive(Clone)]
pub(super) struct Gauges {
    pub(super) handled: Counter,
    failures: Family<Counter, 2>,
    parked: Gauge,
    retrying_keys: Gauge,
    dead_keys: Gauge,
    lag: Gauge,
    group: Arc<str>,
}

impl Gauges {
    pub(super) fn register(metrics: &Metrics, group: &Arc<str>) -> Self {
        let gauge = |name, help| metrics.gauge(name, help, ["group"]).with([&**group]);
        let handled = metrics.counter("purlin_bus_handled", "Messages handled by a group", ["group"]);
        let failures = ["group", "kind"];
        Self {
            handled: handled.with([&**group]),
            failures: metrics.counter("purlin_bus_failures", "Handlings of a group that failed", failures),
            parked: gauge("purlin_bus_parked_messages", "Messages that failed or wait behind one that did"),
            retrying_keys: gauge("purlin_bus_retrying_keys", "Keys whose first message is tried again"),
            dead_keys: gauge("purlin_bus_dead_keys", "Keys that wait for an operator"),
            lag: gauge("purlin_bus_lag", "Positions of the bus that a group has yet to look at"),
            group: Arc::clone(group),
        }
    }

    pub(super) fn failed(&self, kind: FaultKind) {
        self.failures.with([&*self.group, kind.as_str()]).inc();
    }

    fn set(&self, status: &GroupStatus) {
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.parked.set(number(status.parked));
        self.retrying_keys.set(number(status.retrying_keys));
        self.dead_keys.set(number(status.dead_keys));
        self.lag.set(number(status.lag));
    }
}

/// Keeps the gauges of a group fresh, for as long as it is polled.
pub(super) async fn keep(group: &Group) {
    let Some(gauges) = &group.gauges else { return std::future::pending().await };
    let (mut own, mut bus) = (group.store.watch(), group.bus.watch());
    loop {
        own.borrow_and_update();
        bus.borrow_and_update();
        // A store that cannot be read is told of by those who need it.
        if let Ok(status) = group.status().await {
            gauges.set(&status);
        }
        tokio::select! {
            _ = own.changed() => {}
            _ = bus.changed() => {}
        }
        tokio::time::sleep(FRESH).await;
    }
}
