//! What was said in a conversation, in no vendor's words.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// What a person asked.
    User(String),
    /// What the model answered.
    Model(Vec<Block>),
    /// How the calls of the answer before ended: one result for each call, in the order of the calls.
    Results(Vec<ToolResult>),
}

/// A part of a model's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Block {
    /// Text.
    Text(String),
    /// The wish to have a tool called.
    Call(ToolCall),
    /// What only the model's vendor understands (its thoughts, say), and wants to be shown again unchanged.
    Opaque(Value),
}

/// A model's wish to have a tool called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The model's name for this call; unique in its answer.
    pub id: String,
    /// Which tool.
    pub name: String,
    /// With what; a string when the model wrote something that is not JSON.
    pub arguments: Value,
}

/// How a call ended, as the model is told it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolResult {
    /// The call's id.
    pub call: String,
    /// The tool that was asked for.
    pub name: String,
    /// The result, or the failure, as JSON text.
    pub content: String,
    /// Whether it is a failure.
    pub is_error: bool,
}
