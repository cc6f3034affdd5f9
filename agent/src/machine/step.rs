//! What a run did, as its caller is told.

use serde::Serialize;
use serde_json::Value;

use crate::tool::Outcome;

/// One thing that a run did.
///
/// ```
/// use purlin_agent::machine::{Did, Step};
/// use purlin_agent::tool::Outcome;
/// use serde_json::json;
///
/// let step = Step {
///     turn: 1,
///     did: Did::Tool {
///         id: "call-1".into(),
///         name: "search_orders".into(),
///         arguments: json!({"status": "shipped"}),
///         outcome: Outcome::Result(json!([])),
///     },
///     duration_ms: 7,
/// };
/// assert_eq!(
///     serde_json::to_value(step).unwrap(),
///     json!({"turn": 1, "kind": "tool", "id": "call-1", "name": "search_orders",
///            "arguments": {"status": "shipped"}, "result": [], "duration_ms": 7}),
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// The answer of the model that this was a part of, from 1.
    pub turn: u32,
    /// What was done.
    #[serde(flatten)]
    pub did: Did,
    /// How long the call took; of a text, how long the model took for the whole answer.
    pub duration_ms: u64,
}

/// What was done in a step.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Did {
    /// The model said something.
    Text {
        /// What it said.
        text: String,
    },
    /// A call of a tool came to its end.
    Tool {
        /// The model's id of the call.
        id: String,
        /// The tool that was asked for.
        name: String,
        /// The arguments as the model gave them.
        arguments: Value,
        /// `result` or `error`.
        #[serde(flatten)]
        outcome: Outcome,
    },
}
