//! Who has a place, who waits, and who is refused.
//!
//! A place is taken by one exchange of a counter while nobody waits, and given back by one subtraction. Whoever finds
//! others waiting waits behind them; each place that is given back wakes the one who has waited longest.

use std::pin::pin;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::message::{Fault, FaultKind};

use super::adaptive::Machine;
use super::measure::Measure;
use super::{BulkheadConfig, Place};
use crate::resilience::{Criticality, Deadline, criticality};

/// Limits what is under way at once; cheap to clone.
#[derive(Debug, Clone)]
pub struct Bulkhead {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    origin: Instant,
    limit: AtomicUsize,
    max_waiting: AtomicUsize,
    under_way: AtomicUsize,
    waiting: AtomicUsize,
    freed: Notify,
    shed: [AtomicU64; Criticality::ALL.len()],
    config: RwLock<BulkheadConfig>,
    adapts: AtomicBool,
    measure: Measure,
    machine: Mutex<Option<Machine>>,
}

impl Bulkhead {
    /// With nobody inside.
    pub fn new(config: BulkheadConfig) -> Self {
        let shared = Shared {
            origin: Instant::now(),
            limit: AtomicUsize::new(0),
            max_waiting: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            freed: Notify::new(),
            shed: Default::default(),
            config: RwLock::new(config),
            adapts: AtomicBool::new(false),
            measure: Measure::default(),
            machine: Mutex::new(None),
        };
        let bulkhead = Self { shared: Arc::new(shared) };
        bulkhead.reconfigure(config);
        bulkhead
    }

    /// Lets other terms hold from now on. Those inside stay, and so does what was learned about the callee.
    pub fn reconfigure(&self, config: BulkheadConfig) {
        let shared = &self.shared;
        let mut machine = shared.machine.lock().unwrap_or_else(PoisonError::into_inner);
        *machine = config.adaptive.map(|adaptive| match &*machine {
            Some(machine) => machine.under(adaptive, config.max_under_way),
            None => Machine::new(adaptive, config.max_under_way),
        });
        shared.adapts.store(machine.is_some(), Relaxed);
        shared.max_waiting.store(config.max_waiting, Relaxed);
        *shared.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        self.set_limit(machine.as_ref().map_or(config.max_under_way.max(1), Machine::limit));
    }

    /// The terms that hold.
    pub fn config(&self) -> BulkheadConfig {
        *self.shared.config.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place inside, for a request of the running task's class and within its deadline. Who came first enters
    /// first.
    pub async fn enter(&self) -> Result<Place<'_>, Full> {
        let now = Instant::now();
        match self.try_enter(criticality::current(), now)? {
            Some(place) => Ok(place),
            None => self.wait(Deadline::from(now, Duration::MAX).tightened()).await,
        }
    }

