//! The calls of one answer, until each has its end.

use serde_json::json;

use crate::model::{ToolCall, ToolResult};
use crate::tool::{Definition, Failure, Outcome};

use super::{Did, Mismatch, Pending, Step};

/// How many tools an unknown one is answered with.
const MAX_CANDIDATES: usize = 20;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Turn(Vec<Settling>);

#[derive(Debug, Clone, PartialEq)]
struct Settling {
    call: ToolCall,
    end: Option<(Outcome, u64)>,
}

impl Settling {
    fn step(&self, turn: u32) -> Option<Step> {
        let (outcome, duration_ms) = self.end.clone()?;
        let ToolCall { id, name, arguments } = self.call.clone();
        Some(Step { turn, did: Did::Tool { id, name, arguments, outcome }, duration_ms })
    }
}

impl Turn {
    /// The calls of an answer. One whose tool does not exist or whose arguments do not fit has its end at once.
    pub(super) fn plan<'a>(calls: impl Iterator<Item = &'a ToolCall>, tools: &[Definition]) -> Self {
        let settling = |call: &ToolCall| Settling {
            call: call.clone(),
            end: refusal(call, tools).map(|failure| (Outcome::Error(failure), 0)),
        };
        Self(calls.map(settling).collect())
    }

    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn is_settled(&self) -> bool {
        self.0.iter().all(|settling| settling.end.is_some())
    }

    pub(super) fn pending(&self, turn: u32) -> Vec<Pending<'_>> {
        let open = self.0.iter().enumerate().filter(|(_, settling)| settling.end.is_none());
        open.map(|(position, settling)| Pending { turn, position, call: &settling.call }).collect()
    }

    /// The steps of the calls that have their end.
    pub(super) fn settled(&self, turn: u32) -> Vec<Step> {
        self.0.iter().filter_map(|settling| settling.step(turn)).collect()
    }

    pub(super) fn settle(
        &mut self,
        position: usize,
        outcome: Outcome,
        duration_ms: u64,
        turn: u32,
    ) -> Result<Step, Mismatch> {
        let settling = self.0.get_mut(position).filter(|settling| settling.end.is_none()).ok_or(Mismatch)?;
        settling.end = Some((outcome, duration_ms));
        settling.step(turn).ok_or(Mismatch)
    }

    /// Ends what is still open; gives its steps.
    pub(super) fn abandon(&mut self, turn: u32) -> Vec<Step> {
        let open = self.0.iter_mut().filter(|settling| settling.end.is_none());
        let abandoned = open.filter_map(|settling| {
            settling.end = Some((Outcome::Error(Failure::abandoned()), 0));
            settling.step(turn)
        });
        abandoned.collect()
    }

    /// One result and one step for each call, in the order of the calls.
    pub(super) fn close(&self, turn: u32) -> (Vec<ToolResult>, Vec<Step>) {
        let results =
            self.0.iter().filter_map(|settling| Some(result(&settling.call, &settling.end.as_ref()?.0)));
        (results.collect(), self.settled(turn))
    }
}

fn refusal(call: &ToolCall, tools: &[Definition]) -> Option<Failure> {
    let Some(tool) = tools.iter().find(|tool| tool.name() == call.name) else {
        let known = tools.iter().take(MAX_CANDIDATES).map(|tool| tool.name().to_owned()).collect();
        return Some(Failure::unknown_tool(&call.name, known));
    };
    let problems = tool.schema().problems(&call.arguments);
    (!problems.is_empty()).then(|| Failure::bad_arguments(problems))
}

fn result(call: &ToolCall, outcome: &Outcome) -> ToolResult {
    let (content, is_error) = match outcome {
        Outcome::Result(value) => (value.to_string(), false),
        Outcome::Error(failure) => (json!({ "error": failure }).to_string(), true),
    };
    ToolResult { call: call.id.clone(), name: call.name.clone(), content, is_error }
}
