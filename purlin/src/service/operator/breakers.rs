//! The breakers of the process: looking at them, and holding them.

use axum::extract::State;
use serde::Serialize;
use tokio::time::Instant;

use crate::http::{Json, Path, Problem};
use crate::resilience::{BreakerStatus, Forced, Operator};

use super::calls::OperatedCalls;
use super::{Why, not_found};

/// Every breaker of the process.
#[derive(Serialize)]
pub(super) struct List {
    items: Vec<BreakerStatus>,
    next: Option<String>,
}

pub(super) async fn list(State(operated): State<OperatedCalls>) -> Json<List> {
    Json(List { items: operated.calls.breakers().list(Instant::now()), next: None })
}

pub(super) async fn open(state: State<OperatedCalls>, name: Path<String>, why: Why) -> Held {
    hold(&state, &name.0, Some(Forced::Open), &why)
}

pub(super) async fn close(state: State<OperatedCalls>, name: Path<String>, why: Why) -> Held {
    hold(&state, &name.0, Some(Forced::Closed), &why)
}

pub(super) async fn reset(state: State<OperatedCalls>, name: Path<String>, why: Why) -> Held {
    hold(&state, &name.0, None, &why)
}

type Held = Result<Json<BreakerStatus>, Problem>;

fn hold(operated: &OperatedCalls, name: &str, forced: Option<Forced>, why: &Why) -> Held {
    let breaker = operated.calls.breakers().find(name);
    let breaker = breaker.ok_or_else(|| not_found(format!("there is no breaker `{name}` here")))?;
    breaker.force_by(forced, Operator::new("operator", why.0.as_str()));
    tracing::warn!(breaker = name, ?forced, why = ?why.0, "the operator holds a breaker, or lets go");
    Ok(Json(breaker.status(Instant::now())))
}
