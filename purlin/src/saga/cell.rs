//! What a saga's function and the engine that runs it share.
//!
//! The function's steps register themselves here and wait to be told to run or to be given an outcome; what running
//! steps have to say they leave here. The engine looks whenever the function stands still.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use uuid::Uuid;

use crate::message::{Clock, Timestamp};
use crate::resilience::Deadline;
use crate::store::Commit;

use super::journal::{Entry, Payload};
use super::machine::{Ask, Function, Machine, NameTaken, Next, Start};
use super::metrics::Seen;
use super::pace::Paces;
use super::undo::Undo;
use super::view::Running;
use super::{At, Failure, Sagas};

pub(super) struct Cell<S> {
    pub(super) id: Uuid,
    pub(super) services: Arc<S>,
    pub(super) clock: Clock,
    pub(super) deadline: Option<Deadline>,
    pub(super) seen: Option<Seen>,
    pub(super) paces: Arc<Paces>,
    state: Mutex<State<S>>,
}

struct State<S> {
    machine: Machine,
    slots: HashMap<Arc<str>, Slot<S>>,
    reports: Vec<Report>,
    /// The last failure of what is tried again, by step, where the journal does not have it.
    kept: BTreeMap<String, Entry>,
    /// Why the function cannot go on, although its names fit the journal.
    broken: Option<String>,
}

struct Slot<S> {
    go: Option<Go>,
    waker: Option<Waker>,
    undo: Option<Undo<S>>,
    busy: Busy,
    /// Its pause before the next attempt is to end.
    hurried: bool,
    attempts: u32,
    started_at: Timestamp,
}

#[derive(Clone, Copy, PartialEq)]
enum Busy {
    /// Not started, or over.
    No,
    Working,
    /// Until a time, or until a signal comes.
    Paused(Option<Timestamp>),
}

/// What a step is told.
pub(super) enum Go {
    Deliver(Result<Payload, Failure>),
    Run(Start),
    /// The commit of a transacted step was refused.
    Refused(Failure),
}

/// What a running step has to say.
pub(super) enum Report {
    Entry(Entry),
    /// An outcome that holds only together with this commit.
    Transact {
        step: Arc<str>,
        done: Entry,
        effect: Box<Commit>,
    },
}

