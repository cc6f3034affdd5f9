//! What a request came to.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::Value;

use crate::http::{PROBLEM_JSON, Problem};
use crate::store::Commit;
use crate::store::personal::{Personal, Subject};

use super::entry::Answer;

/// The header that tells where in the service's log a write stands.
pub const POSITION: HeaderName = HeaderName::from_static("x-position");

/// The header of an answer that is given again.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// What was decided about a request: the effect and the answer, which become true together.
#[derive(Debug, Clone)]
pub struct Decided {
    /// The effect; empty when there is none.
    pub commit: Commit,
    /// The status of the answer.
    pub status: StatusCode,
    /// Its body; null is no body.
    pub body: Value,
    /// Its headers (`Location`, say).
    pub headers: HeaderMap,
    /// Whom the body is about, if about anybody.
    pub about: Option<Subject>,
}

impl Decided {
    /// An effect, and an answer with a body.
    pub fn new(commit: Commit, status: StatusCode, body: &impl Serialize) -> Result<Self, Problem> {
        let body = serde_json::to_value(body).map_err(|error| {
            tracing::error!(%error, "an answer does not fit JSON");
            Problem::bug()
        })?;
        Ok(Self { commit, status, body, headers: HeaderMap::new(), about: None })
    }

    /// Says that the body is about a subject: it is kept as personal data, and is not given again once the subject is
    /// forgotten.
    pub fn about(self, subject: &Subject) -> Self {
        Self { about: Some(subject.clone()), ..self }
    }

    /// Adds a header to the answer.
    pub fn header(mut self, name: HeaderName, value: impl TryInto<HeaderValue>) -> Result<Self, Problem> {
        let value = value.try_into().map_err(|_| {
            tracing::error!(%name, "an answer's header has a value that no header can have");
            Problem::bug()
        })?;
        self.headers.insert(name, value);
        Ok(self)
    }

    /// The effect, and the answer as it is kept.
    pub(super) fn split(self) -> (Commit, Answer) {
        let body = if self.body.is_null() { Bytes::new() } else { self.body.to_string().into() };
        let content_type = (!self.body.is_null()).then_some("application/json");
        let answer = answer(self.status, content_type, &self.headers, body);
        (self.commit, answer.about(self.about.as_ref()))
    }
}

/// A problem as an answer, rendered once: given again, it names the trace of the first request.
pub(super) fn of_problem(problem: &Problem) -> Answer {
    answer(problem.status, Some(PROBLEM_JSON), &problem.headers, problem.render())
}

fn answer(status: StatusCode, content_type: Option<&str>, headers: &HeaderMap, body: Bytes) -> Answer {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let content_type = content_type.map(|value| ("content-type".to_owned(), value.to_owned()));
    let headers = headers.iter().map(|(name, value)| (name.to_string(), text(value)));
    let headers = content_type.into_iter().chain(headers).collect();
    Answer::new(status.as_u16(), headers, body)
}

impl Answer {
    fn about(self, subject: Option<&Subject>) -> Self {
        match (subject, self.body.get()) {
            (Some(subject), Some(body)) => Self { body: Personal::new(subject, body.clone()), ..self },
            _ => self,
        }
    }
}

/// Whether an answer with this status decides: repeating the request could not come to anything else.
pub(super) fn decides(status: StatusCode) -> bool {
    status.is_success() || matches!(status.as_u16(), 404 | 409 | 422)
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let Some(body) = self.body.into_value() else {
            let problem = Problem::new(StatusCode::GONE, "forgotten");
            return problem.detail("what was answered was about somebody who is forgotten").into_response();
        };
        let mut response = Response::new(body.0.into());
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in &self.headers {
            let name = HeaderName::try_from(name.as_str());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
                response.headers_mut().append(name, value);
            }
        }
        response
    }
}
