//! A breaker that many callers share.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::message::Fault;
use crate::resilience::{CallError, Verdict};

use super::changes::Feed;
use super::clock::Time;
use super::gate::Gate;
use super::machine::{Generation, Phase, Transition};
use super::open::Callees;
use super::permit::{Leave, Says};
use super::stripes::Tally;
use super::{
    BreakerClock, BreakerConfig, BreakerState, BreakerStatus, Change, Changes, Forced, Open, Operator,
    Permit, Reason,
};

/// A circuit breaker for one callee; cheap to clone.
#[derive(Clone)]
pub struct Breaker {
    pub(super) shared: Arc<Shared>,
}

/// What all handles have in common. It stands in no cache line with anything else: whoever writes beside it would hold up
/// calls that only read.
#[repr(align(128))]
pub(super) struct Shared {
    name: Arc<str>,
    callees: Callees,
    config: BreakerConfig,
    pub(super) time: Time,
    pub(super) gate: Gate,
    rejected: Tally,
    /// How many the one refused in whose place it is.
    rejected_before: u64,
    feed: Feed,
    /// Of all breakers of a registry.
    common: Feed,
}

impl Breaker {
    /// A closed breaker; the name says in errors, logs and lists who is called.
    pub fn new(name: impl Into<Arc<str>>, config: BreakerConfig) -> Self {
        Self::with_clock(name, config, BreakerClock::Tokio)
    }

    /// As [`Breaker::new`], with a choice of the clock.
    pub fn with_clock(name: impl Into<Arc<str>>, config: BreakerConfig, clock: BreakerClock) -> Self {
        Self::build(name.into(), config, clock, Feed::default())
    }

    pub(super) fn build(name: Arc<str>, config: BreakerConfig, clock: BreakerClock, common: Feed) -> Self {
        let config = config.in_force().sane();
        let shared = Shared {
            callees: Callees::new(),
            name,
            config,
            time: Time::start(clock),
            gate: Gate::new(config),
            rejected: Tally::new(),
            rejected_before: 0,
            feed: Feed::default(),
            common,
        };
        Self { shared: Arc::new(shared) }
    }