impl<S> Cell<S> {
    pub(super) fn new(id: Uuid, kind: &str, sagas: &Sagas<S>, deadline: Option<Deadline>) -> Self {
        let (machine, slots, reports) = (Machine::default(), HashMap::new(), Vec::new());
        let state = State { machine, slots, reports, kept: BTreeMap::new(), broken: None };
        let (services, clock) = (Arc::clone(&sagas.services), sagas.clock.clone());
        let paces = sagas.kinds.get(kind).map(|kind| Arc::clone(&kind.paces)).unwrap_or_default();
        Self { id, services, clock, deadline, seen: sagas.seen.clone(), paces, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().expect("no user code runs under the saga's lock")
    }

    /// Registers a step and how it is undone, before anything of it runs.
    pub(super) fn ask(
        self: &Arc<Self>,
        name: Arc<str>,
        signal: Option<String>,
        undo: Option<Undo<S>>,
    ) -> Result<Asked<S>, NameTaken> {
        let mut state = self.state();
        state.machine.ask(&name, Ask { undoable: undo.is_some(), signal })?;
        let slot = Slot {
            go: None,
            waker: None,
            undo,
            busy: Busy::No,
            hurried: false,
            attempts: 0,
            started_at: Timestamp::UNIX_EPOCH,
        };
        state.slots.insert(Arc::clone(&name), slot);
        drop(state);
        Ok(Asked { cell: Arc::clone(self), name, settled: false })
    }

    /// `base`, or `base #2` and so on: the first name that no step has yet.
    pub(super) fn free_name(&self, base: &str) -> Arc<str> {
        let state = self.state();
        let numbered = (2..).map(|n: u32| format!("{base} #{n}"));
        let mut names = std::iter::once(base.to_owned()).chain(numbered);
        names.find(|name| !state.machine.is_asked(name)).expect("there is no last number").into()
    }

    pub(super) fn feed(&self, entry: Entry) {
        self.state().machine.feed(entry);
    }

    /// Keeps a failure that is not journalled: should the saga leave memory, it takes it along.
    pub(super) fn keep(&self, entry: Entry) {
        let whose = match &entry {
            Entry::Attempted { step, .. } | Entry::UndoAttempted { step, .. } => step.clone(),
            _ => String::new(),
        };
        self.state().kept.insert(whose, entry);
    }

    /// What was kept.
    pub(super) fn kept(&self) -> Vec<Entry> {
        self.state().kept.values().cloned().collect()
    }

    /// Lets go of what was kept.
    pub(super) fn forget(&self) {
        self.state().kept.clear();
    }

    /// Ends the pauses before next attempts.
    pub(super) fn hurry(&self) {
        let mut state = self.state();
        state.kept.clear();
        for slot in state.slots.values_mut().filter(|slot| matches!(slot.busy, Busy::Paused(_))) {
            slot.hurried = true;
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
    }

    pub(super) fn with_machine<R>(&self, look: impl FnOnce(&mut Machine) -> R) -> R {
        look(&mut self.state().machine)
    }

    /// What is to be done now that the function stands still; an outcome is already with its step.
    pub(super) fn next(&self, function: Function<'_>) -> Next {
        let mut state = self.state();
        let next = state.machine.next(function);
        if let Next::Deliver { step, outcome } = &next {
            state.tell(step, Go::Deliver(outcome.clone()));
        }
        next
    }

    pub(super) fn start(&self, starts: Vec<Start>) {
        let mut state = self.state();
        for start in starts {
            state.machine.started(&start.step);
            let step = start.step.clone();
            state.tell(&step, Go::Run(start));
        }
    }

    pub(super) fn refuse(&self, step: &str, failure: Failure) {
        self.state().tell(step, Go::Refused(failure));
    }

    /// What running steps have said since.
    pub(super) fn take_reports(&self) -> Vec<Report> {
        std::mem::take(&mut self.state().reports)
    }

    pub(super) fn break_off(&self, why: String) {
        self.state().broken.get_or_insert(why);
    }

    pub(super) fn broken(&self) -> Option<String> {
        self.state().broken.clone()
    }

    /// Until when all that is under way waits (inner none: for ever); outer none when something is at work.
    pub(super) fn idle_until(&self) -> Option<Option<Timestamp>> {
        let mut idle = None;
        for slot in self.state().slots.values() {
            match slot.busy {
                Busy::No if slot.go.is_none() => {}
                Busy::No | Busy::Working => return None,
                Busy::Paused(until) => idle = Some(sooner(idle.flatten(), until)),
            }
        }
        idle
    }

    /// The steps that are under way.
    pub(super) fn running(&self) -> Vec<Running> {
        let state = self.state();
        let running = state.slots.iter().filter(|(_, slot)| slot.busy != Busy::No);
        running
            .map(|(name, slot)| Running {
                step: name.to_string(),
                attempts: slot.attempts,
                started_at: slot.started_at,
            })
            .collect()
    }

    /// Begins to undo a step.
    pub(super) fn undo<R>(&self, step: &str, with: impl FnOnce(&Undo<S>) -> R) -> Option<R> {
        self.state().slots.get(step).and_then(|slot| slot.undo.as_ref()).map(with)
    }

    /// The idempotency key of a step.
    pub(super) fn key(&self, step: &str) -> Arc<str> {
        format!("{}/{step}", self.id).into()
    }
}

impl<S> State<S> {
    fn tell(&mut self, step: &str, go: Go) {
        if let Some(slot) = self.slots.get_mut(step) {
            slot.go = Some(go);
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
    }
}

/// The sooner of two times, of which none is never.
pub(super) fn sooner(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// A step that was asked for. Dropped before it has its outcome, it counts as abandoned.
pub(super) struct Asked<S> {
    pub(super) cell: Arc<Cell<S>>,
    pub(super) name: Arc<str>,
    settled: bool,
}

impl<S> Asked<S> {
    /// What the engine says.
    pub(super) async fn go(&self) -> Go {
        std::future::poll_fn(|context| self.poll_go(context)).await
    }

    fn poll_go(&self, context: &Context<'_>) -> Poll<Go> {
        let mut state = self.cell.state();
        let Some(slot) = state.slots.get_mut(&self.name) else { return Poll::Pending };
        match slot.go.take() {
            Some(go) => Poll::Ready(go),
            None => {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Somebody says that the next attempt need not wait.
    pub(super) async fn hurried(&self) {
        std::future::poll_fn(|context| {
            let mut state = self.cell.state();
            let Some(slot) = state.slots.get_mut(&self.name) else { return Poll::Pending };
            if slot.hurried {
                return Poll::Ready(());
            }
            slot.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// The outcome arrived.
    pub(super) fn settle(&mut self) {
        self.settled = true;
    }

    /// The step is over as far as it can tell.
    pub(super) fn report(&self, report: Report) {
        self.set_busy(Busy::No);
        let mut state = self.cell.state();
        state.kept.remove(&*self.name);
        state.reports.push(report);
    }

    /// The step goes on, but this must be known.
    pub(super) fn note(&self, entry: Entry) {
        let mut state = self.cell.state();
        state.kept.remove(&*self.name);
        state.reports.push(Report::Entry(entry));
    }

    pub(super) fn pause(&self, until: Option<Timestamp>) {
        self.set_busy(Busy::Paused(until));
    }

    fn set_busy(&self, busy: Busy) {
        if let Some(slot) = self.cell.state().slots.get_mut(&self.name) {
            slot.busy = busy;
        }
    }

    /// An attempt begins; it may take so long.
    pub(super) fn attempt(&self, attempt: u32, started_at: Timestamp, deadline: Deadline) -> At<S> {
        if let Some(slot) = self.cell.state().slots.get_mut(&self.name) {
            (slot.busy, slot.hurried) = (Busy::Working, false);
            (slot.attempts, slot.started_at) = (attempt, started_at);
        }
        let deadline = self.cell.deadline.map_or(deadline, |last| last.min(deadline));
        let (services, key) = (Arc::clone(&self.cell.services), self.cell.key(&self.name));
        At { services, key, attempt, deadline }
    }
}

impl<S> Drop for Asked<S> {
    fn drop(&mut self) {
        let mut state = self.cell.state();
        if let Some(slot) = state.slots.get_mut(&self.name) {
            // Nobody takes what it may still be told.
            (slot.busy, slot.go) = (Busy::No, None);
        }
        if !self.settled {
            state.machine.dropped(&self.name);
        }
    }
}
