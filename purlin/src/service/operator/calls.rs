//! How the process calls others: the policies in force, how each way stands, and reading the policies again.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

use crate::http::{Json, Problem};
use crate::resilience::{Calls, LineStatus, Policies, PolicyInForce};

/// Reads the policies again; what is wrong with them is told to the operator.
type Reread = Arc<dyn Fn() -> Result<Policies, Box<dyn Error + Send + Sync>> + Send + Sync>;

/// The calls of a process, for its operator.
#[derive(Clone)]
pub struct OperatedCalls {
    pub(super) calls: Calls,
    reread: Reread,
}

impl OperatedCalls {
    /// These calls; `reread` reads their policies again, from the file that they came from.
    pub fn new<E>(calls: &Calls, reread: impl Fn() -> Result<Policies, E> + Send + Sync + 'static) -> Self
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        Self { calls: calls.clone(), reread: Arc::new(move || reread().map_err(Into::into)) }
    }
}

impl fmt::Debug for OperatedCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperatedCalls").field("calls", &self.calls).finish_non_exhaustive()
    }
}

/// The policies of all callees, and how the ways to those that were called stand.
#[derive(Serialize)]
pub(super) struct Shown {
    policies: Vec<PolicyInForce>,
    lines: Vec<LineStatus>,
}

pub(super) async fn show(State(operated): State<OperatedCalls>) -> Json<Shown> {
    Json(Shown { policies: operated.calls.in_force(), lines: operated.calls.status() })
}

pub(super) async fn reload(State(operated): State<OperatedCalls>) -> Result<Json<Value>, Problem> {
    let policies = (operated.reread)().map_err(|error| {
        let mut detail = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            detail += &format!(": {error}");
            cause = error.source();
        }
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-policies").detail(detail)
    })?;
    let changed = operated.calls.reload(policies);
    tracing::info!(?changed, "the policies of calls were read again");
    Ok(Json(json!({ "changed": changed.iter().map(|callee| &**callee).collect::<Vec<_>>() })))
}
