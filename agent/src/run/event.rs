//! What is told of a run while it goes on, and at its end.

use purlin::message::Uuid;
use serde::Serialize;
use serde_json::Value;

use crate::machine::Step;
use crate::model::{Stop, Usage};

/// Something that happened in a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The model is being asked.
    Turn {
        /// For its which answer, from 1.
        turn: u32,
    },
    /// The model says something; the step with the whole text follows.
    Text {
        /// In which answer.
        turn: u32,
        /// The piece of text.
        text: String,
    },
    /// The answer broke off and is made anew: its text so far is void.
    Restart {
        /// Which answer.
        turn: u32,
    },
    /// A call of a tool begins.
    Call {
        /// The answer that asks for it.
        turn: u32,
        /// The model's id of the call.
        id: String,
        /// The tool.
        name: String,
        /// Its arguments.
        arguments: Value,
    },
    /// A text is complete or a call has ended. Calls of a turn end in any order here.
    Step(Step),
    /// The run has its result.
    Finished(Finished),
    /// The run ends without a result.
    Failed {
        /// The code of the [`RunError`](super::RunError).
        code: String,
        /// What it says.
        message: String,
    },
}

impl Event {
    /// The event's name, as it stands in its JSON and in the `event:` line of an event stream.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Turn { .. } => "turn",
            Self::Text { .. } => "text",
            Self::Restart { .. } => "restart",
            Self::Call { .. } => "call",
            Self::Step(_) => "step",
            Self::Finished(_) => "finished",
            Self::Failed { .. } => "failed",
        }
    }
}

/// What a run gives: the model has ended its turn.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finished {
    /// The run's id; the keys of its calls begin with it.
    pub id: Uuid,
    /// What the model said since it last called a tool.
    pub result: String,
    /// Everything it did, in order: the calls of a turn in the order in which the model made them.
    pub steps: Vec<Step>,
    /// Why the model stopped: `end-turn`, or what makes the result less than a full answer (`max-tokens`,
    /// `refusal`, ...).
    pub stop: Stop,
    /// What it cost.
    pub usage: Usage,
}
