//! A request as the Messages API wants it.

use serde_json::{Value, json};

use super::super::{Block, Message, Request, ToolResult};
use super::Config;
use super::config::Transfer;

pub(super) fn body(config: &Config, request: &Request<'_>) -> Vec<u8> {
    let mut body = json!({
        "model": config.model,
        "max_tokens": request.max_tokens,
        "messages": messages(request.messages),
    });
    if !request.system.is_empty() {
        body["system"] = request.system.into();
    }
    if !request.tools.is_empty() {
        let tool = |tool: &crate::tool::Definition| json!({"name": tool.name(), "description": tool.description(), "input_schema": tool.schema().json()});
        body["tools"] = request.tools.iter().map(tool).collect();
    }
    if config.transfer == Transfer::Streamed {
        body["stream"] = true.into();
    }
    body.to_string().into_bytes()
}

/// Messages whose roles alternate: answers that follow each other (after a pause) are one message there.
fn messages(messages: &[Message]) -> Value {
    let mut turns: Vec<(&str, Vec<Value>)> = Vec::new();
    for message in messages {
        let (role, content) = match message {
            Message::User(text) => ("user", vec![json!({"type": "text", "text": text})]),
            Message::Model(blocks) => ("assistant", blocks.iter().filter_map(block).collect()),
            Message::Results(results) => ("user", results.iter().map(result).collect()),
        };
        match turns.last_mut() {
            _ if content.is_empty() => {}
            Some((last, so_far)) if *last == role => so_far.extend(content),
            _ => turns.push((role, content)),
        }
    }
    if let Some(("assistant", content)) = turns.last_mut() {
        without_trailing_space(content);
    }
    turns.into_iter().map(|(role, content)| json!({"role": role, "content": content})).collect()
}

/// The API refuses an answer that it is to continue (after a pause) when its text ends with white space.
fn without_trailing_space(content: &mut [Value]) {
    if let Some(text) = content.last_mut().and_then(|block| block.get_mut("text"))
        && let Some(trimmed) = text.as_str().map(str::trim_end)
    {
        *text = trimmed.into();
    }
}

/// A block of an answer; texts without a visible character are refused by the API, so they are left out.
fn block(block: &Block) -> Option<Value> {
    match block {
        Block::Text(text) if text.trim().is_empty() => None,
        Block::Text(text) => Some(json!({"type": "text", "text": text})),
        Block::Opaque(value) => Some(value.clone()),
        Block::Call(call) => {
            // The API takes objects only; the model is shown what it wrote instead.
            let input = match &call.arguments {
                object @ Value::Object(_) => object.clone(),
                other => json!({"not_an_object": other}),
            };
            Some(json!({"type": "tool_use", "id": call.id, "name": call.name, "input": input}))
        }
    }
}

fn result(result: &ToolResult) -> Value {
    json!({
        "type": "tool_result",
        "tool_use_id": result.call,
        "content": result.content,
        "is_error": result.is_error,
    })
}
