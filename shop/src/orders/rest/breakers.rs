//! The breakers of the process that has the orders, for administrators to look at and to hold.
//!
//! Those of a role in a process apart are not among them: they are reached on its operator's socket
//! (`purlin --data <data>/<role> breakers`).

use axum::Json as Answer;
use axum::extract::State;
use http::StatusCode;
use purlin::http::{Path, Problem};
use purlin::resilience::{BreakerStatus, Forced, Operator};
use purlin::service::operator::Why;
use serde::Serialize;
use tokio::time::Instant;

use super::super::Orders;
use crate::contracts::who::Admin;

/// Every breaker of the process.
#[derive(Debug, Serialize)]
pub(super) struct BreakerList {
    items: Vec<BreakerStatus>,
    next: Option<String>,
}

pub(super) async fn list(State(orders): State<Orders>, _: Admin) -> Answer<BreakerList> {
    Answer(BreakerList { items: orders.breakers.list(Instant::now()), next: None })
}

/// Refuses calls from now on, however healthy the callee is.
pub(super) async fn open(state: State<Orders>, admin: Admin, name: Path<String>, why: Why) -> Held {
    hold(&state, &admin, &name.0, Some(Forced::Open), &why)
}

/// Lets calls through from now on, however sick the callee is.
pub(super) async fn close(state: State<Orders>, admin: Admin, name: Path<String>, why: Why) -> Held {
    hold(&state, &admin, &name.0, Some(Forced::Closed), &why)
}

/// Lets the breaker decide again, beginning closed.
pub(super) async fn reset(state: State<Orders>, admin: Admin, name: Path<String>, why: Why) -> Held {
    hold(&state, &admin, &name.0, None, &why)
}

type Held = Result<Answer<BreakerStatus>, Problem>;

fn hold(orders: &Orders, admin: &Admin, name: &str, forced: Option<Forced>, why: &Why) -> Held {
    let none = || {
        let detail = format!("there is no breaker `{name}`: `GET /admin/breakers` lists them");
        Problem::new(StatusCode::NOT_FOUND, "not-found").detail(detail)
    };
    let breaker = orders.breakers.find(name).ok_or_else(none)?;
    breaker.force_by(forced, Operator::new(format!("administrator {}", admin.0.id), why.0.as_str()));
    tracing::warn!(breaker = name, ?forced, administrator = %admin.0.id, why = ?why.0, "an administrator holds a breaker, or lets go");
    Ok(Answer(breaker.status(Instant::now())))
}
