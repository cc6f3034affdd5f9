//! A breaker that many callers share.
//!
//! The machine stands behind a lock that is held for a few instructions. Beside it stands a summary in one
//! word, so that what happens most takes no lock and writes nothing: letting a call through while closed, a
//! success while no failure is remembered, refusing while open.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::message::{Fault, FaultKind};

use super::machine::{Forced, Generation, Machine, Outcome, Phase};
use super::{BreakerConfig, BreakerState, Permit};

/// A circuit breaker for one callee; cheap to clone.
#[derive(Clone)]
pub struct Breaker {
    shared: Arc<Shared>,
}

struct Shared {
    name: Arc<str>,
    config: BreakerConfig,
    origin: Instant,
    summary: AtomicU64,
    rejected: AtomicU64,
    machine: Mutex<Machine>,
}

impl Breaker {
    /// A closed breaker; the name says in errors, logs and lists who is called.
    pub fn new(name: impl Into<Arc<str>>, config: BreakerConfig) -> Self {
        let machine = Machine::new(config);
        let shared = Shared {
            name: name.into(),
            config,
            origin: Instant::now(),
            summary: AtomicU64::new(Summary::of(&machine).0),
            rejected: AtomicU64::new(0),
            machine: Mutex::new(machine),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Whom it guards.
    pub fn name(&self) -> &Arc<str> {
        &self.shared.name
    }

    /// When it opens and closes.
    pub fn config(&self) -> &BreakerConfig {
        &self.shared.config
    }

    /// The leave to make one call, or a refusal.
    pub fn admit(&self, now: Instant) -> Result<Permit<'_>, Open> {
        let summary = self.summary();
        if summary.is_closed() {
            return Ok(Permit::new(self, summary.generation(), now));
        }
        let since_origin = self.since_origin(now);
        if let Some(retry_after) = summary.refuses(since_origin) {
            return Err(self.rejection(retry_after));
        }
        match self.change(|machine| machine.admit(since_origin)) {
            Ok(generation) => Ok(Permit::new(self, generation, now)),
            Err(retry_after) => Err(self.rejection(retry_after)),
        }
    }

    /// Holds a state whatever happens, or with `None` goes back to deciding itself, beginning closed.
    pub fn force(&self, forced: Option<Forced>) {
        self.change(|machine| machine.force(forced));
    }

    /// How it stands; asking changes nothing.
    pub fn status(&self, now: Instant) -> BreakerStatus {
        let now = self.since_origin(now);
        let machine = self.lock();
        let (failures, forced, retry_after) = match machine.phase() {
            Phase::Closed(window) => (window.failures(), None, None),
            Phase::Open { until } => (0, None, Some(until.saturating_sub(now))),
            Phase::HalfOpen { .. } => (0, None, None),
            Phase::Forced(forced) => (0, Some(*forced), None),
        };
        BreakerStatus {
            name: self.name().to_string(),
            state: machine.state(),
            forced,
            failures,
            opened: machine.opened(),
            rejected: self.shared.rejected.load(Ordering::Relaxed),
            retry_after_ms: retry_after.map(|span| span.as_millis() as u64),
        }
    }

    #[inline]
    pub(super) fn succeeded(&self, generation: Generation) {
        let summary = self.summary();
        let stale = summary.generation() != generation;
        // A success changes nothing while no failure is remembered: it may as well have come before the next
        // one.
        if stale || summary.is_clean() {
            return;
        }
        self.settle_at(generation, Outcome::Success, Duration::ZERO);
    }

    #[cold]
    pub(super) fn settle(&self, generation: Generation, outcome: Outcome, now: Instant) {
        self.settle_at(generation, outcome, self.since_origin(now));
    }

    fn settle_at(&self, generation: Generation, outcome: Outcome, now: Duration) {
        self.change(|machine| machine.settle(generation, outcome, now));
    }

    fn change<T>(&self, change: impl FnOnce(&mut Machine) -> T) -> T {
        let mut machine = self.lock();
        let before = machine.state();
        let answer = change(&mut machine);
        let after = machine.state();
        self.shared.summary.store(Summary::of(&machine).0, Ordering::Release);
        drop(machine);
        if before != after {
            self.tell(after);
        }
        answer
    }

    #[cold]
    fn tell(&self, state: BreakerState) {
        let callee = self.name();
        match state {
            BreakerState::Open => tracing::warn!(%callee, "the circuit breaker opened"),
            BreakerState::HalfOpen => tracing::info!(%callee, "the circuit breaker lets probes through"),
            BreakerState::Closed => tracing::info!(%callee, "the circuit breaker closed"),
        }
    }

    fn rejection(&self, retry_after: Duration) -> Open {
        self.shared.rejected.fetch_add(1, Ordering::Relaxed);
        Open { callee: Arc::clone(self.name()), retry_after }
    }

    pub(super) fn since_origin(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.shared.origin)
    }

