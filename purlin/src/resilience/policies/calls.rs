//! The callers of a process, and the policies that they call by.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::resilience::caller::{Line, LineStatus};
use crate::resilience::{Breakers, Caller};
use crate::telemetry::Metrics;

use super::{Policies, PolicyInForce};

/// The callers of a process by callee; cheap to clone.
///
/// Whoever asks for the caller of one callee gets the same one: they share its breaker, budget and places. After a
/// [`reload`](Calls::reload) their next call is made by the new policy.
#[derive(Debug, Clone)]
pub struct Calls {
    breakers: Breakers,
    metrics: Option<Metrics>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    policies: Policies,
    lines: BTreeMap<Arc<str>, Arc<Line>>,
}

impl Calls {
    /// Callers whose breakers are listed in `breakers`.
    pub fn new(policies: Policies, breakers: &Breakers) -> Self {
        let state = State { policies, lines: BTreeMap::new() };
        Self { breakers: breakers.clone(), metrics: None, state: Arc::new(Mutex::new(state)) }
    }

    /// As [`Calls::new`]; shown in metrics as [`Caller::observed`] says, and by `callee` as `purlin_call_limit`,
    /// `purlin_call_under_way`, `purlin_call_waiting`, `purlin_call_shed`, `purlin_call_retries_left` and
    /// `purlin_call_hedges_left`.
    pub fn observed(policies: Policies, breakers: &Breakers, metrics: &Metrics) -> Self {
        let calls = Self { metrics: Some(metrics.clone()), ..Self::new(policies, breakers) };
        calls.gauge(metrics, "limit", "Attempts that may be under way", |line| line.concurrency.limit as f64);
        calls.gauge(metrics, "under_way", "Attempts under way", |line| line.concurrency.under_way as f64);
        calls.gauge(metrics, "waiting", "Attempts that wait for a place", |line| {
            line.concurrency.waiting as f64
        });
        calls.gauge(metrics, "shed", "Attempts that found no place, since the start", |line| {
            line.concurrency.shed.iter().map(|(_, shed)| *shed as f64).sum()
        });
        calls.gauge(metrics, "retries_left", "Retries left of the budget", |line| line.retries_left);
        let left = |line: &LineStatus| line.hedges_left.unwrap_or(0.0);
        calls.gauge(metrics, "hedges_left", "Attempts beside slow ones left of the budget", left);
        calls
    }

    fn gauge(&self, metrics: &Metrics, name: &str, help: &str, read: fn(&LineStatus) -> f64) {
        let state = Arc::clone(&self.state);
        metrics.gauges_from(&format!("purlin_call_{name}"), help, ["callee"], move || {
            let lines = lines_of(&lock(&state));
            lines.iter().map(|line| line.status()).map(|line| ([line.callee.clone()], read(&line))).collect()
        });
    }

    /// The caller of a callee.
    pub fn caller(&self, callee: impl Into<Arc<str>>) -> Caller {
        let callee = callee.into();
        let mut state = lock(&self.state);
        if let Some(line) = state.lines.get(&callee) {
            return Caller::on(Arc::clone(line));
        }
        let policy = state.policies.of(&callee).policy;
        let line = Line::new(Arc::clone(&callee), policy, &self.breakers, self.metrics.as_ref());
        let line = Arc::new(line);
        state.lines.insert(callee, Arc::clone(&line));
        Caller::on(line)
    }

    /// Lets other policies hold from the next call on; the callees whose policy is another one now. What was counted
    /// stays, but for a breaker whose own part changed: it begins anew, closed unless an operator holds it.
    pub fn reload(&self, policies: Policies) -> Vec<Arc<str>> {
        let mut state = lock(&self.state);
        let lines = &state.lines;
        let changed = lines.iter().filter(|(callee, line)| line.reconfigure(policies.of(callee).policy));
        let changed = changed.map(|(callee, _)| Arc::clone(callee)).collect();
        state.policies = policies;
        changed
    }

    /// The policies in force, of all callees that are named in them or were called.
    pub fn in_force(&self) -> Vec<PolicyInForce> {
        let state = lock(&self.state);
        let called = state.lines.keys().map(|callee| &**callee);
        let callees: BTreeSet<&str> = state.policies.named().into_iter().chain(called).collect();
        callees.into_iter().map(|callee| state.policies.of(callee)).collect()
    }

    /// How the ways to all callees stand.
    pub fn status(&self) -> Vec<LineStatus> {
        let lines = lines_of(&lock(&self.state));
        lines.iter().map(|line| line.status()).collect()
    }

    /// The breakers of all callees.
    pub fn breakers(&self) -> &Breakers {
        &self.breakers
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lines_of(state: &State) -> Vec<Arc<Line>> {
    state.lines.values().cloned().collect()
}
