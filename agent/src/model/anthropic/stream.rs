//! An answer of the Messages API, piece by piece.

use serde::Deserialize;
use serde_json::Value;

use super::super::{Answer, ModelError};
use super::decode::{self, Reply, Tokens};
use super::refusal::Refusal;

/// An answer as far as it has come. Pure: data of events in, text out, the answer at the end.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    reply: Reply,
    /// The JSON text of the tool call that is coming, which is not JSON before its end.
    input: String,
    complete: bool,
}

/// What an event means for whoever reads.
#[derive(Debug)]
pub(super) enum Piece {
    /// More text.
    Text(String),
    /// Nothing to tell.
    Silent,
    /// The vendor breaks off.
    Refused(Refusal),
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event {
    MessageStart {
        message: Start,
    },
    ContentBlockStart {
        index: usize,
        content_block: Value,
    },
    ContentBlockDelta {
        index: usize,
        delta: Value,
    },
    ContentBlockStop {
        index: usize,
    },
    MessageDelta {
        delta: Ending,
        #[serde(default)]
        usage: Tokens,
    },
    MessageStop,
    Error {
        error: Refusal,
    },
    // `ping`, and what is to come: the API's versioning policy allows new events.
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Start {
    #[serde(default)]
    usage: Tokens,
}

#[derive(Deserialize)]
struct Ending {
    stop_reason: Option<String>,
}

impl Assembly {
    pub(super) fn take(&mut self, data: &[u8]) -> Result<Piece, ModelError> {
        let event = serde_json::from_slice(data).map_err(|error| ModelError::malformed(error.to_string()))?;
        match event {
            Event::MessageStart { message } => self.reply.usage.update(&message.usage),
            Event::ContentBlockStart { index, content_block } => {
                if index != self.reply.content.len() || !content_block.is_object() {
                    return Err(out_of_place());
                }
                self.reply.content.push(content_block);
                self.input.clear();
            }
            Event::ContentBlockDelta { index, delta } => return self.grow(index, &delta),
            Event::ContentBlockStop { index } => self.close(index)?,
            Event::MessageDelta { delta, usage } => {
                self.reply.stop_reason = delta.stop_reason.or(self.reply.stop_reason.take());
                self.reply.usage.update(&usage);
            }
            Event::MessageStop => self.complete = true,
            Event::Error { error } => return Ok(Piece::Refused(error)),
            Event::Other => {}
        }
        Ok(Piece::Silent)
    }

    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    pub(super) fn into_answer(self) -> Result<Answer, ModelError> {
        decode::answer(self.reply)
    }

    fn grow(&mut self, index: usize, delta: &Value) -> Result<Piece, ModelError> {
        let block = open(&mut self.reply.content, index)?;
        match delta["type"].as_str() {
            Some("text_delta") => {
                append(block, "text", &delta["text"])?;
                return Ok(Piece::Text(delta["text"].as_str().unwrap_or_default().to_owned()));
            }
            Some("input_json_delta") => {
                self.input.push_str(delta["partial_json"].as_str().ok_or_else(out_of_place)?);
            }
            Some("thinking_delta") => append(block, "thinking", &delta["thinking"])?,
            Some("signature_delta") => append(block, "signature", &delta["signature"])?,
            Some("citations_delta") => match &mut block["citations"] {
                Value::Array(citations) => citations.push(delta["citation"].clone()),
                none => *none = Value::Array(vec![delta["citation"].clone()]),
            },
            _ => {}
        }
        Ok(Piece::Silent)
    }

    fn close(&mut self, index: usize) -> Result<(), ModelError> {
        let block = open(&mut self.reply.content, index)?;
        let input = std::mem::take(&mut self.input);
        if !input.is_empty() {
            // What is not JSON stays a text, which no schema of arguments accepts, so the model is told.
            block["input"] = serde_json::from_str(&input).unwrap_or(Value::String(input));
        }
        Ok(())
    }
}

/// The block that is coming: always the last one.
fn open(content: &mut [Value], index: usize) -> Result<&mut Value, ModelError> {
    let last = content.len().checked_sub(1);
    if last != Some(index) {
        return Err(out_of_place());
    }
    content.last_mut().ok_or_else(out_of_place)
}

fn append(block: &mut Value, name: &str, more: &Value) -> Result<(), ModelError> {
    let more = more.as_str().ok_or_else(out_of_place)?;
    match &mut block[name] {
        Value::String(text) => text.push_str(more),
        none => *none = Value::String(more.to_owned()),
    }
    Ok(())
}

fn out_of_place() -> ModelError {
    ModelError::malformed("an event of its stream does not fit those before it")
}
