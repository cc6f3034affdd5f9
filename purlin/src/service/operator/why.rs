//! Why an operator does something, which he may say.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use http::StatusCode;
use serde::Deserialize;

use crate::http::{Json, Problem};

/// The reason in a body `{"reason": ".."}` that need not be there: up to 500 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why(pub String);

/// The longest reason, in characters: it stands in each line that tells of what was done.
const LONGEST: usize = 500;

/// The largest body that may hold it, in bytes.
const LIMIT: usize = 16 << 10;

#[derive(Deserialize)]
struct Said {
    reason: Option<String>,
}

impl<S: Send + Sync> FromRequest<S> for Why {
    type Rejection = Problem;

    async fn from_request(request: Request<Body>, state: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, LIMIT).await.map_err(|_| too_long())?;
        if body.is_empty() {
            return Ok(Self::of(None));
        }
        let request = Request::from_parts(parts, Body::from(body));
        let Json(Said { reason }) = Json::from_request(request, state).await?;
        match reason {
            Some(reason) if reason.chars().count() > LONGEST => Err(too_long()),
            reason => Ok(Self::of(reason)),
        }
    }
}

impl Why {
    fn of(reason: Option<String>) -> Self {
        let reason = reason.filter(|reason| !reason.trim().is_empty());
        Self(reason.unwrap_or_else(|| "no reason given".to_owned()))
    }
}

fn too_long() -> Problem {
    let detail = format!("`reason` has at most {LONGEST} characters");
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-body").detail(detail)
}
