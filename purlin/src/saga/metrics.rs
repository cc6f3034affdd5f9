//! What running sagas tell the metrics.

use crate::store::{Query, ReadError, Store};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{Counter, Family, Gauge};

use super::SagaState;
use super::record::SagaRow;

/// How many records are looked at a time.
const PAGE: usize = 1000;

/// The metrics of one store's sagas.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) retried: Counter,
    /// By kind and state.
    pub(super) ended: Ended,
    pub(super) in_memory: Gauge,
    pub(super) foreign: Gauge,
    stuck: Gauge,
    blocked: Gauge,
}

/// Counts ends of one service.
#[derive(Clone)]
pub(super) struct Ended {
    family: Family<Counter, 3>,
    of: std::sync::Arc<str>,
}

impl Ended {
    pub(super) fn with(&self, [kind, state]: [&str; 2]) -> Counter {
        self.family.with([&*self.of, kind, state])
    }
}

impl Seen {
    pub(super) fn register(metrics: &Metrics, of: &str) -> Self {
        let gauge = |name, help| metrics.gauge(name, help, ["service"]).with([of]);
        let retried = "Attempts at steps, compensations and ends of sagas that failed and are repeated";
        let ended = ["service", "kind", "state"];
        Self {
            retried: metrics.counter("purlin_saga_retries", retried, ["service"]).with([of]),
            ended: Ended {
                family: metrics.counter("purlin_sagas_ended", "Sagas that ended", ended),
                of: of.into(),
            },
            in_memory: gauge("purlin_sagas_in_memory", "Sagas that are in memory"),
            foreign: gauge(
                "purlin_sagas_foreign",
                "Sagas that want to run and whose function this program lacks",
            ),
            stuck: gauge("purlin_sagas_stuck", "Sagas that cannot be undone, or take longer than they may"),
            blocked: gauge(
                "purlin_sagas_blocked",
                "Sagas that cannot be run until a program that can is deployed",
            ),
        }
    }

    /// Counts the sagas that wait for a person.
    pub(super) async fn count(&self, store: &Store) -> Result<(), ReadError> {
        for (state, gauge) in [(SagaState::Stuck, &self.stuck), (SagaState::Blocked, &self.blocked)] {
            let (mut count, mut after) = (0, None);
            loop {
                let query = Query::all().and("state", state.as_str()).limit(PAGE).after(after);
                let page = store.list::<SagaRow>(query).await?;
                count += page.records.len();
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        Ok(())
    }
}
