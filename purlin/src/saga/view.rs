//! A saga as its operator sees it, read from its journal.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::message::Timestamp;

use super::journal::{Entry, Outcome};
use super::record::SagaRow;
use super::{Failure, SagaError};

/// Where a saga stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SagaState {
    /// Its function is at work, or waits.
    Running,
    /// What it did is being undone.
    Compensating,
    /// Its function returned.
    Completed,
    /// It failed, and all it did is undone.
    Failed,
    /// It cannot be undone, or takes longer than it may.
    Stuck,
    /// Its function does not fit its journal, or it cannot be run at all: nothing is done until a program that can is
    /// deployed, or an operator says so.
    Blocked,
}

impl SagaState {
    /// The state's name as it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Compensating => "compensating",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Stuck => "stuck",
            Self::Blocked => "blocked",
        }
    }

    /// Whether nothing more will happen.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

/// A saga and its steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SagaView {
    /// The saga.
    pub id: Uuid,
    /// Which function.
    pub kind: String,
    /// Where it stands.
    pub state: SagaState,
    /// Why it does not go on by itself, if it is stuck or blocked.
    pub reason: Option<String>,
    /// Why it failed, as far as it has.
    pub error: Option<SagaError>,
    /// When it was accepted.
    pub started_at: Timestamp,
    /// When it must have ended.
    pub deadline: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// What its function returned, if it completed; what is personal in it is sealed.
    pub output: Option<serde_json::Value>,
    /// The steps that began, in the order in which that became known.
    pub steps: Vec<StepView>,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepView {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: StepViewState,
    /// How many attempts are known of.
    pub attempts: u32,
    /// When the first began.
    pub started_at: Option<Timestamp>,
    /// When it had its outcome.
    pub ended_at: Option<Timestamp>,
    /// Why the last attempt that is known of failed.
    pub error: Option<Failure>,
    /// How far it is undone, if it is to be undone.
    pub compensation: Option<CompensationView>,
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepViewState {
    /// Under way, or waiting for its next attempt.
    Running,
    /// It has an outcome.
    Done,
    /// It failed for good.
    Failed,
    /// Nobody waited for it any longer: whether it had an effect is unknown.
    Abandoned,
}

/// The undoing of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompensationView {
    /// Where it stands.
    pub state: CompensationState,
    /// How many attempts are known of.
    pub attempts: u32,
    /// When it succeeded.
    pub ended_at: Option<Timestamp>,
    /// Why the last attempt that is known of failed.
    pub error: Option<Failure>,
}

/// Where the undoing of a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CompensationState {
    /// It will be tried, or tried again.
    Pending,
    /// The step is undone.
    Done,
    /// It was given up.
    Stuck,
}

/// A step that is under way in this process.
#[derive(Debug, Clone)]
pub(super) struct Running {
    pub(super) step: String,
    pub(super) attempts: u32,
    pub(super) started_at: Timestamp,
}

impl SagaView {
    pub(super) fn new(id: Uuid, row: SagaRow, entries: &[(Timestamp, Entry)], running: Vec<Running>) -> Self {
        let mut view = Self {
            id,
            kind: row.kind,
            state: row.state,
            reason: row.reason,
            error: row.error,
            started_at: row.started_at,
            deadline: row.deadline,
            ended_at: row.ended_at,
            output: None,
            steps: Vec::new(),
        };
        for (at, entry) in entries {
            view.take_in(*at, entry);
        }
        view.pausing(&row.pauses);
        if !matches!(view.state, SagaState::Completed | SagaState::Failed) {
            for step in running {
                view.under_way(&step);
            }
        }
        view
    }

    /// What the journal does not have of the attempts of a saga that left memory; it may be of an earlier time.
    fn pausing(&mut self, pauses: &[Entry]) {
        for pause in pauses {
            match pause {
                Entry::Attempted { step, attempt, error, .. } => {
                    let step = self.step(step);
                    if step.state == StepViewState::Running && step.attempts < *attempt {
                        (step.attempts, step.error) = (*attempt, Some(error.clone()));
                    }
                }
                Entry::UndoAttempted { step, attempt, error, .. } => {
                    let undone = self.step(step).compensation.as_mut();
                    let pending = undone.filter(|undone| undone.state == CompensationState::Pending);
                    if let Some(undone) = pending.filter(|undone| undone.attempts < *attempt) {
                        (undone.attempts, undone.error) = (*attempt, Some(error.clone()));
                    }
                }
                _ => {}
            }
        }
    }

