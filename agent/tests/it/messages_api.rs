//! A server that speaks the Messages API as strictly as its documentation: what it says must not be, it refuses with
//! 400. What it answers is a list given in advance.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What the server answers to a request that it accepts.
pub(crate) enum Reply {
    /// A message: whole, or as a stream when the request asks for one.
    Message { content: Value, stop_reason: &'static str },
    /// A status, headers, and a body.
    Status(u16, Vec<(&'static str, &'static str)>, Value),
    /// A stream with exactly these chunks.
    Chunks(Vec<String>),
    /// A stream of which only the first events come before the connection breaks off.
    Cut { content: Value, events: usize },
    /// No answer, ever.
    Silence,
}

impl Reply {
    pub(crate) fn text(text: &str) -> Self {
        Self::Message { content: json!([{"type": "text", "text": text}]), stop_reason: "end_turn" }
    }

    pub(crate) fn calls(calls: Value) -> Self {
        Self::Message { content: calls, stop_reason: "tool_use" }
    }

    pub(crate) fn error(status: u16, kind: &str) -> Self {
        let body = json!({"type": "error", "error": {"type": kind, "message": "so it is"}});
        Self::Status(status, vec![], body)
    }
}

/// The server; it stops when this is dropped.
pub(crate) struct MessagesApi {
    pub(crate) url: String,
    seen: Arc<Mutex<Seen>>,
    _task: JoinSet<()>,
}

struct Seen {
    replies: VecDeque<Reply>,
    requests: Vec<Value>,
    refused: Vec<String>,
}

impl MessagesApi {
    pub(crate) async fn answering(replies: impl IntoIterator<Item = Reply>) -> Self {
        let seen = Seen { replies: replies.into_iter().collect(), requests: vec![], refused: vec![] };
        let seen = Arc::new(Mutex::new(seen));
        let router = Router::new().route("/v1/messages", post(messages)).with_state(Arc::clone(&seen));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut task = JoinSet::new();
        task.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, seen, _task: task }
    }

    /// The bodies of the requests that came, also of refused ones.
    pub(crate) fn requests(&self) -> Vec<Value> {
        self.seen.lock().unwrap().requests.clone()
    }

    /// What was wrong with the requests that were refused.
    pub(crate) fn refused(&self) -> Vec<String> {
        self.seen.lock().unwrap().refused.clone()
    }
}

async fn messages(State(seen): State<Arc<Mutex<Seen>>>, headers: HeaderMap, body: Bytes) -> Response {
    let request: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let reply = {
        let mut seen = seen.lock().unwrap();
        seen.requests.push(request.clone());
        let checked = check_headers(&headers).and_then(|()| check(&request));
        if let Err(reason) = checked {
            seen.refused.push(reason.clone());
            return refusal(&reason);
        }
        seen.replies.pop_front()
    };
    match reply {
        None => refusal("nothing is left to answer"),
        Some(Reply::Message { content, stop_reason }) if request["stream"] == true => {
            stream(events(&content, stop_reason).into_iter().map(Ok).collect())
        }
        Some(Reply::Message { content, stop_reason }) => {
            axum::Json(message(&content, stop_reason)).into_response()
        }
        Some(Reply::Status(status, headers, body)) => {
            let mut response = (StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response();
            for (name, value) in headers {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            response
        }
        Some(Reply::Chunks(chunks)) => stream(chunks.into_iter().map(Ok).collect()),
        Some(Reply::Cut { content, events: count }) => {
            let mut chunks: Vec<_> = events(&content, "end_turn").into_iter().take(count).map(Ok).collect();
            chunks.push(Err("cut"));
            stream(chunks)
        }
        Some(Reply::Silence) => std::future::pending().await,
    }
}

fn stream(chunks: Vec<Result<String, &'static str>>) -> Response {
    // Yields between the chunks, so that what came before an error is sent before the connection breaks off.
    let chunks = futures_util::stream::unfold(chunks.into_iter(), |mut chunks| async {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        Some((chunks.next()?, chunks))
    });
    ([("content-type", "text/event-stream; charset=utf-8")], Body::from_stream(chunks)).into_response()
}

fn refusal(reason: &str) -> Response {
    let body = json!({"type": "error", "error": {"type": "invalid_request_error", "message": reason}});
    (StatusCode::BAD_REQUEST, axum::Json(body)).into_response()
}

fn message(content: &Value, stop_reason: &str) -> Value {
    json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-test", "content": content,
        "stop_reason": stop_reason, "stop_sequence": null,
        "usage": {"input_tokens": 100, "cache_read_input_tokens": 20, "output_tokens": 7},
    })
}

