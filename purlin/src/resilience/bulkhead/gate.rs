//! Who has a place, who waits for how long, who is refused, and what is learned meanwhile; `door.rs` says how a place is
//! taken and handed over.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::message::{Fault, FaultKind};

use super::adaptive::Machine;
use super::crowd::Came;
use super::door::{Called, Door};
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
    door: Door<oneshot::Sender<()>>,
    shed: [AtomicU64; Criticality::ALL.len()],
    config: RwLock<BulkheadConfig>,
    adapts: AtomicBool,
    measure: Measure,
    /// How long an answer may take without a sign of overload, in nanoseconds; while that is not known, for ever.
    tolerated: AtomicU64,
    machine: Mutex<Option<Machine>>,
}

impl Bulkhead {
    /// With nobody inside.
    pub fn new(config: BulkheadConfig) -> Self {
        let shared = Shared {
            origin: Instant::now(),
            door: Door::new(),
            shed: Default::default(),
            config: RwLock::new(config),
            adapts: AtomicBool::new(false),
            measure: Measure::default(),
            tolerated: AtomicU64::new(u64::MAX),
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
        shared.door.set_max_waiting(config.max_waiting);
        *shared.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        self.set_limit(machine.as_ref().map_or(config.max_under_way.max(1), Machine::limit));
    }

    /// The terms that hold.
    pub fn config(&self) -> BulkheadConfig {
        *self.shared.config.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place inside, for a request of the running task's class and within its deadline. Of one class, who came first
    /// enters first; a higher class goes before a lower one.
    pub async fn enter(&self) -> Result<Place<'_>, Full> {
        let (now, class) = (Instant::now(), criticality::current());
        match self.try_enter(class, now)? {
            Some(place) => Ok(place),
            None => self.wait(class, Deadline::from(now, Duration::MAX).tightened()).await,
        }
    }

    /// A place that is free at once; none if there may be one for who waits ([`Bulkhead::wait`]).
    #[inline]
    pub(in crate::resilience) fn try_enter(
        &self,
        class: Criticality,
        now: Instant,
    ) -> Result<Option<Place<'_>>, Full> {
        match self.shared.door.enter(class) {
            Came::In => Ok(Some(Place::new(self, now))),
            Came::Waits => Ok(None),
            Came::Refused => Err(self.refuse(class)),
        }
    }

    /// Waits for a place until `deadline`, or as long as one may wait.
    pub(in crate::resilience) async fn wait(
        &self,
        class: Criticality,
        deadline: Deadline,
    ) -> Result<Place<'_>, Full> {
        let mut turn = match self.line_up(class) {
            Ok(turn) => turn,
            Err(Came::In) => return Ok(Place::new(self, Instant::now())),
            Err(_) => return Err(self.refuse(class)),
        };
        let until = Deadline::after(self.config().max_wait).min(deadline);
        match tokio::time::timeout_at(until.instant(), &mut turn.called).await {
            Ok(_) => Ok(turn.take()),
            Err(_) => Err(self.refuse(class)),
        }
    }

    /// Stands in the queue, unless there is a place, or no room to wait.
    fn line_up(&self, class: Criticality) -> Result<Turn<'_>, Came> {
        let (call, called) = oneshot::channel();
        let number = self.shared.door.line_up(class, call)?;
        Ok(Turn { bulkhead: self, class, number, called, taken: false })
    }

    #[inline]
    pub(super) fn leave(&self) {
        tell(self.shared.door.leave());
    }

    #[cold]
    fn refuse(&self, class: Criticality) -> Full {
        self.shared.shed[class as usize].fetch_add(1, Relaxed);
        Full
    }

    pub(super) fn answered(&self, took: Duration, now: Instant) {
        if self.shared.adapts.load(Relaxed) {
            self.shared.measure.answered(took, self.shared.door.now().inside);
            self.learn_at(now);
        }
    }

    pub(super) fn overloaded(&self, now: Instant) {
        if self.shared.adapts.load(Relaxed) {
            self.shared.measure.overloaded();
            self.learn_at(now);
        }
    }

    pub(super) fn late(&self, took: Duration, now: Instant) {
        let tolerated = Duration::from_nanos(self.shared.tolerated.load(Relaxed));
        if took >= tolerated {
            self.overloaded(now);
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
            self.shared.tolerated.store(nanos(machine.tolerated()), Relaxed);
            self.set_limit(machine.limit());
        }
    }

    fn set_limit(&self, limit: usize) {
        tell(self.shared.door.set_places(limit));
    }

    /// How many more could enter at once.
    pub fn free(&self) -> usize {
        self.shared.door.places().saturating_sub(self.shared.door.now().inside)
    }

    /// How it stands.
    pub fn status(&self) -> BulkheadStatus {
        let (shared, now) = (&self.shared, self.shared.door.now());
        BulkheadStatus {
            limit: shared.door.places(),
            under_way: now.inside,
            waiting: now.waiting,
            shed: Criticality::ALL.map(|class| (class, shared.shed[class as usize].load(Relaxed))),
        }
    }
}

#[inline]
fn tell(called: Called<oneshot::Sender<()>>) {
    // Who is gone already finds that he was called, and gives the place back.
    called.each(|call| {
        let _ = call.send(());
    });
}

fn nanos(span: Option<Duration>) -> u64 {
    span.and_then(|span| u64::try_from(span.as_nanos()).ok()).unwrap_or(u64::MAX)
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

/// A turn in the queue. Dropped, it is given up: with the place that it was called to, if it was.
struct Turn<'a> {
    bulkhead: &'a Bulkhead,
    class: Criticality,
    number: u64,
    called: oneshot::Receiver<()>,
    taken: bool,
}

impl<'a> Turn<'a> {
    /// The place that it was called to.
    fn take(mut self) -> Place<'a> {
        self.taken = true;
        Place::new(self.bulkhead, Instant::now())
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        tell(self.bulkhead.shared.door.give_up(self.class, self.number));
    }
}
