//! Calls to another service, with all that stands around each.
//!
//! The stack, from the outside in, and why each stands where it does:
//!
//! | what | why there |
//! |---|---|
//! | fallback ([`Caller::call_or`]) | what is given when all else has failed must not itself be inside of what fails |
//! | deadline | the time is our caller's: retries, pauses and waiting use it up together, and nothing begins after it |
//! | retry within a budget | repeats all that is inside, so that each attempt asks breaker and limit anew |
//! | hedge | two attempts are two loads: each takes a place and tells the breaker, so it is outside of both |
//! | concurrency limit | who waits for a place has no leave from the breaker yet: no probe is held by one who waits, and one who is called after the breaker opened is told so at once |
//! | breaker | counts what the callee did: time spent waiting for a place, which is our own doing, is outside of it; so are deadlines that our caller gave, shed load and bugs ([`Verdict`]) |
//! | attempt timeout | innermost, so that breaker and limit see an attempt that hangs end as the callee's fault; the end of our caller's deadline is not |
//!
//! The type of the call says whether it may be repeated: [`Caller::call`] is for what is idempotent, by nature or by a
//! key; [`Caller::call_once`] for all else. Where somebody further up repeats (a saga, the bus), a caller
//! [`without_repeats`](Caller::without_repeats) is right for both: each hop has one retry owner.
//!
//! What happened while the process itself was held (SIGSTOP, a paused machine) is held against nobody: of an attempt during
//! which a timer of ours fired much too late the breaker hears only that there was a good answer, limit and hedging nothing.
//! The same is true of one whose task was not polled for long, as in a `buffer_unordered` whose answers are worked on
//! meanwhile, but for a failure that is an answer and not the end of its time: that counts.
//!
//! A call that is dropped at any point gives back its place, its leave and a retry that it has not made.

mod attempt;
mod attempts;
mod error;
mod line;
mod policy;
mod race;
mod seen;
#[cfg(test)]
mod tests;
mod verdict;
mod watch;

use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use crate::message::Fault;
use crate::telemetry::Metrics;

use super::{Breaker, Breakers, Ticket};
use attempts::{Answer, Run};

pub use error::CallError;
pub(in crate::resilience) use error::Silence;
pub(in crate::resilience) use line::Line;
pub use line::LineStatus;
pub use policy::CallPolicy;
pub use verdict::{Judged, Verdict};

/// Calls one callee; cheap to clone, and to be shared by all who call it, because they learn from each other.
#[derive(Debug, Clone)]
pub struct Caller {
    line: Arc<Line>,
    repeats: bool,
}

impl Caller {
    /// A caller of `name`, whose breaker is listed in `breakers`. Several callers with policies from a file come from
    /// [`Calls`](super::Calls).
    pub fn new(name: impl Into<Arc<str>>, policy: CallPolicy, breakers: &Breakers) -> Self {
        Self::on(Arc::new(Line::new(name.into(), policy, breakers, None)))
    }

    /// As [`Caller::new`]; shown in metrics as `purlin_calls` by `callee` and `outcome`, `purlin_call_retries`,
    /// `purlin_call_hedges` and `purlin_call_seconds` by `callee`.
    pub fn observed(
        name: impl Into<Arc<str>>,
        policy: CallPolicy,
        breakers: &Breakers,
        metrics: &Metrics,
    ) -> Self {
        Self::on(Arc::new(Line::new(name.into(), policy, breakers, Some(metrics))))
    }

    pub(super) fn on(line: Arc<Line>) -> Self {
        Self { line, repeats: true }
    }

    /// The same, but it repeats and hedges nothing: for whoever is repeated himself.
    pub fn without_repeats(&self) -> Self {
        Self { line: Arc::clone(&self.line), repeats: false }
    }

    /// Whom it calls.
    pub fn name(&self) -> &Arc<str> {
        self.line.name()
    }

    /// The breaker that calls go through.
    pub fn breaker(&self) -> Breaker {
        self.line.parts().breaker.clone()
    }

    /// The policy that the next call is made by.
    pub fn policy(&self) -> CallPolicy {
        self.line.parts().policy
    }

    /// How it stands.
    pub fn status(&self) -> LineStatus {
        self.line.status()
    }

    /// Calls, and repeats what failed for a transient reason. An attempt without an answer may have had its
    /// effect: only what is idempotent may be called like this.
    pub async fn call<T, E, F, Fut>(&self, mut work: F) -> Result<T, CallError<E>>
    where
        E: Fault,
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        said(self.judged(self.repeats, judge, |_| work()).await)
    }

    /// Calls, and repeats nothing.
    pub async fn call_once<T, E, F, Fut>(&self, work: F) -> Result<T, CallError<E>>
    where
        E: Fault,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.call_ticketed(|_| work()).await
    }

    /// As [`Caller::call_once`], for work that may be told of when nobody waits for the call any more. If the call is a
    /// probe, `work` gets a [`Ticket`]: whoever drops the call, and not what it does, tells with it what comes of that.
    pub async fn call_ticketed<T, E, F, Fut>(&self, work: F) -> Result<T, CallError<E>>
    where
        E: Fault,
        F: FnOnce(Option<Ticket>) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let mut work = Some(work);
        let once = |ticket| (work.take().expect("without retries there is one attempt"))(ticket);
        said(self.judged(false, judge, once).await)
    }

    /// As [`Caller::call`]; when the callee could not, for now, `instead` makes the answer (or says that it cannot
    /// either): something remembered, something less, nothing. What the callee *refused* stays refused.
    pub async fn call_or<T, E, F, Fut, G, Instead>(&self, work: F, instead: G) -> Result<T, CallError<E>>
    where
        E: Fault,
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        G: FnOnce(CallError<E>) -> Instead,
        Instead: Future<Output = Result<T, CallError<E>>>,
    {
        match self.call(work).await {
            Err(error) if error.kind().is_transient() => {
                self.line.fell_back();
                instead(error).await
            }
            answer => answer,
        }
    }

    /// Calls, and lets `judge` say what an answer tells of the callee.
    pub(super) async fn judged<T, E, F, Fut, J>(&self, repeatable: bool, judge: J, work: F) -> Answer<T, E>
    where
        F: FnMut(Option<Ticket>) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        J: Fn(&Result<T, E>) -> Verdict,
    {
        let (start, parts) = (Instant::now(), self.line.parts());
        let run = Run::new(&parts, self.line.seen(), start, repeatable && self.repeats, judge);
        let ended = run.attempts(start, &Mutex::new(work)).await;
        if let Some(seen) = self.line.seen() {
            seen.ended(ended.outcome(), ended.at.saturating_duration_since(start));
        }
        ended.answer
    }
}

fn judge<T, E: Fault>(answer: &Result<T, E>) -> Verdict {
    answer.as_ref().map_or_else(Verdict::of, |_| Verdict::Good)
}

fn said<T, E>(answer: Answer<T, E>) -> Result<T, CallError<E>> {
    answer.map_err(CallError::from)?.map_err(CallError::Failed)
}