/// The events of a message as the API streams them, texts and inputs in pieces of a few characters.
pub(crate) fn events(content: &Value, stop_reason: &str) -> Vec<String> {
    let mut events = vec![json!({"type": "message_start", "message": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-test", "content": [],
        "stop_reason": null, "usage": {"input_tokens": 100, "cache_read_input_tokens": 20, "output_tokens": 1}}})];
    events.push(json!({"type": "ping"}));
    for (index, block) in content.as_array().unwrap().iter().enumerate() {
        let mut start = block.clone();
        let (field, delta, piece, whole) = match block["type"].as_str().unwrap() {
            "text" => ("text", "text_delta", "text", block["text"].as_str().unwrap().to_owned()),
            "thinking" => {
                ("thinking", "thinking_delta", "thinking", block["thinking"].as_str().unwrap().to_owned())
            }
            _ => ("input", "input_json_delta", "partial_json", input(&block["input"])),
        };
        start[field] = if field == "input" { json!({}) } else { json!("") };
        let signature = start.get_mut("signature").map(Value::take);
        events.push(json!({"type": "content_block_start", "index": index, "content_block": start}));
        for part in whole.chars().collect::<Vec<_>>().chunks(5) {
            let part: String = part.iter().collect();
            let delta = json!({"type": delta, piece: part});
            events.push(json!({"type": "content_block_delta", "index": index, "delta": delta}));
        }
        if let Some(signature) = signature {
            let delta = json!({"type": "signature_delta", "signature": signature});
            events.push(json!({"type": "content_block_delta", "index": index, "delta": delta}));
        }
        events.push(json!({"type": "content_block_stop", "index": index}));
    }
    let delta = json!({"stop_reason": stop_reason, "stop_sequence": null});
    events.push(json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 7}}));
    events.push(json!({"type": "something_new", "payload": 1}));
    events.push(json!({"type": "message_stop"}));
    events
        .iter()
        .map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap()))
        .collect()
}

/// A string stands for the raw text that a model wrote.
fn input(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn check_headers(headers: &HeaderMap) -> Result<(), String> {
    for (name, value) in
        [("x-api-key", "key"), ("anthropic-version", "2023-06-01"), ("content-type", "application/json")]
    {
        let found = headers.get(name).ok_or(format!("{name}: header is required"))?;
        need(found == value, || format!("{name}: unexpected value"))?;
    }
    Ok(())
}

fn need(holds: bool, reason: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(reason()) }
}

fn check(body: &Value) -> Result<(), String> {
    let body = body.as_object().ok_or("the body is not a JSON object")?;
    let known = ["model", "max_tokens", "messages", "system", "tools", "stream"];
    need(body.keys().all(|name| known.contains(&name.as_str())), || "extra inputs are not permitted".into())?;
    need(body.get("model").is_some_and(Value::is_string), || "model: field required".into())?;
    let positive = body.get("max_tokens").and_then(Value::as_u64).is_some_and(|tokens| tokens > 0);
    need(positive, || "max_tokens: must be at least 1".into())?;
    let filled = |value: &Value| value.as_str().is_some_and(|text| !text.trim().is_empty());
    need(body.get("system").is_none_or(filled), || "system: must not be empty".into())?;
    for tool in body.get("tools").and_then(Value::as_array).into_iter().flatten() {
        need(filled(&tool["name"]), || "tools: name required".into())?;
        need(tool["input_schema"]["type"] == "object", || "tools: input_schema.type must be object".into())?;
    }
    let messages = body.get("messages").and_then(Value::as_array).ok_or("messages: field required")?;
    check_messages(messages)
}