    fn under_way(&mut self, running: &Running) {
        let step = self.step(&running.step);
        if step.state == StepViewState::Running {
            step.attempts = step.attempts.max(running.attempts);
            step.started_at.get_or_insert(running.started_at);
        }
    }

    fn take_in(&mut self, at: Timestamp, entry: &Entry) {
        match entry {
            Entry::Started { .. } | Entry::Signalled { .. } | Entry::EndAttempted { .. } | Entry::Resumed => {
            }
            Entry::Attempted { step, attempt, started_at, error, .. } => {
                let step = self.step(step);
                step.started_at.get_or_insert(*started_at);
                (step.attempts, step.error) = (*attempt, Some(error.clone()));
            }
            Entry::Waiting { step, .. } => {
                self.step(step).started_at.get_or_insert(at);
            }
            Entry::Done { step, attempts, started_at, .. } => {
                self.step(step).settle(StepViewState::Done, *attempts, *started_at, at);
            }
            Entry::Failed { step, attempts, started_at, error } => {
                let step = self.step(step);
                step.settle(StepViewState::Failed, *attempts, *started_at, at);
                step.error = Some(error.clone());
            }
            Entry::Abandoned { step } => {
                let step = self.step(step);
                (step.state, step.ended_at) = (StepViewState::Abandoned, Some(at));
            }
            Entry::Compensating { undo, .. } => self.compensating(at, undo),
            Entry::Ended { outcome: Outcome::Completed(output) } => self.output = output.read().ok(),
            Entry::Ended { .. } => {}
            Entry::UndoAttempted { step, attempt, error, .. } => {
                self.compensation(step, CompensationState::Pending, *attempt, Some(error));
            }
            Entry::Undone { step, attempts } => {
                self.compensation(step, CompensationState::Done, *attempts, None).ended_at = Some(at);
            }
            Entry::Stuck { step, attempts, error } => {
                self.compensation(step, CompensationState::Stuck, *attempts, Some(error));
            }
        }
    }

    /// What was under way is abandoned, and what is to be undone will be.
    fn compensating(&mut self, at: Timestamp, undo: &[String]) {
        for step in undo.iter().rev() {
            self.compensation(step, CompensationState::Pending, 0, None);
        }
        for step in self.steps.iter_mut().filter(|step| step.state == StepViewState::Running) {
            (step.state, step.ended_at) = (StepViewState::Abandoned, Some(at));
        }
    }

    fn compensation(
        &mut self,
        step: &str,
        state: CompensationState,
        attempts: u32,
        error: Option<&Failure>,
    ) -> &mut CompensationView {
        let none = CompensationView { state, attempts, ended_at: None, error: None };
        let view = self.step(step).compensation.get_or_insert(none);
        (view.state, view.attempts) = (state, attempts);
        if let Some(error) = error {
            view.error = Some(error.clone());
        }
        view
    }

    fn step(&mut self, name: &str) -> &mut StepView {
        let index = self.steps.iter().position(|step| step.name == name).unwrap_or_else(|| {
            self.steps.push(StepView {
                name: name.to_owned(),
                state: StepViewState::Running,
                attempts: 0,
                started_at: None,
                ended_at: None,
                error: None,
                compensation: None,
            });
            self.steps.len() - 1
        });
        &mut self.steps[index]
    }
}

impl StepView {
    fn settle(&mut self, state: StepViewState, attempts: u32, started_at: Timestamp, at: Timestamp) {
        (self.state, self.attempts) = (state, attempts);
        (self.started_at, self.ended_at) = (Some(started_at), Some(at));
        if state == StepViewState::Done {
            self.error = None;
        }
    }
}
