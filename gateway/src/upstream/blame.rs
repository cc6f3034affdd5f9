//! Whose fault it is that a request failed: what the breaker of a service counts, and what it does not.

use http::{HeaderMap, StatusCode};
use purlin::http::{FAULT_KIND, FAULT_OF};
use purlin::message::FaultKind;

/// The failure that an answer is for the breaker; none: it is an answer.
///
/// 502, 503 and 504 are failures of the service. Not so a 503 that sheds load, of which there is to be less, nor one
/// that says that somebody else is away (`purlin-fault-of`): the service is there, and its other routes need not suffer
/// for that. A 504 to a caller in a hurry tells of his haste. Another 5xx is a bug, which counts neither way: one request
/// that meets a bug, sent often enough, must not close a service to everybody else.
pub(super) fn failure(status: StatusCode, headers: &HeaderMap, hurried: bool) -> Option<FaultKind> {
    let says_overloaded =
        || headers.get(FAULT_KIND).is_some_and(|kind| kind == FaultKind::Overloaded.as_str());
    match status {
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT if headers.contains_key(FAULT_OF) => {
            None
        }
        StatusCode::SERVICE_UNAVAILABLE if says_overloaded() => Some(FaultKind::Overloaded),
        StatusCode::TOO_MANY_REQUESTS => Some(FaultKind::Overloaded),
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => Some(FaultKind::Unavailable),
        StatusCode::GATEWAY_TIMEOUT if hurried => None,
        StatusCode::GATEWAY_TIMEOUT => Some(FaultKind::Timeout),
        status if status.is_server_error() => Some(FaultKind::Bug),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_blamed_for_what_it_could_not_do_itself() {
        let said = |status: u16, headers: &[(&'static str, &'static str)], hurried| {
            let headers = headers.iter().map(|(name, value)| {
                (name.parse::<http::HeaderName>().unwrap(), value.parse::<http::HeaderValue>().unwrap())
            });
            failure(StatusCode::from_u16(status).unwrap(), &headers.collect(), hurried)
        };
        for status in [200, 204, 304, 400, 404, 409, 422] {
            assert_eq!(said(status, &[], false), None, "{status}");
        }
        for status in [502, 503] {
            assert_eq!(said(status, &[], false), Some(FaultKind::Unavailable));
        }
        assert_eq!(said(504, &[], false), Some(FaultKind::Timeout));
        assert_eq!(said(504, &[], true), None, "who gives little time gets little");
        assert_eq!(said(503, &[("purlin-fault-kind", "overloaded")], false), Some(FaultKind::Overloaded));
        assert_eq!(said(429, &[], false), Some(FaultKind::Overloaded));
        for status in [503, 504] {
            assert_eq!(said(status, &[("purlin-fault-of", "another")], false), None);
        }
        for status in [500, 501, 505] {
            assert_eq!(said(status, &[], false), Some(FaultKind::Bug));
        }
    }
}
