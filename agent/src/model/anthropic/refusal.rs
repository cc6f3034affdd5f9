//! What the API says when it gives no answer.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use crate::tool::shortened;

use super::super::ModelError;
use super::exchange::Attempt;

const MAX_MESSAGE: usize = 500;

/// The `error` object of an answer or of a stream.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Refusal {
    #[serde(rename = "type", default)]
    pub(super) code: String,
    #[serde(default)]
    pub(super) message: String,
}

#[derive(Deserialize)]
struct Body {
    error: Refusal,
}

/// What a status other than 200 means. The vendor's header `x-should-retry` has the last word on whether to try again:
/// a spent budget is a 429 too.
pub(super) fn of_status(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Attempt {
    let refusal = serde_json::from_slice::<Body>(body).map(|body| body.error).unwrap_or_default();
    let wait = retry_after(headers);
    let error = error(status.as_u16(), &refusal, wait);
    let again = match headers.get("x-should-retry").map(http::HeaderValue::as_bytes) {
        Some(b"true") => true,
        Some(b"false") => false,
        _ => matches!(status.as_u16(), 408 | 409 | 429 | 500..),
    };
    Attempt { error, again, wait }
}

/// What an `error` event within a stream means, by the status that its type has elsewhere.
pub(super) fn of_event(refusal: &Refusal) -> Attempt {
    let status = match refusal.code.as_str() {
        "rate_limit_error" => 429,
        "authentication_error" => 401,
        "permission_error" => 403,
        "invalid_request_error" => 400,
        "not_found_error" => 404,
        "request_too_large" => 413,
        "overloaded_error" => 529,
        _ => 500,
    };
    Attempt { error: error(status, refusal, None), again: matches!(status, 429 | 500..), wait: None }
}

fn error(status: u16, refusal: &Refusal, retry_after: Option<Duration>) -> ModelError {
    let (code, message) =
        (shortened(&refusal.code, 80).to_owned(), shortened(&refusal.message, MAX_MESSAGE).to_owned());
    match status {
        429 | 503 | 529 => ModelError::Overloaded { retry_after },
        408 | 504 => ModelError::Timeout,
        401..=403 => ModelError::Denied { status, code, message },
        409 | 500.. => {
            let reason = format!("status {status} {code}: {message}");
            ModelError::Unavailable { reason, retry_after, source: None }
        }
        _ => ModelError::Rejected { status, code, message },
    }
}

/// Seconds, or milliseconds in the vendor's own header. A date is not used by this API.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let seconds = number("retry-after-ms").map(|ms| ms / 1000.0).or_else(|| number("retry-after"))?;
    Duration::try_from_secs_f64(seconds).ok()
}
