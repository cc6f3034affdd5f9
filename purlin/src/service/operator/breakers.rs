//! The breakers of the process: looking at them, and holding them.

use axum::extract::State;
use serde::Serialize;
use tokio::time::Instant;

use crate::http::{Json, Path, Problem};
use crate::resilience::{BreakerStatus, Forced};

use super::calls::OperatedCalls;
use super::not_found;

/// Every breaker of the process.
#[derive(Serialize)]
pub(super) struct List {
    items: Vec<BreakerStatus>,
    next: Option<String>,
}

pub(super) async fn list(State(operated): State<OperatedCalls>) -> Json<List> {
    Json(List { items: operated.calls.breakers().list(Instant::now()), next: None })
}

pub(super) async fn open(state: State<OperatedCalls>, name: Path<String>) -> Held {
    hold(&state, &name.0, Some(Forced::Open))
}

pub(super) async fn close(state: State<OperatedCalls>, name: Path<String>) -> Held {
    hold(&state, &name.0, Some(Forced::Closed))
}

pub(super) async fn reset(state: State<OperatedCalls>, name: Path<String>) -> Held {
    hold(&state, &name.0, None)
}

type Held = Result<Json<BreakerStatus>, Problem>;

fn hold(operated: &OperatedCalls, name: &str, forced: Option<Forced>) -> Held {
    let breaker = operated.calls.breakers().find(name);
    let breaker = breaker.ok_or_else(|| not_found(format!("there is no breaker `{name}` here")))?;
    breaker.force(forced);
    tracing::warn!(breaker = name, ?forced, "the operator holds a breaker, or lets go");
    Ok(Json(breaker.status(Instant::now())))
}
