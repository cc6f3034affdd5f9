//! What a model said, why it stopped, and what that cost.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Block, ToolCall};

/// A model's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// What it said, in order.
    pub blocks: Vec<Block>,
    /// Why it stopped there.
    pub stop: Stop,
    /// What it cost.
    pub usage: Usage,
}

impl Answer {
    /// A text that ends the turn.
    pub fn text(text: impl Into<String>) -> Self {
        Self { blocks: vec![Block::Text(text.into())], stop: Stop::EndTurn, usage: Usage::default() }
    }

    /// Calls of tools, whose ids are `call-1`, `call-2`, ...
    pub fn calling<N: Into<String>>(calls: impl IntoIterator<Item = (N, Value)>) -> Self {
        let call = |(index, (name, arguments)): (usize, (N, Value))| {
            Block::Call(ToolCall { id: format!("call-{}", index + 1), name: name.into(), arguments })
        };
        let blocks = calls.into_iter().enumerate().map(call).collect();
        Self { blocks, stop: Stop::ToolUse, usage: Usage::default() }
    }

    /// The same answer, stopped for another reason.
    pub fn stopped(self, stop: Stop) -> Self {
        Self { stop, ..self }
    }

    /// The same answer at a cost.
    pub fn costing(self, input_tokens: u64, output_tokens: u64) -> Self {
        Self { usage: Usage { input_tokens, output_tokens }, ..self }
    }

    /// The calls it asks for.
    pub fn calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.blocks.iter().filter_map(|block| match block {
            Block::Call(call) => Some(call),
            Block::Text(_) | Block::Opaque(_) => None,
        })
    }

    /// Its text, without what stands between.
    pub fn full_text(&self) -> String {
        let text = self.blocks.iter().filter_map(|block| match block {
            Block::Text(text) => Some(text.as_str()),
            Block::Call(_) | Block::Opaque(_) => None,
        });
        text.collect()
    }
}

/// Why a model stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    /// It has said what it wanted to say.
    EndTurn,
    /// It wants tools called.
    ToolUse,
    /// The answer was getting too large; the last part of it may be incomplete.
    MaxTokens,
    /// It came to words that were to stop it.
    StopSequence,
    /// It will not answer this.
    Refusal,
    /// It is not done, and goes on when it is asked again.
    Pause,
    /// A reason of its vendor's own.
    Other(String),
}

/// What was read and written, in the model's tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens read, from caches too.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
}

impl Usage {
    /// Read and written together.
    pub fn total(self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }

    /// This and `more`.
    pub fn plus(self, more: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_add(more.input_tokens),
            output_tokens: self.output_tokens.saturating_add(more.output_tokens),
        }
    }
}
