//! What the assistant answers to customers: at once as JSON, or bit by bit as an event stream.

use std::convert::Infallible;

use axum::Router;
use axum::extract::State;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures_util::{Stream, StreamExt as _, stream};
use http::{HeaderMap, header};
use purlin::http::{Json, Problem};
use purlin::telemetry;
use purlin_agent::machine::Step;
use purlin_agent::run::{Event, Events};
use serde::{Deserialize, Serialize};

use super::Assistant;
use super::tools::Authority;
use crate::contracts::who::{Known, bearer, unauthorized};

/// The routes of the assistant.
pub fn router(assistant: Assistant) -> Router {
    Router::new().route("/assistant", post(answer)).with_state(assistant)
}

#[derive(Debug, Deserialize)]
struct Question {
    prompt: String,
}

#[derive(Debug, Serialize)]
struct Answered {
    result: String,
    steps: Vec<Step>,
}

async fn answer(
    State(assistant): State<Assistant>,
    _: Known,
    headers: HeaderMap,
    Json(question): Json<Question>,
) -> Result<Response, Problem> {
    let token = bearer(&headers).ok_or_else(|| unauthorized("the request has no bearer token"))?.to_owned();
    let authority = Authority { token, orders: assistant.orders.clone() };
    if wants_stream(&headers) {
        // Once the stream has begun, the answer is 200.
        assistant.agent.check(&question.prompt)?;
        let events = assistant.agent.events(question.prompt, authority);
        return Ok(Sse::new(sent(events)).keep_alive(KeepAlive::default()).into_response());
    }
    // What the model cannot do is not the assistant's fault.
    let finished = assistant.agent.run(question.prompt, authority).await.map_err(Problem::of_another)?;
    Ok(Json(Answered { result: finished.result, steps: finished.steps }).into_response())
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| kind.trim().starts_with("text/event-stream"))
}

/// The events as they are sent. The run goes on while they are read, so it is given the request's trace here.
fn sent(events: Events) -> impl Stream<Item = Result<Sent, Infallible>> {
    let trace = telemetry::current();
    stream::unfold(events, move |mut events| async move {
        let next = async { events.next().await };
        let event = match trace {
            Some(trace) => telemetry::in_trace(trace, next).await,
            None => next.await,
        }?;
        Some((Ok(told(&event)), events))
    })
}

fn told(event: &Event) -> Sent {
    let sent = Sent::default().event(event.name());
    sent.json_data(event).unwrap_or_else(|_| Sent::default().event("failed").data("{}"))
}
