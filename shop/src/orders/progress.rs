//! How a choreographed checkout goes, folded from what the services say: the same picture that a saga gives.

use purlin::bus::Message;
use purlin::message::{FaultKind, Timestamp, Uuid};
use purlin::saga::{
    CompensationState, CompensationView, Failure, SagaState, SagaView, StepView, StepViewState,
};
use purlin::store::{Commit, ReadError, Revision, Row, Store};
use serde::{Deserialize, Serialize};
use serde_json::Value;

const RESERVE: &str = "reserve-inventory";
const PAY: &str = "process-payment";
const SHIP: &str = "create-shipment";

/// The progress of a checkout.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Progress {
    /// As a saga is shown.
    pub view: SagaView,
}

impl Row for Progress {
    const COLLECTION: &'static str = "checkout_progress";
}

/// Notes what a message says, in the commit that handles it.
pub async fn note(store: &Store, commit: Commit, message: &Message) -> Result<Commit, ReadError> {
    let Ok(id) = message.key().parse::<Uuid>() else { return Ok(commit) };
    let found = store.get_record(Progress::COLLECTION, message.key()).await?;
    let (mut progress, expected) = match &found {
        Some(record) => (record.decode()?, Revision::Exact(record.revision)),
        None => (Progress::begun(id, message.event.at), Revision::Absent),
    };
    let data: Value = serde_json::from_slice(&message.event.envelope.data).unwrap_or_default();
    let reason = data.get("reason").and_then(Value::as_str).unwrap_or_default();
    progress.hear(message.subject(), message.event.at, reason);
    Ok(commit.put_expecting(message.key(), &progress, expected, None))
}

impl Progress {
    /// A checkout that was submitted just now.
    pub fn begun(id: Uuid, at: Timestamp) -> Self {
        let view = SagaView {
            id,
            kind: "choreographed-checkout".to_owned(),
            state: SagaState::Running,
            reason: None,
            error: None,
            started_at: at,
            deadline: None,
            ended_at: None,
            output: None,
            steps: vec![step(RESERVE, at)],
        };
        Self { view }
    }

    /// Folds in what was said. What is said twice, or too late, changes nothing.
    pub fn hear(&mut self, subject: &str, at: Timestamp, reason: &str) {
        match subject {
            "stock.reserved" => self.done(RESERVE, at),
            "stock.refused" => self.failed(RESERVE, at, reason),
            "stock.released" => self.undone(RESERVE, at),
            "payment.requested" => _ = self.step(PAY, at),
            "payment.delayed" => self.delayed(PAY, at, reason),
            "payment.completed" => self.done(PAY, at),
            "payment.failed" => self.failed(PAY, at, reason),
            "payment.refunded" => self.undone(PAY, at),
            "shipment.created" => self.done(SHIP, at),
            "shipment.refused" => self.failed(SHIP, at, reason),
            "shipment.cancelled" => self.undone(SHIP, at),
            "order.cancel_requested" => self.undo(),
            "order.shipped" => self.ended(SagaState::Completed, at),
            "order.cancelled" => self.ended(SagaState::Failed, at),
            _ => {}
        }
    }

    fn step(&mut self, name: &str, at: Timestamp) -> &mut StepView {
        let steps = &mut self.view.steps;
        let known = steps.iter().position(|step| step.name == name);
        let index = known.unwrap_or_else(|| {
            steps.push(step(name, at));
            steps.len() - 1
        });
        &mut steps[index]
    }

    fn done(&mut self, name: &str, at: Timestamp) {
        let step = self.step(name, at);
        if step.state == StepViewState::Running {
            (step.state, step.ended_at, step.error) = (StepViewState::Done, Some(at), None);
        }
        // The next step begins with this one's end.
        if name == PAY && self.view.state == SagaState::Running {
            self.step(SHIP, at);
        }
    }

    fn delayed(&mut self, name: &str, at: Timestamp, reason: &str) {
        let step = self.step(name, at);
        step.attempts += 1;
        step.error = Some(failure(FaultKind::Unavailable, reason));
    }

