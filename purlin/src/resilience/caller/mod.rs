//! A call to another service: within a deadline, through a breaker, tried again within a budget.

mod error;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as friendly;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::message::Fault;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{self, Counter, Family, Histogram};

use super::{
    Breaker, BreakerConfig, Breakers, Deadline, DeadlineExceeded, Retry, RetryBudget, RetryBudgetConfig, dice,
};

pub use error::CallError;

/// How a callee is called.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CallPolicy {
    /// How long a call may take, retries and pauses included; less if the caller's own deadline is earlier.
    #[serde(with = "friendly")]
    pub deadline: Duration,
    /// How long one attempt may take.
    #[serde(with = "friendly")]
    pub attempt: Duration,
    /// When a failed attempt is repeated.
    pub retry: Retry,
    /// How many repetitions all calls to this callee have together.
    pub budget: RetryBudgetConfig,
    /// When the callee is left alone.
    pub breaker: BreakerConfig,
}

impl Default for CallPolicy {
    /// 5 s for a call, 2 s for an attempt, and the defaults of the parts.
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(5),
            attempt: Duration::from_secs(2),
            retry: Retry::default(),
            budget: RetryBudgetConfig::default(),
            breaker: BreakerConfig::default(),
        }
    }
}

/// Calls one callee; cheap to clone, and to be shared by all who call it, because they learn from each other.
#[derive(Debug, Clone)]
pub struct Caller {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    policy: CallPolicy,
    breaker: Breaker,
    budget: RetryBudget,
    seen: Option<Seen>,
}

/// What is counted of calls.
#[derive(Debug)]
struct Seen {
    calls: Family<Counter, 2>,
    retries: Counter,
    seconds: Histogram,
}

impl Caller {
    /// A caller of `name`, whose breaker is listed in `breakers`.
    pub fn new(name: impl Into<Arc<str>>, policy: CallPolicy, breakers: &Breakers) -> Self {
        Self::build(breakers.breaker(name, policy.breaker), policy, None)
    }

    /// As [`Caller::new`]; shown in metrics as `purlin_calls` by `callee` and `outcome`,
    /// `purlin_call_retries` and `purlin_call_seconds` by `callee`.
    pub fn observed(
        name: impl Into<Arc<str>>,
        policy: CallPolicy,
        breakers: &Breakers,
        metrics: &Metrics,
    ) -> Self {
        let breaker = breakers.breaker(name, policy.breaker);
        let callee = [&**breaker.name()];
        let retries =
            metrics.counter("purlin_call_retries", "Attempts after the first", ["callee"]).with(callee);
        let seconds = "purlin_call_seconds";
        let seconds =
            metrics.histogram(seconds, "How long calls took", ["callee"], metrics::SECONDS).with(callee);
        let calls = metrics.counter("purlin_calls", "Calls to other services", ["callee", "outcome"]);
        Self::build(breaker, policy, Some(Seen { calls, retries, seconds }))
    }

    fn build(breaker: Breaker, policy: CallPolicy, seen: Option<Seen>) -> Self {
        let budget = RetryBudget::new(policy.budget, Instant::now());
        Self { shared: Arc::new(Shared { policy, breaker, budget, seen }) }
    }

    /// Whom it calls.
    pub fn name(&self) -> &Arc<str> {
        self.shared.breaker.name()
    }

    /// The breaker that calls go through.
    pub fn breaker(&self) -> &Breaker {
        &self.shared.breaker
    }

    /// Calls, and repeats what failed for a transient reason. An attempt without an answer may have had its
    /// effect: only what is idempotent may be called like this.
    pub async fn call<T, E, F, Fut>(&self, work: F) -> Result<T, CallError<E>>
    where
        E: Fault,
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.call_with(&self.shared.policy.retry, work).await
    }

    /// Calls, and repeats nothing.
    pub async fn call_once<T, E, F, Fut>(&self, work: F) -> Result<T, CallError<E>>
    where
        E: Fault,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let mut work = Some(work);
        let once = || (work.take().expect("without retries there is one attempt"))();
        self.call_with(&Retry::NEVER, once).await
    }

    async fn call_with<T, E, F, Fut>(&self, retry: &Retry, mut work: F) -> Result<T, CallError<E>>
    where
        E: Fault,
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let start = Instant::now();
        let deadline = Deadline::from(start, self.shared.policy.deadline).tightened();
        let answer = self.attempts(retry, deadline, &mut work).await;
        if let Some(seen) = &self.shared.seen {
            let outcome = answer.as_ref().map_or_else(CallError::outcome, |_| "ok");
            seen.calls.with([&**self.name(), outcome]).inc();
            seen.seconds.observe(start.elapsed().as_secs_f64());
        }
        answer
    }

    async fn attempts<T, E, F, Fut>(
        &self,
        retry: &Retry,
        deadline: Deadline,
        work: &mut F,
    ) -> Result<T, CallError<E>>
    where
        E: Fault,
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let mut failed = 0;
        let mut last = None;
        loop {
            let answer = self.attempt(deadline, work).await;
            // Only a call that is made earns a part of a retry; one that an open breaker refuses asks nobody.
            if failed == 0 && !matches!(answer, Err(CallError::Open(_))) {
                self.shared.budget.earn();
            }
            let error = match (answer, last.take()) {
                (Ok(answer), _) => return Ok(answer),
                // What failed before says more than that it was given up.
                (Err(CallError::Open(_)), Some(last)) => return Err(last),
                (Err(error), _) => error,
            };
            failed += 1;
            let Some(pause) = self.pause(retry, failed, &error, deadline) else { return Err(error) };
            self.tell_retry(failed, pause, &error);
            tokio::time::sleep(pause).await;
            last = Some(error);
        }
    }

    async fn attempt<T, E, F, Fut>(&self, deadline: Deadline, work: &mut F) -> Result<T, CallError<E>>
    where
        E: Fault,
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let now = Instant::now();
        if deadline.remaining_at(now).is_zero() {
            return Err(CallError::DeadlineExceeded);
        }
        let permit = self.shared.breaker.admit(now)?;
        let until = Deadline::from(now, self.shared.policy.attempt).min(deadline);
        let answer = until.enforce(async { work().await }).await;
        match &answer {
            Ok(Ok(_)) => permit.succeeded(),
            Ok(Err(error)) if !error.kind().is_transient() => permit.succeeded(),
            // Our caller's time ran out. Whether the callee had enough of it is for the permit to say.
            _ if deadline.has_passed() => drop(permit),
            _ => permit.failed(Instant::now()),
        }
        match answer {
            Ok(answer) => answer.map_err(CallError::Failed),
            Err(DeadlineExceeded) => Err(CallError::DeadlineExceeded),
        }
    }

    fn tell_retry(&self, failed: u32, pause: Duration, error: &(dyn std::error::Error + 'static)) {
        tracing::debug!(callee = %self.name(), failed, ?pause, error, "a call is tried again");
        if let Some(seen) = &self.shared.seen {
            seen.retries.inc();
        }
    }

    /// How long to wait before the next attempt; none if there is to be none.
    fn pause<E: Fault>(
        &self,
        retry: &Retry,
        failed: u32,
        error: &CallError<E>,
        deadline: Deadline,
    ) -> Option<Duration> {
        let may_help = !matches!(error, CallError::Open(_)) && error.kind().is_transient();
        if !may_help || !retry.allows(failed) {
            return None;
        }
        let now = Instant::now();
        let pause = retry.delay(failed, dice());
        (pause < deadline.remaining_at(now) && self.shared.budget.spend(now)).then_some(pause)
    }
}
