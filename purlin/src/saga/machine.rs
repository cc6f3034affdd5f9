//! What a saga does next, decided by nothing but its journal and what its function asked for.
//!
//! The machine is fed with the entries of the journal, whether they come from the log or were just made, and takes
//! them in one by one, each only when the function stands still. So a function that runs again after a crash meets
//! its outcomes exactly as it met them first, and recovery needs no code of its own.

use std::collections::{HashMap, VecDeque};

use super::journal::{Entry, Outcome, Payload};
use super::{Failure, SagaError};
use crate::message::Timestamp;

/// The decisions of one saga.
#[derive(Debug, Default)]
pub struct Machine {
    /// Entries that are not taken in yet.
    journal: VecDeque<Entry>,
    /// In the order in which the function asked for them.
    steps: Vec<Step>,
    names: HashMap<String, usize>,
    /// Signals that nobody has waited for yet.
    inbox: Vec<(String, Payload)>,
    closing: Option<Closing>,
    /// How often the end was tried, and when it is to be tried again.
    ending: (u32, Option<Timestamp>),
    ended: bool,
}

/// What is known of a step.
#[derive(Debug)]
struct Step {
    name: String,
    undoable: bool,
    signal: Option<String>,
    state: StepState,
    dropped: bool,
    attempts: u32,
    not_before: Option<Timestamp>,
}

#[derive(Debug)]
enum StepState {
    Asked,
    Running,
    Done(Payload),
    Failed,
    Abandoned,
}

/// A saga on its way to its end.
#[derive(Debug)]
struct Closing {
    outcome: Outcome,
    undo: VecDeque<usize>,
    attempts: u32,
    not_before: Option<Timestamp>,
    stuck: Option<Failure>,
}

/// What the function asks for when it first awaits a step.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// Whether the step has a compensation.
    pub undoable: bool,
    /// The signal that it waits for, if it is a wait.
    pub signal: Option<String>,
}

/// What the function is doing.
#[derive(Debug, Clone, Copy)]
pub enum Function<'a> {
    /// It waits for what it asked for.
    Waits,
    /// It returned.
    Returned(&'a Outcome),
    /// It was dropped: the saga is closing.
    Gone,
}

/// What is to be done now.
#[derive(Debug, PartialEq)]
pub enum Next {
    /// Give the function the outcome of a step, then let it go on.
    Deliver {
        /// The step.
        step: String,
        /// Its outcome.
        outcome: Result<Payload, Failure>,
    },
    /// Start these steps.
    Run(Vec<Start>),
    /// These steps were dropped under way: feed [`Entry::Abandoned`] for each.
    Abandon(Vec<String>),
    /// Steps are under way: wait for them.
    Wait,
    /// The function returned, and there is something to undo: feed this.
    Close(Entry),
    /// Undo a step.
    Compensate {
        /// The step.
        step: String,
        /// What it returned, if that is known.
        output: Option<Payload>,
        /// How often it was tried.
        attempts: u32,
        /// When to try, at the earliest.
        not_before: Option<Timestamp>,
    },
    /// This step cannot be undone; wait for an operator.
    Stuck {
        /// The step.
        step: String,
        /// Why.
        error: Failure,
    },
    /// All is done: end so.
    End(Outcome),
    /// It has ended.
    Over,
    /// The function does not fit the journal; nothing may be done.
    Blocked(Mismatch),
}

/// A step to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The step.
    pub step: String,
    /// How often it was tried before.
    pub attempts: u32,
    /// When to begin, at the earliest; for a wait, when it ends.
    pub not_before: Option<Timestamp>,
}

/// How the function differs from the journal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The journal has a step that the function does not ask for.
    #[error("the journal has step `{0}`, which the function does not ask for at this point")]
    NotAsked(String),
    /// The journal says that the function dropped a step, but it still waits for it.
    #[error("the journal says that step `{0}` was dropped, but the function waits for it")]
    NotDropped(String),
    /// A step is to be undone, and the function no longer says how.
    #[error("step `{0}` is to be undone, but the function registers no compensation for it")]
    NoCompensation(String),
}

/// The function used a step's name twice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the name `{0}` is used by two steps of one saga: a loop must pass an index")]
pub struct NameTaken(pub String);

impl Machine {
    /// Feeds an entry: from the log, or just made.
    pub fn feed(&mut self, entry: Entry) {
        self.journal.push_back(entry);
    }

    /// The function awaits a step for the first time.
    pub fn ask(&mut self, name: &str, ask: Ask) -> Result<(), NameTaken> {
        if self.names.contains_key(name) {
            return Err(NameTaken(name.to_owned()));
        }
        self.names.insert(name.to_owned(), self.steps.len());
        self.steps.push(Step {
            name: name.to_owned(),
            undoable: ask.undoable,
            signal: ask.signal,
            state: StepState::Asked,
            dropped: false,
            attempts: 0,
            not_before: None,
        });
        Ok(())
    }

