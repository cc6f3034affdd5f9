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

/// What the configuration of a process says now: read and checked, and not in force yet.
pub struct Reread {
    policies: Policies,
    rest: Option<Box<dyn FnOnce() -> Vec<String> + Send>>,
}

impl Reread {
    /// Policies, and something else that is read again with them: `apply` puts it in force once all is read, and names what
    /// of it is another now.
    pub fn with(policies: Policies, apply: impl FnOnce() -> Vec<String> + Send + 'static) -> Self {
        Self { policies, rest: Some(Box::new(apply)) }
    }
}

impl From<Policies> for Reread {
    fn from(policies: Policies) -> Self {
        Self { policies, rest: None }
    }
}

impl fmt::Debug for Reread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reread").field("policies", &self.policies).finish_non_exhaustive()
    }
}

/// Reads the policies again; what is wrong with them is told to the operator.
type Read = Arc<dyn Fn() -> Result<Reread, Box<dyn Error + Send + Sync>> + Send + Sync>;

/// The calls of a process, for its operator.
#[derive(Clone)]
pub struct OperatedCalls {
    pub(super) calls: Calls,
    reread: Read,
}

impl OperatedCalls {
    /// These calls; `reread` reads their policies again, from the file that they came from, and with them what else
    /// ([`Reread`]) is to be read again.
    pub fn new<R, E>(calls: &Calls, reread: impl Fn() -> Result<R, E> + Send + Sync + 'static) -> Self
    where
        R: Into<Reread>,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let reread = move || reread().map(Into::into).map_err(Into::into);
        Self { calls: calls.clone(), reread: Arc::new(reread) }
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
    let Reread { policies, rest } = (operated.reread)().map_err(|error| {
        let mut detail = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            detail += &format!(": {error}");
            cause = error.source();
        }
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-policies").detail(detail)
    })?;
    let changed = operated.calls.reload(policies);
    let also = rest.map(|apply| apply());
    tracing::info!(?changed, ?also, "the policies of calls were read again");
    let mut answer = json!({ "changed": changed.iter().map(|callee| &**callee).collect::<Vec<_>>() });
    if let Some(also) = also {
        answer["also"] = also.into();
    }
    Ok(Json(answer))
}