    fn summary(&self) -> Summary {
        Summary(self.shared.summary.load(Ordering::Acquire))
    }

    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.shared.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("name", self.name()).field("machine", &*self.lock()).finish()
    }
}

/// The call was refused, because the callee failed too often.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the circuit breaker for `{callee}` is open")]
pub struct Open {
    /// Who was not called.
    pub callee: Arc<str>,
    /// After how long a call may be let through again.
    pub retry_after: Duration,
}

impl Fault for Open {
    fn kind(&self) -> FaultKind {
        FaultKind::Unavailable
    }

    fn code(&self) -> &str {
        "circuit-open"
    }

    fn retry_after(&self) -> Option<Duration> {
        Some(self.retry_after)
    }
}

/// How a breaker stands, for lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BreakerStatus {
    /// Whom it guards.
    pub name: String,
    /// What it does with a call.
    pub state: BreakerState,
    /// The state that an operator chose.
    pub forced: Option<Forced>,
    /// How many failures it remembers while closed.
    pub failures: u32,
    /// How often it has opened by itself.
    pub opened: u64,
    /// How many calls it has refused.
    pub rejected: u64,
    /// While open: in how many milliseconds it lets a probe through.
    pub retry_after_ms: Option<u64>,
}

/// What can be decided without the lock, in one word: kind (2 bits), generation (22), when it may probe in
/// milliseconds (40).
#[derive(Clone, Copy)]
struct Summary(u64);

impl Summary {
    /// Closed without a failure to remember: results of successes change nothing.
    const CLEAN: u64 = 0;
    const CLOSED: u64 = 1;
    const OPEN: u64 = 2;
    /// Everything is decided under the lock.
    const ASK: u64 = 3;
    const UNTIL_BITS: u32 = 40;
    const UNTIL_MAX: u64 = (1 << Self::UNTIL_BITS) - 1;

    fn of(machine: &Machine) -> Self {
        let (kind, until) = match machine.phase() {
            Phase::Closed(window) if window.failures() > 0 => (Self::CLOSED, 0),
            Phase::Closed(_) | Phase::Forced(Forced::Closed) => (Self::CLEAN, 0),
            Phase::Open { until } => {
                let millis = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
                (Self::OPEN, millis.min(Self::UNTIL_MAX))
            }
            Phase::HalfOpen { .. } | Phase::Forced(Forced::Open) => (Self::ASK, 0),
        };
        Self(kind << 62 | u64::from(machine.generation()) << Self::UNTIL_BITS | until)
    }

    fn kind(self) -> u64 {
        self.0 >> 62
    }

    fn is_clean(self) -> bool {
        self.kind() == Self::CLEAN
    }

    fn is_closed(self) -> bool {
        matches!(self.kind(), Self::CLEAN | Self::CLOSED)
    }

    fn generation(self) -> Generation {
        (self.0 >> Self::UNTIL_BITS) as Generation % super::machine::GENERATIONS
    }

    /// For how long it refuses, rounded up; in the millisecond in which that may change the machine is asked.
    fn refuses(self, now: Duration) -> Option<Duration> {
        let until = Duration::from_millis(self.0 & Self::UNTIL_MAX);
        (self.kind() == Self::OPEN && now < until).then(|| until - now + Duration::from_millis(1))
    }
}