    /// The function dropped a step that it had asked for and not got an outcome of.
    pub fn dropped(&mut self, name: &str) {
        if let Some(step) = self.step_mut(name) {
            step.dropped = true;
        }
    }

    /// The engine started a step.
    pub fn started(&mut self, name: &str) {
        if let Some(step) = self.step_mut(name) {
            step.state = StepState::Running;
        }
    }

    /// Whether a step of this name was asked for.
    pub fn is_asked(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Whether the saga is on its way to its end.
    pub fn is_closing(&self) -> bool {
        let coming = |entry: &Entry| matches!(entry, Entry::Compensating { .. });
        self.closing.is_some() || self.ended || self.journal.iter().any(coming)
    }

    /// How often the end was tried in vain, and when it may be tried again.
    pub fn ending(&self) -> (u32, Option<Timestamp>) {
        self.ending
    }

    /// What is to be done now that the function stands still.
    pub fn next(&mut self, function: Function<'_>) -> Next {
        loop {
            if let Some(next) = self.hand_over_signal() {
                return next;
            }
            let Some(entry) = self.journal.front() else { break };
            if let Some(mismatch) = self.mismatch(entry) {
                return Next::Blocked(mismatch);
            }
            let entry = self.journal.pop_front().expect("looked at just before");
            if let Some(next) = self.take_in(entry) {
                return next;
            }
        }
        match &self.closing {
            _ if self.ended => Next::Over,
            Some(closing) => self.undo_next(closing),
            None => self.go_on(function),
        }
    }

    /// The entry that stops the function and ends the saga so.
    pub fn close(&self, outcome: Outcome) -> Entry {
        let undo = self.to_undo(&outcome);
        Entry::Compensating { outcome, undo }
    }

    /// A step waits for a signal that has come.
    fn hand_over_signal(&mut self) -> Option<Next> {
        if self.closing.is_some() {
            return None;
        }
        let waits =
            |step: &&mut Step| !step.dropped && matches!(step.state, StepState::Asked | StepState::Running);
        for step in self.steps.iter_mut().filter(waits) {
            let Some(signal) = &step.signal else { continue };
            let Some(at) = self.inbox.iter().position(|(name, _)| name == signal) else { continue };
            let (_, data) = self.inbox.remove(at);
            step.state = StepState::Done(data.clone());
            return Some(Next::Deliver { step: step.name.clone(), outcome: Ok(data) });
        }
        None
    }

    /// How the function differs from what this entry says, if it does.
    fn mismatch(&self, entry: &Entry) -> Option<Mismatch> {
        match entry {
            Entry::Attempted { step, .. }
            | Entry::Done { step, .. }
            | Entry::Failed { step, .. }
            | Entry::Waiting { step, .. } => {
                self.step(step).is_none().then(|| Mismatch::NotAsked(step.clone()))
            }
            Entry::Abandoned { step } => match self.step(step) {
                None => Some(Mismatch::NotAsked(step.clone())),
                Some(step) => (!step.dropped).then(|| Mismatch::NotDropped(step.name.clone())),
            },
            Entry::Compensating { undo, .. } => {
                let known = |name: &&String| self.step(name).is_some_and(|step| step.undoable);
                let unknown = undo.iter().find(|name| !known(name));
                unknown.map(|name| Mismatch::NoCompensation(name.clone()))
            }
            _ => None,
        }
    }

    /// Takes an entry in; an outcome that the function waits for is to be delivered.
    fn take_in(&mut self, entry: Entry) -> Option<Next> {
        match entry {
            Entry::Started { .. } => {}
            // What was kept beside the journal may be older than what the journal has.
            Entry::Attempted { step, attempt, next, .. } => {
                let step = self.step_mut(&step).filter(|step| step.attempts < attempt)?;
                (step.attempts, step.not_before) = (attempt, Some(next));
            }
            Entry::Waiting { step, until } => self.step_mut(&step)?.not_before = Some(until),
            Entry::Done { step, output, .. } => {
                let step = self.step_mut(&step).filter(|step| !step.is_settled())?;
                step.state = StepState::Done(output.clone());
                return step.deliver(Ok(output));
            }
            Entry::Failed { step, error, .. } => {
                // A signal may have come in the moment in which nobody wanted to wait for it any longer.
                let step = self.step_mut(&step).filter(|step| !step.is_settled())?;
                step.state = StepState::Failed;
                return step.deliver(Err(error));
            }
            Entry::Abandoned { step } => self.step_mut(&step)?.state = StepState::Abandoned,
            Entry::Signalled { name, data } => self.inbox.push((name, data)),
            Entry::Compensating { outcome, undo } => {
                let undo = undo.iter().filter_map(|name| self.names.get(name).copied()).collect();
                self.closing = Some(Closing { outcome, undo, attempts: 0, not_before: None, stuck: None });
            }
            Entry::EndAttempted { attempt, next, .. } if self.ending.0 < attempt => {
                self.ending = (attempt, Some(next));
            }
            Entry::EndAttempted { .. } => {}
            Entry::Resumed => self.resume(),
            Entry::Ended { .. } => self.ended = true,
            other => self.take_in_closing(other),
        }
        None
    }

    /// What pauses need not; a wait, which was never attempted, is none of these.
    fn resume(&mut self) {
        self.ending = (0, None);
        for step in self.steps.iter_mut().filter(|step| step.is_open() && step.attempts > 0) {
            step.not_before = None;
        }
        if let Some(closing) = &mut self.closing {
            (closing.attempts, closing.not_before, closing.stuck) = (0, None, None);
        }
    }

    fn take_in_closing(&mut self, entry: Entry) {
        let Some(closing) = &mut self.closing else { return };
        let first = closing.undo.front().map(|index| &*self.steps[*index].name);
        match entry {
            // What was kept beside the journal may also be of a step that is undone by now.
            Entry::UndoAttempted { step, attempt, next, .. }
                if first == Some(&step) && closing.attempts < attempt =>
            {
                (closing.attempts, closing.not_before) = (attempt, Some(next));
            }
            Entry::Undone { .. } => {
                closing.undo.pop_front();
                (closing.attempts, closing.not_before) = (0, None);
            }
            Entry::Stuck { attempts, error, .. } => {
                (closing.attempts, closing.stuck) = (attempts, Some(error));
            }
            _ => {}
        }
    }

    fn undo_next(&self, closing: &Closing) -> Next {
        let Some(step) = closing.undo.front().map(|index| &self.steps[*index]) else {
            return Next::End(closing.outcome.clone());
        };
        let name = step.name.clone();
        if let Some(error) = &closing.stuck {
            return Next::Stuck { step: name, error: error.clone() };
        }
        let output = match &step.state {
            StepState::Done(output) => Some(output.clone()),
            _ => None,
        };
        Next::Compensate { step: name, output, attempts: closing.attempts, not_before: closing.not_before }
    }

    /// The journal is exhausted and the function was not stopped.
    fn go_on(&self, function: Function<'_>) -> Next {
        let dropped = self.steps.iter().filter(|step| step.dropped && step.is_open());
        let dropped: Vec<String> = dropped.map(|step| step.name.clone()).collect();
        if !dropped.is_empty() {
            return Next::Abandon(dropped);
        }
        if let Function::Returned(outcome) = function {
            return match self.to_undo(outcome).is_empty() {
                true => Next::End(outcome.clone()),
                false => Next::Close(self.close(outcome.clone())),
            };
        }
        let asked = self.steps.iter().filter(|step| matches!(step.state, StepState::Asked));
        let starts: Vec<Start> = asked
            .map(|step| Start {
                step: step.name.clone(),
                attempts: step.attempts,
                not_before: step.not_before,
            })
            .collect();
        if starts.is_empty() { Next::Wait } else { Next::Run(starts) }
    }

    /// The steps to undo, the last first: all of a failed saga, and of one that completed those whose effect is
    /// unknown.
    fn to_undo(&self, outcome: &Outcome) -> Vec<String> {
        let all = matches!(outcome, Outcome::Failed(_));
        let undo = |step: &&Step| step.undoable && (all || !matches!(step.state, StepState::Done(_)));
        self.steps.iter().rev().filter(undo).map(|step| step.name.clone()).collect()
    }

    fn step(&self, name: &str) -> Option<&Step> {
        self.names.get(name).map(|index| &self.steps[*index])
    }

    fn step_mut(&mut self, name: &str) -> Option<&mut Step> {
        self.names.get(name).map(|index| &mut self.steps[*index])
    }
}

impl Step {
    /// Whether nothing is known of how it ended.
    fn is_open(&self) -> bool {
        matches!(self.state, StepState::Asked | StepState::Running)
    }

    fn is_settled(&self) -> bool {
        matches!(self.state, StepState::Done(_) | StepState::Failed)
    }

    /// Nobody waits for the outcome of a step that was dropped.
    fn deliver(&self, outcome: Result<Payload, Failure>) -> Option<Next> {
        (!self.dropped).then(|| Next::Deliver { step: self.name.clone(), outcome })
    }
}

impl From<SagaError> for Outcome {
    fn from(error: SagaError) -> Self {
        Self::Failed(error)
    }
}
