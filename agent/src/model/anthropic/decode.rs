//! An answer of the Messages API, whole.

use serde::Deserialize;
use serde_json::Value;

use super::super::{Answer, Block, ModelError, Stop, ToolCall, Usage};

/// A `message` object. What is not needed is not looked at: vendors add.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Reply {
    pub(super) content: Vec<Value>,
    pub(super) stop_reason: Option<String>,
    #[serde(default)]
    pub(super) usage: Tokens,
}

#[derive(Debug, Default, Clone, Deserialize)]
pub(super) struct Tokens {
    pub(super) input_tokens: Option<u64>,
    pub(super) output_tokens: Option<u64>,
    pub(super) cache_creation_input_tokens: Option<u64>,
    pub(super) cache_read_input_tokens: Option<u64>,
}

impl Tokens {
    /// Takes over what a later report says; its figures are totals, not additions.
    pub(super) fn update(&mut self, later: &Self) {
        self.input_tokens = later.input_tokens.or(self.input_tokens);
        self.output_tokens = later.output_tokens.or(self.output_tokens);
        self.cache_creation_input_tokens =
            later.cache_creation_input_tokens.or(self.cache_creation_input_tokens);
        self.cache_read_input_tokens = later.cache_read_input_tokens.or(self.cache_read_input_tokens);
    }

    fn usage(&self) -> Usage {
        let read = [self.input_tokens, self.cache_creation_input_tokens, self.cache_read_input_tokens];
        let input_tokens = read.into_iter().flatten().fold(0, u64::saturating_add);
        Usage { input_tokens, output_tokens: self.output_tokens.unwrap_or(0) }
    }
}

pub(super) fn whole(body: &[u8]) -> Result<Answer, ModelError> {
    let reply = serde_json::from_slice(body).map_err(|error| ModelError::malformed(error.to_string()))?;
    answer(reply)
}

pub(super) fn answer(reply: Reply) -> Result<Answer, ModelError> {
    let usage = reply.usage.usage();
    let stop = reply.stop_reason.ok_or_else(|| ModelError::malformed("it has no stop_reason"))?;
    let blocks = reply.content.into_iter().map(block).collect::<Result<_, _>>()?;
    Ok(Answer { blocks, stop: self::stop(&stop), usage })
}

fn block(mut value: Value) -> Result<Block, ModelError> {
    match value["type"].as_str() {
        Some("text") => Ok(Block::Text(text(&mut value, "text")?)),
        Some("tool_use") => Ok(Block::Call(ToolCall {
            id: text(&mut value, "id")?,
            name: text(&mut value, "name")?,
            arguments: value["input"].take(),
        })),
        Some(_) => Ok(Block::Opaque(value)),
        None => Err(ModelError::malformed("a block of it has no type")),
    }
}

fn text(value: &mut Value, name: &str) -> Result<String, ModelError> {
    match value[name].take() {
        Value::String(text) => Ok(text),
        _ => Err(ModelError::malformed(format!("a block of it has no {name}"))),
    }
}

fn stop(reason: &str) -> Stop {
    match reason {
        "end_turn" => Stop::EndTurn,
        "tool_use" => Stop::ToolUse,
        "max_tokens" => Stop::MaxTokens,
        "stop_sequence" => Stop::StopSequence,
        "refusal" => Stop::Refusal,
        "pause_turn" => Stop::Pause,
        other => Stop::Other(other.to_owned()),
    }
}