    /// A place that is free at once; none if there may be one for who waits ([`Bulkhead::wait`]).
    pub(in crate::resilience) fn try_enter(
        &self,
        class: Criticality,
        now: Instant,
    ) -> Result<Option<Place<'_>>, Full> {
        let shared = &self.shared;
        let (limit, queue) = (shared.limit.load(Relaxed), shared.max_waiting.load(Relaxed));
        let (inside, waiting) = (shared.under_way.load(Relaxed), shared.waiting.load(SeqCst));
        if inside.saturating_add(waiting) >= class.share(limit.saturating_add(queue)) {
            return Err(self.refuse(class));
        }
        if waiting == 0 && self.take() {
            return Ok(Some(Place::new(self, now)));
        }
        match waiting < queue {
            true => Ok(None),
            false => Err(self.refuse(class)),
        }
    }

    /// Waits for a place until `deadline`, or as long as one may wait.
    pub(in crate::resilience) async fn wait(&self, deadline: Deadline) -> Result<Place<'_>, Full> {
        let shared = &self.shared;
        let Some(_waiting) = Waiting::start(&shared.waiting, shared.max_waiting.load(Relaxed)) else {
            return Err(self.refuse(criticality::current()));
        };
        let until = Deadline::after(self.config().max_wait).min(deadline);
        let place = tokio::time::timeout_at(until.instant(), self.next_place()).await;
        place.map_err(|_| self.refuse(criticality::current()))
    }

    async fn next_place(&self) -> Place<'_> {
        loop {
            let mut freed = pin!(self.shared.freed.notified());
            // From here on a place that is given back is not missed.
            freed.as_mut().enable();
            if self.take() {
                return Place::new(self, Instant::now());
            }
            freed.await;
        }
    }

    fn take(&self) -> bool {
        let limit = self.shared.limit.load(Relaxed);
        let one_more = |inside: usize| (inside < limit).then_some(inside + 1);
        self.shared.under_way.fetch_update(SeqCst, Relaxed, one_more).is_ok()
    }

    pub(super) fn leave(&self) {
        self.shared.under_way.fetch_sub(1, SeqCst);
        if self.shared.waiting.load(SeqCst) > 0 {
            self.shared.freed.notify_one();
        }
    }

    #[cold]
    fn refuse(&self, class: Criticality) -> Full {
        self.shared.shed[class as usize].fetch_add(1, Relaxed);
        Full
    }

    pub(super) fn answered(&self, took: Duration, now: Instant) {
        if self.shared.adapts.load(Relaxed) {
            self.shared.measure.answered(took, self.shared.under_way.load(Relaxed));
            self.learn_at(now);
        }
    }

    pub(super) fn overloaded(&self, now: Instant) {
        if self.shared.adapts.load(Relaxed) {
            self.shared.measure.overloaded();
            self.learn_at(now);
        }
    }

    fn learn_at(&self, now: Instant) {
        let now = now.saturating_duration_since(self.shared.origin);
        if self.shared.measure.is_over(now) {
            self.learn(now);
        }
    }

    #[cold]
    fn learn(&self, now: Duration) {
        // Whoever finds another deciding has nothing to add.
        let Ok(mut machine) = self.shared.machine.try_lock() else { return };
        let Some(machine) = &mut *machine else { return };
        let config = machine.config();
        let taken = self.shared.measure.take(config.min_answers, now.saturating_add(config.window));
        if let Some(window) = taken {
            machine.learn(now, window);
            self.set_limit(machine.limit());
        }
    }

    fn set_limit(&self, limit: usize) {
        let before = self.shared.limit.swap(limit, AcqRel);
        for _ in 0..limit.saturating_sub(before).min(self.shared.waiting.load(SeqCst)) {
            self.shared.freed.notify_one();
        }
    }

    /// How many more could enter at once.
    pub fn free(&self) -> usize {
        self.shared.limit.load(Relaxed).saturating_sub(self.shared.under_way.load(Relaxed))
    }

    /// How it stands.
    pub fn status(&self) -> BulkheadStatus {
        let shared = &self.shared;
        BulkheadStatus {
            limit: shared.limit.load(Relaxed),
            under_way: shared.under_way.load(Relaxed),
            waiting: shared.waiting.load(Relaxed),
            shed: Criticality::ALL.map(|class| (class, shared.shed[class as usize].load(Relaxed))),
        }
    }
}

/// How a [`Bulkhead`] stands, for lists and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BulkheadStatus {
    /// How many places there are.
    pub limit: usize,
    /// How many are taken.
    pub under_way: usize,
    /// How many wait for one.
    pub waiting: usize,
    /// How many were refused, by class.
    pub shed: [(Criticality, u64); Criticality::ALL.len()],
}

/// As much as can be is under way or waiting. Nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("as much as can be is under way already")]
pub struct Full;

impl Fault for Full {
    fn kind(&self) -> FaultKind {
        FaultKind::Overloaded
    }
}

/// One that waits, for as long as this lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn start(waiting: &'a AtomicUsize, max: usize) -> Option<Self> {
        let one_more = |waiting| (waiting < max).then_some(waiting + 1);
        waiting.fetch_update(SeqCst, SeqCst, one_more).ok()?;
        Some(Self(waiting))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}
