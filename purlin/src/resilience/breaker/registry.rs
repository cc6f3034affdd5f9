//! All breakers of a process, for those who look after it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::telemetry::Metrics;

use super::{Breaker, BreakerConfig, BreakerState, BreakerStatus};

/// Breakers by name; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Breakers {
    known: Arc<Mutex<BTreeMap<Arc<str>, Breaker>>>,
}

impl Breakers {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The breaker of this name; `config` is used if there is none.
    pub fn breaker(&self, name: impl Into<Arc<str>>, config: BreakerConfig) -> Breaker {
        let name = name.into();
        let mut known = self.lock();
        known.entry(Arc::clone(&name)).or_insert_with(|| Breaker::new(name, config)).clone()
    }

    /// The breaker of this name, if there is one.
    pub fn find(&self, name: &str) -> Option<Breaker> {
        self.lock().get(name).cloned()
    }

    /// How all of them stand, by name.
    pub fn list(&self, now: Instant) -> Vec<BreakerStatus> {
        let breakers: Vec<_> = self.lock().values().cloned().collect();
        breakers.iter().map(|breaker| breaker.status(now)).collect()
    }

    /// Shows them in metrics: `purlin_breaker_state` (0 closed, 1 half-open, 2 open), `purlin_breaker_opened`
    /// and `purlin_breaker_rejected`, by `callee`.
    pub fn observe(&self, metrics: &Metrics) {
        self.gauge(metrics, "purlin_breaker_state", "0 closed, 1 half-open, 2 open", |status| {
            match status.state {
                BreakerState::Closed => 0.0,
                BreakerState::HalfOpen => 1.0,
                BreakerState::Open => 2.0,
            }
        });
        let opened = |status: &BreakerStatus| status.opened as f64;
        self.gauge(metrics, "purlin_breaker_opened", "How often it has opened", opened);
        let rejected = |status: &BreakerStatus| status.rejected as f64;
        self.gauge(metrics, "purlin_breaker_rejected", "Calls refused", rejected);
    }

    fn gauge(&self, metrics: &Metrics, name: &str, help: &str, read: fn(&BreakerStatus) -> f64) {
        let breakers = self.clone();
        metrics.gauges_from(name, help, ["callee"], move || {
            let list = breakers.list(Instant::now());
            list.into_iter().map(|status| (read(&status), status)).map(|(n, s)| ([s.name], n)).collect()
        });
    }

    /// Puts a breaker that begins anew, under other terms, in the place of the one of this name; only what an operator
    /// holds stays.
    pub(in crate::resilience) fn replace(&self, name: &Arc<str>, config: BreakerConfig) -> Breaker {
        let breaker = Breaker::new(Arc::clone(name), config);
        let old = self.lock().insert(Arc::clone(name), breaker.clone());
        if let Some(forced) = old.and_then(|old| old.status(Instant::now()).forced) {
            breaker.force(Some(forced));
        }
        breaker
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Breaker>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