fn check_messages(messages: &[Value]) -> Result<(), String> {
    need(!messages.is_empty(), || "messages: at least one message is required".into())?;
    let (mut open, mut ever) = (Vec::<String>::new(), HashSet::new());
    for (index, message) in messages.iter().enumerate() {
        let role = if index % 2 == 0 { "user" } else { "assistant" };
        need(message["role"] == role, || format!("messages.{index}: role must be {role}"))?;
        let content =
            message["content"].as_array().ok_or(format!("messages.{index}: content must be a list"))?;
        need(!content.is_empty(), || format!("messages.{index}: content must not be empty"))?;
        let results: Vec<_> = content.iter().take_while(|block| block["type"] == "tool_result").collect();
        let answered: Vec<_> =
            results.iter().map(|block| block["tool_use_id"].as_str().unwrap_or("")).collect();
        need(answered == open, || {
            format!(
                "messages.{index}: `tool_use` ids {open:?} need `tool_result` blocks at once, found {answered:?}"
            )
        })?;
        open.clear();
        for block in content {
            check_block(block, role, index)?;
            if block["type"] == "tool_use" {
                let id = block["id"].as_str().unwrap_or_default().to_owned();
                need(ever.insert(id.clone()), || format!("messages.{index}: `tool_use` ids must be unique"))?;
                open.push(id);
            }
        }
    }
    need(open.is_empty(), || "messages: the last calls have no results".into())?;
    let last = messages.last().filter(|message| message["role"] == "assistant");
    let last = last.and_then(|message| message["content"].as_array()?.last()?["text"].as_str());
    need(last.is_none_or(|text| text.trim_end() == text), || "final content ends with white space".into())
}

fn check_block(block: &Value, role: &str, index: usize) -> Result<(), String> {
    let filled = |name: &str| block[name].as_str().is_some_and(|text| !text.trim().is_empty());
    let fits = match (block["type"].as_str(), role) {
        (Some("text"), _) => filled("text"),
        (Some("thinking"), "assistant") => filled("thinking") && filled("signature"),
        (Some("tool_use"), "assistant") => filled("id") && filled("name") && block["input"].is_object(),
        (Some("tool_result"), "user") => {
            filled("tool_use_id") && filled("content") && block["is_error"].is_boolean()
        }
        _ => false,
    };
    need(fits, || format!("messages.{index}: a block of it is not allowed there: {block}"))
}

#[test]
fn the_server_refuses_histories_that_the_api_refuses() {
    let user = json!({"role": "user", "content": [{"type": "text", "text": "hi"}]});
    let call = json!({"type": "tool_use", "id": "a", "name": "t", "input": {}});
    let calling = json!({"role": "assistant", "content": [call]});
    let result = |id: &str| {
        let block = json!({"type": "tool_result", "tool_use_id": id, "content": "1", "is_error": false});
        json!({"role": "user", "content": [block]})
    };
    assert_eq!(check_messages(&[user.clone(), calling.clone(), result("a")]), Ok(()));
    for (wrong, why) in [
        (vec![], "at least one"),
        (vec![calling.clone()], "role must be user"),
        (vec![user.clone(), user.clone()], "role must be assistant"),
        (vec![user.clone(), calling.clone()], "no results"),
        (vec![user.clone(), calling.clone(), user.clone()], "need `tool_result`"),
        (vec![user.clone(), calling.clone(), result("b")], "need `tool_result`"),
        (vec![result("a")], "need `tool_result`"),
        (vec![json!({"role": "user", "content": [{"type": "text", "text": " "}]})], "not allowed"),
        (vec![json!({"role": "user", "content": []})], "must not be empty"),
        (
            vec![user.clone(), json!({"role": "assistant", "content": [{"type": "text", "text": "a "}]})],
            "white space",
        ),
        (vec![user, calling.clone(), result("a"), calling, result("a")], "unique"),
    ] {
        assert!(check_messages(&wrong).unwrap_err().contains(why), "{wrong:?}");
    }
}