    /// The same, in the place of another one: held as that is, and counting on. Only for one that nobody else has yet.
    pub(super) fn continuing(mut self, old: &Self) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.rejected_before = old.rejected();
        }
        let machine = old.shared.gate.look(|machine, _| machine.clone());
        self.shared.gate.change(&mut |_| {}, |new| new.continues(&machine));
        self
    }

    fn rejected(&self) -> u64 {
        self.shared.rejected_before + self.shared.rejected.sum()
    }

    /// Whom it guards.
    pub fn name(&self) -> &Arc<str> {
        &self.shared.name
    }

    /// When it opens and closes: with all that was not said filled in, and what makes no sense put right.
    pub fn config(&self) -> &BreakerConfig {
        &self.shared.config
    }

    /// Calls, unless it is open. What an answer says about the callee goes by the kind of its error: one that is away or
    /// late failed, one that refuses the request has answered, shed load and bugs say nothing.
    ///
    /// The clock is read only if the call waits for something: one that answers at once takes no time, and is
    /// never slow.
    #[inline]
    pub async fn call<T, E, F, Fut>(&self, work: F) -> Result<T, CallError<E>>
    where
        E: Fault,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let mut permit = self.enter().map_err(CallError::Open)?;
        let mut work = pin!(work());
        let answer = std::future::poll_fn(|cx| permit.poll(work.as_mut(), cx)).await;
        permit.judged(match &answer {
            Ok(_) => Says::Good,
            Err(error) => Verdict::of(error).says(),
        });
        answer.map_err(CallError::Failed)
    }

    /// Calls, unless it is open; `failed` says of an answer whether it is a failure of the callee.
    #[inline]
    pub async fn call_judged<T, F, Fut>(&self, failed: impl FnOnce(&T) -> bool, work: F) -> Result<T, Open>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = T>,
    {
        let mut permit = self.enter()?;
        let mut work = pin!(work());
        // A future of its own for what both have in common would cost a call as much as the breaker does.
        let answer = std::future::poll_fn(|cx| permit.poll(work.as_mut(), cx)).await;
        permit.judged(failed(&answer).into());
        Ok(answer)
    }

    /// The leave to make one call, or a refusal.
    #[inline]
    pub fn admit(&self, now: Instant) -> Result<Permit<'_>, Open> {
        let since = self.shared.time.since(now);
        match self.generation(Some(since)) {
            Ok(generation) => Ok(Permit::new(self, Leave::new(generation, Some(since)))),
            Err(retry_after) => Err(self.refusal(retry_after)),
        }
    }

    /// As [`Breaker::admit`], for calls that end at once or give their result however long they take: the clock is
    /// read only if it is not closed, or if slow calls count. A permit that is dropped without a result is then
    /// never a failure.
    #[inline]
    pub fn enter(&self) -> Result<Permit<'_>, Open> {
        match self.leave() {
            Ok(leave) => Ok(Permit::new(self, leave)),
            Err(retry_after) => Err(self.refusal(retry_after)),
        }
    }

    /// Holds a state whatever happens, or with `None` goes back to deciding itself, beginning closed.
    pub fn force(&self, forced: Option<Forced>) {
        self.force_by(forced, Operator::new("somebody", "no reason given"));
    }

    /// As [`Breaker::force`], and says who wants it and why.
    pub fn force_by(&self, forced: Option<Forced>, operator: Operator) {
        self.force_then(forced, operator, self.shared.time.now());
    }

    fn force_then(&self, forced: Option<Forced>, operator: Operator, now: Duration) {
        self.told(now, |told| {
            let reason = Reason::Operator(operator);
            self.shared.gate.change(told, |machine| machine.force(forced, now, reason));
        });
    }

    #[cfg(test)]
    pub(super) fn force_at(&self, forced: Option<Forced>, operator: Operator, now: Instant) {
        self.force_then(forced, operator, self.since_origin(now));
    }

    #[cfg(test)]
    pub(super) fn since_origin(&self, now: Instant) -> Duration {
        self.shared.time.since(now)
    }

    /// Closes it, and makes it forget what was; a state that was forced is given up.
    pub fn reset(&self, operator: Operator) {
        self.force_by(None, operator);
    }

    /// The changes of its state from now on. Up to 64 wait for who does not take them.
    pub fn changes(&self) -> Changes {
        self.shared.feed.subscribe()
    }

    /// Whether it lets every call through. Asking takes no lock, as it is for every request, unless it is half-open, or a
    /// result is just being counted.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.shared.gate.is_closed()
    }

    /// For how long nobody is let through, not even a probe: [`Duration::MAX`] while an operator holds it open. None while
    /// it is closed, or probes may come. Asking takes no lock, as it is for every request; while somebody changes the state,
    /// the answer is none.
    pub fn rests(&self, now: Instant) -> Option<Duration> {
        self.shared.gate.rests(self.shared.time.since(now))
    }

    /// In which state it is; asking changes nothing. [`Breaker::status`] says more, and copies it.
    pub fn state(&self) -> BreakerState {
        self.shared.gate.look(|machine, _| machine.state())
    }

    /// How it stands; asking changes nothing.
    pub fn status(&self, now: Instant) -> BreakerStatus {
        let now = self.shared.time.since(now);
        let of_machine = self.shared.gate.look(|machine, since| {
            let (failures, forced, retry_after) = match machine.phase() {
                Phase::Closed { window, .. } => (window.failures(machine.config(), since, now), None, None),
                Phase::Open { until } => (0, None, Some(until.saturating_sub(now))),
                Phase::HalfOpen { .. } => (0, None, None),
                Phase::Forced(forced) => (0, Some(*forced), None),
            };
            (machine.state(), machine.opened(), failures, forced.zip(machine.holder().cloned()), retry_after)
        });
        let (state, opened, failures, held, retry_after) = of_machine;
        let (forced, holder) = held.unzip();
        BreakerStatus {
            name: self.name().to_string(),
            state,
            forced,
            forced_by: holder.as_ref().map(|operator: &Operator| operator.by.to_string()),
            forced_why: holder.map(|operator| operator.why.to_string()),
            failures,
            opened,
            rejected: self.rejected(),
            retry_after_ms: retry_after.map(|span| span.as_millis() as u64),
        }
    }

    /// The leave to make one call, or after how long to ask again: what is small is handed on, and the refusal made of it
    /// by whoever gives it to the caller. Always inlined: as a call of its own it answers by way of memory, which takes as
    /// long as all the rest (`cargo xtask bench resilience`).
    #[inline(always)]
    pub(super) fn leave(&self) -> Result<Leave, Duration> {
        let since = match self.shared.gate.counts_slow() {
            true => Some(self.shared.time.now()),
            false => None,
        };
        Ok(Leave::new(self.generation(since)?, since))
    }

    /// In which generation a call is let through.
    #[inline(always)]
    fn generation(&self, now: Option<Duration>) -> Result<Generation, Duration> {
        match self.shared.gate.closed() {
            Some(generation) => Ok(generation),
            None => self.ask(now),
        }
    }

    #[inline(never)]
    fn ask(&self, now: Option<Duration>) -> Result<Generation, Duration> {
        let now = now.unwrap_or_else(|| self.shared.time.now());
        let retry_after = match self.shared.gate.refuses(now) {
            Some(retry_after) => retry_after,
            None => match self.told(now, |told| self.shared.gate.admit(now, told)) {
                Ok(generation) => return Ok(generation),
                Err(retry_after) => retry_after,
            },
        };
        self.shared.rejected.add();
        Err(retry_after)
    }

    /// What a caller is told who is refused.
    #[inline]
    pub(super) fn refusal(&self, retry_after: Duration) -> Open {
        let Shared { callees, name, gate, .. } = &*self.shared;
        let callee = if gate.is_held_open() { callees.held(name) } else { callees.here(name) };
        Open { callee, retry_after }
    }

    #[inline]
    pub(super) fn time(&self, now: Option<Instant>) -> Duration {
        match now {
            Some(now) => self.shared.time.since(now),
            None => self.shared.time.now(),
        }
    }

    /// Does something that may change the state, and tells of it: subscribers in order, the log when the lock is free.
    pub(super) fn told<T>(&self, now: Duration, act: impl FnOnce(&mut dyn FnMut(Transition)) -> T) -> T {
        let mut change = None;
        let answer = act(&mut |transition| {
            let Transition { from, to, reason } = transition;
            let at = self.shared.time.instant(now);
            let heard = Change { breaker: Arc::clone(&self.shared.name), from, to, reason, at };
            self.shared.feed.tell(&heard);
            self.shared.common.tell(&heard);
            change = Some(heard);
        });
        change.iter().for_each(log);
        answer
    }

    /// Whether nobody else holds it, and it has nothing to remember.
    pub(super) fn is_forgettable(&self) -> bool {
        Arc::strong_count(&self.shared) == 1 && self.is_at_rest()
    }

    /// Whether it has nothing to remember.
    pub(super) fn is_at_rest(&self) -> bool {
        self.shared.gate.is_at_rest(self.shared.time.now())
    }
}

#[cold]
fn log(change: &Change) {
    let (callee, reason) = (&change.breaker, &change.reason);
    match change.to {
        BreakerState::Open => tracing::warn!(%callee, %reason, "the circuit breaker opened"),
        BreakerState::HalfOpen => tracing::info!(%callee, %reason, "the circuit breaker lets probes through"),
        BreakerState::Closed => tracing::info!(%callee, %reason, "the circuit breaker closed"),
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("name", self.name()).field("gate", &self.shared.gate).finish()
    }
}