    fn failed(&mut self, name: &str, at: Timestamp, reason: &str) {
        let step = self.step(name, at);
        (step.state, step.ended_at) = (StepViewState::Failed, Some(at));
        step.error = Some(failure(FaultKind::Conflict, reason));
        self.undo();
    }

    /// What was done is to be given back.
    fn undo(&mut self) {
        if self.view.state == SagaState::Running {
            self.view.state = SagaState::Compensating;
        }
        for step in &mut self.view.steps {
            if step.state != StepViewState::Failed && step.compensation.is_none() {
                step.compensation = Some(compensation(CompensationState::Pending, None));
            }
        }
    }

    /// Only a step that began has something to show: who never began has only promised not to.
    fn undone(&mut self, name: &str, at: Timestamp) {
        self.undo();
        let Some(step) = self.view.steps.iter_mut().find(|step| step.name == name) else { return };
        if step.state == StepViewState::Running {
            (step.state, step.ended_at) = (StepViewState::Abandoned, Some(at));
        }
        if step.state != StepViewState::Failed {
            step.compensation = Some(compensation(CompensationState::Done, Some(at)));
        }
    }

    fn ended(&mut self, state: SagaState, at: Timestamp) {
        (self.view.state, self.view.ended_at) = (state, Some(at));
    }
}

fn step(name: &str, at: Timestamp) -> StepView {
    StepView {
        name: name.to_owned(),
        state: StepViewState::Running,
        attempts: 1,
        started_at: Some(at),
        ended_at: None,
        error: None,
        compensation: None,
    }
}

fn compensation(state: CompensationState, ended_at: Option<Timestamp>) -> CompensationView {
    let attempts = u32::from(state == CompensationState::Done);
    CompensationView { state, attempts, ended_at, error: None }
}

fn failure(kind: FaultKind, message: &str) -> Failure {
    Failure::new(kind, kind.as_str(), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(subjects: &[&str]) -> SagaView {
        let mut progress = Progress::begun(Uuid::nil(), Timestamp::UNIX_EPOCH);
        for subject in subjects {
            progress.hear(subject, Timestamp::UNIX_EPOCH, "because");
        }
        progress.view
    }

    fn steps(view: &SagaView) -> Vec<(&str, StepViewState, bool)> {
        let undone =
            |step: &StepView| step.compensation.as_ref().is_some_and(|c| c.state == CompensationState::Done);
        view.steps.iter().map(|step| (step.name.as_str(), step.state, undone(step))).collect()
    }

    #[test]
    fn a_checkout_that_goes_well_has_three_done_steps() {
        let view = heard(&[
            "stock.reserved",
            "payment.requested",
            "payment.completed",
            "shipment.created",
            "order.confirmed",
            "order.shipped",
        ]);
        let done = |name| (name, StepViewState::Done, false);
        assert_eq!(steps(&view), [done(RESERVE), done(PAY), done(SHIP)]);
        assert_eq!(view.state, SagaState::Completed);
    }

    #[test]
    fn a_failed_step_keeps_its_error_and_those_before_it_are_undone() {
        let view = heard(&[
            "stock.reserved",
            "payment.requested",
            "payment.completed",
            "shipment.refused",
            "payment.refunded",
            "stock.released",
            "order.cancelled",
        ]);
        let expected = [
            (RESERVE, StepViewState::Done, true),
            (PAY, StepViewState::Done, true),
            (SHIP, StepViewState::Failed, false),
        ];
        assert_eq!(steps(&view), expected);
        assert_eq!(view.steps[2].error.as_ref().map(|error| error.message.as_str()), Some("because"));
        assert_eq!(view.state, SagaState::Failed);
    }

    #[test]
    fn a_step_that_never_began_is_not_shown() {
        let view =
            heard(&["order.cancel_requested", "shipment.cancelled", "payment.refunded", "stock.released"]);
        assert_eq!(steps(&view), [(RESERVE, StepViewState::Abandoned, true)]);
    }
}
