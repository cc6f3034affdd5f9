//! What the gateway says itself.

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, Response, StatusCode, Version};
use http_body_util::{Either, Full};
use purlin::http::{PROBLEM_JSON, Problem};
use purlin::resilience::{Limited, Quota};

use crate::core::Refusal;
use crate::upstream::Carried;

/// The body of an answer: ours, or a service's as it comes.
pub(crate) type Body = Either<Full<Bytes>, Carried>;

/// A refusal as an answer: `application/problem+json`, with the trace that is at work.
pub(crate) fn refuse(refusal: &Refusal, instance: &str, method: &Method) -> Response<Body> {
    let mut problem = Problem::new(refusal.status(), refusal.code()).detail(refusal.to_string());
    problem.instance = Some(instance.to_owned());
    if let Some(after) = refusal.retry_after() {
        problem = problem.retry_after(after);
    }
    let body = if *method == Method::HEAD { Bytes::new() } else { problem.render() };
    let mut response = respond(problem.status, body);
    let headers = response.headers_mut();
    headers.extend(problem.headers.clone());
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    match refusal {
        Refusal::Unauthorized { .. } => {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        Refusal::MethodNotAllowed { allow } => {
            headers.extend(HeaderValue::try_from(allow.as_str()).ok().map(|allow| (ALLOW, allow)));
        }
        _ => {}
    }
    response
}

/// Says that the connection ends with this answer, where the protocol has a word for it.
pub(crate) fn close(response: &mut Response<Body>, version: Version) {
    if version < Version::HTTP_2 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Whether nothing more can be read from the connection: its bytes lost their meaning, or too many are to come.
pub(crate) fn ends_connection(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::Malformed(_) | Refusal::BodyTooLarge { .. } | Refusal::BodyBroken | Refusal::BodyTooSlow
    )
}

/// A JSON answer of our own.
pub(crate) fn json(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    let mut response = respond(status, value.to_string().into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn respond(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::new(body)));
    *response.status_mut() = status;
    response
}

/// What is left of a caller's share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    limit: u32,
    remaining: u32,
    /// Whole seconds until it is full again.
    reset: u64,
}

impl From<Quota> for Share {
    fn from(quota: Quota) -> Self {
        let reset = quota.reset_after.as_millis().div_ceil(1000) as u64;
        Self { limit: quota.limit, remaining: quota.remaining, reset }
    }
}

impl From<Limited> for Share {
    fn from(limited: Limited) -> Self {
        let reset = limited.reset_after.as_millis().div_ceil(1000) as u64;
        Self { limit: limited.limit, remaining: 0, reset }
    }
}

impl Share {
    /// The tighter of two.
    pub(crate) fn tighter(self, other: Option<Self>) -> Self {
        other.filter(|other| other.remaining < self.remaining).unwrap_or(self)
    }

    /// Says it in the fields of draft-ietf-httpapi-ratelimit-headers (up to revision 06, which clients know).
    pub(crate) fn write(self, headers: &mut HeaderMap) {
        headers.insert(HeaderName::from_static("ratelimit-limit"), self.limit.into());
        headers.insert(HeaderName::from_static("ratelimit-remaining"), self.remaining.into());
        headers.insert(HeaderName::from_static("ratelimit-reset"), self.reset.into());
    }
}
