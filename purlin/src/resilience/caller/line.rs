//! What all callers of one callee share, and how it takes another policy.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde::Serialize;
use tokio::time::Instant;

use crate::resilience::bulkhead::BulkheadStatus;
use crate::resilience::hedge::Hedging;
use crate::resilience::per_thread::{Apart, Lines};
use crate::resilience::{Breaker, BreakerState, Breakers, Bulkhead, RetryBudget};
use crate::telemetry::Metrics;

use super::CallPolicy;
use super::seen::Seen;

/// The way to one callee.
#[derive(Debug)]
pub(in crate::resilience) struct Line {
    name: Arc<str>,
    breakers: Breakers,
    /// The same for each thread, so that those who call at the same time do not all count one thing. Who changes them
    /// has the lock.
    parts: Lines<RwLock<Arc<Apart<Parts>>>>,
    changes: Mutex<()>,
    seen: Option<Seen>,
}

/// A policy, and what is counted under it. A call keeps those that it began with.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    pub(super) policy: CallPolicy,
    pub(super) breaker: Breaker,
    pub(super) budget: Arc<RetryBudget>,
    pub(super) bulkhead: Bulkhead,
    pub(super) hedging: Option<Arc<Hedging>>,
}

impl Line {
    pub(in crate::resilience) fn new(
        name: Arc<str>,
        policy: CallPolicy,
        breakers: &Breakers,
        metrics: Option<&Metrics>,
    ) -> Self {
        let now = Instant::now();
        let parts = Parts {
            policy,
            breaker: breakers.breaker(Arc::clone(&name), policy.breaker),
            budget: Arc::new(RetryBudget::new(policy.budget, now)),
            bulkhead: Bulkhead::new(policy.concurrency),
            hedging: policy.hedge.map(|hedge| Arc::new(Hedging::new(hedge, now))),
        };
        let seen = metrics.map(|metrics| Seen::new(&name, metrics));
        let parts = Lines::new(|| RwLock::new(Arc::new(Apart(parts.clone()))));
        Self { name, breakers: breakers.clone(), parts, changes: Mutex::default(), seen }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    #[inline]
    pub(super) fn parts(&self) -> Arc<Apart<Parts>> {
        Arc::clone(&self.parts.here().read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn seen(&self) -> Option<&Seen> {
        self.seen.as_ref()
    }

    pub(super) fn fell_back(&self) {
        if let Some(seen) = &self.seen {
            seen.fallbacks.inc();
        }
    }

    /// Makes the next calls by another policy; whether it is another one. What was counted stays, but for a breaker
    /// whose own part of the policy changed: that begins anew, closed unless an operator holds it.
    pub(in crate::resilience) fn reconfigure(&self, policy: CallPolicy) -> bool {
        let _one_at_a_time = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let parts = self.parts();
        if parts.policy == policy {
            return false;
        }
        let (now, old) = (Instant::now(), &parts.policy);
        let breaker = match old.breaker == policy.breaker {
            true => parts.breaker.clone(),
            false => self.breakers.replace(&self.name, policy.breaker),
        };
        let budget = match old.budget == policy.budget {
            true => Arc::clone(&parts.budget),
            false => Arc::new(parts.budget.under(policy.budget, now)),
        };
        if old.concurrency != policy.concurrency {
            parts.bulkhead.reconfigure(policy.concurrency);
        }
        let hedging = match (policy.hedge, &parts.hedging) {
            (None, _) => None,
            (Some(_), Some(hedging)) if old.hedge == policy.hedge => Some(Arc::clone(hedging)),
            (Some(hedge), Some(hedging)) => Some(Arc::new(hedging.under(hedge, now))),
            (Some(hedge), None) => Some(Arc::new(Hedging::new(hedge, now))),
        };
        let bulkhead = parts.bulkhead.clone();
        let parts = Parts { policy, breaker, budget, bulkhead, hedging };
        for line in self.parts.iter() {
            *line.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Apart(parts.clone()));
        }
        true
    }

    /// How it stands.
    pub(in crate::resilience) fn status(&self) -> LineStatus {
        let parts = self.parts();
        let breaker = parts.breaker.status(Instant::now());
        let hedging = parts.hedging.as_ref();
        LineStatus {
            callee: self.name.to_string(),
            breaker: breaker.state,
            concurrency: parts.bulkhead.status(),
            retries_left: parts.budget.left(),
            hedges_left: hedging.map(|hedging| hedging.budget().left()),
            hedge_after_ms: hedging
                .and_then(|hedging| hedging.delay())
                .map(|delay| delay.as_secs_f64() * 1e3),
        }
    }
}

/// How the way to a callee stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LineStatus {
    /// Who is called.
    pub callee: String,
    /// What the breaker does with a call.
    pub breaker: BreakerState,
    /// Places, and who waits for one.
    pub concurrency: BulkheadStatus,
    /// How many retries are left of the budget.
    pub retries_left: f64,
    /// How many second attempts are left, if calls are hedged.
    pub hedges_left: Option<f64>,
    /// After how many milliseconds a second attempt is made, once that is known.
    pub hedge_after_ms: Option<f64>,
}
