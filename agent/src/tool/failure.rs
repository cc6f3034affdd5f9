//! How a call ended, as the model and the caller are told it.

use purlin::message::{Fault, FaultKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How a call of a tool ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// What the tool answered.
    Result(Value),
    /// Why there is no answer. The model is told, and may try something else.
    Error(Failure),
}

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A stable name: `unknown-tool`, `bad-arguments`, `tool-timeout`, `tool-panicked`, `result-too-large`,
    /// `abandoned`, `internal`, or the code of the tool's own fault.
    pub code: String,
    /// One sentence for the model and for people.
    pub message: String,
    /// What may help to do better: the tools there are, or each place where the arguments do not fit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
}

impl Failure {
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), hints: Vec::new() }
    }

    pub(crate) fn unknown_tool(name: &str, known: Vec<String>) -> Self {
        let message = format!("there is no tool `{}`", shortened(name, 80));
        Self { hints: known, ..Self::new("unknown-tool", message) }
    }

    pub(crate) fn bad_arguments(problems: Vec<String>) -> Self {
        Self { hints: problems, ..Self::new("bad-arguments", "the arguments do not fit the tool's schema") }
    }

    pub(crate) fn timeout() -> Self {
        Self::new("tool-timeout", "the tool gave no answer in time; whether it had an effect is unknown")
    }

    pub(crate) fn panicked() -> Self {
        Self::new("tool-panicked", "the tool failed")
    }

    pub(crate) fn abandoned() -> Self {
        Self::new(
            "abandoned",
            "the run ended while the tool was at work; whether it had an effect is unknown",
        )
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        Self::new("result-too-large", format!("the result is larger than {limit} bytes: ask for less"))
    }

    /// What is told of a tool's own fault. A bug is told to the log and not to the model: its text may name
    /// anything.
    pub(crate) fn of_fault(tool: &str, fault: &dyn Fault) -> Self {
        match fault.kind() {
            FaultKind::Bug => {
                let cause = fault.source().map(ToString::to_string);
                tracing::error!(tool, error = %fault, cause, "a tool failed by a bug");
                Self::new("internal", "the tool failed")
            }
            _ => Self::new(fault.code(), fault.to_string()),
        }
    }
}

/// At most `max` bytes of `text`, cut between characters.
pub(crate) fn shortened(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}
