//! Whose fault it is that a request failed: what the breaker of a service counts, and what it does not.

use http::{HeaderMap, StatusCode};
use purlin::http::{ANOTHER, FAULT_KIND, FAULT_OF};
use purlin::message::FaultKind;

/// What an answer says about the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tells {
    /// It is there.
    Good,
    /// Nothing: its caller gave it too little time.
    Haste,
    /// It could not, in this way; which of these count the breaker knows.
    Failure(FaultKind),
}

/// What an answer says about the service.
///
/// 502, 503 and 504 are failures of the service. Not so a 503 that sheds load, of which there is to be less, nor one
/// that says that somebody else is away (`purlin-fault-of`): the service is there, and its other routes need not suffer
/// for that. A 504 to a caller in a hurry tells of his haste, and nothing else, whoever was too slow for him: anybody may
/// give as little time as he likes, and must be able neither to open a breaker by it nor to keep one closed. Another 5xx is
/// a bug, which counts neither way: one request that meets a bug, sent often enough, must not close a service to everybody
/// else.
pub(super) fn tells(status: StatusCode, headers: &HeaderMap, hurried: bool) -> Tells {
    let is = |name, value| headers.get(name).is_some_and(|said| said == value);
    match status {
        StatusCode::GATEWAY_TIMEOUT if hurried => Tells::Haste,
        StatusCode::TOO_MANY_REQUESTS => Tells::Failure(FaultKind::Overloaded),
        StatusCode::SERVICE_UNAVAILABLE if is(FAULT_KIND, FaultKind::Overloaded.as_str()) => {
            Tells::Failure(FaultKind::Overloaded)
        }
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
            if is(FAULT_OF, ANOTHER) =>
        {
            Tells::Good
        }
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => Tells::Failure(FaultKind::Unavailable),
        StatusCode::GATEWAY_TIMEOUT => Tells::Failure(FaultKind::Timeout),
        status if status.is_server_error() => Tells::Failure(FaultKind::Bug),
        _ => Tells::Good,
    }
}

/// How far a request had come when its connection broke without an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Broken {
    /// Whether the service took anything of it.
    pub(super) begun: bool,
    /// Whether it has a body.
    pub(super) body: bool,
    /// Whether the connection has taken all of that.
    pub(super) over: bool,
    /// Whether the connection broke while we wrote, and not while we waited for the answer.
    pub(super) cut: bool,
}

impl Broken {
    /// Whether the service may have refused it, in an answer that was lost: it need not read the rest of a body that it does
    /// not want, and what it says can be lost when it closes while we write. Who has nothing of a request refuses nothing,
    /// and where there is no body there is no rest.
    pub(super) fn may_be_refused(self) -> bool {
        self.begun && self.body && (self.cut || !self.over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_body_of_which_the_service_has_the_beginning_and_not_the_end_may_be_refused_unheard() {
        for [begun, body, over, cut] in (0..16).map(|bits| [1, 2, 4, 8].map(|bit| bits & bit != 0)) {
            let broken = Broken { begun, body, over, cut };
            let may_be = match broken {
                Broken { begun: false, .. } | Broken { body: false, .. } => false,
                Broken { over: false, .. } | Broken { cut: true, .. } => true,
                Broken { .. } => false,
            };
            assert_eq!(broken.may_be_refused(), may_be, "{broken:?}");
        }
    }

    #[test]
    fn a_service_is_blamed_for_what_it_could_not_do_itself() {
        let said = |status: u16, headers: &[(&'static str, &'static str)], hurried| {
            let headers = headers.iter().map(|(name, value)| {
                (name.parse::<http::HeaderName>().unwrap(), value.parse::<http::HeaderValue>().unwrap())
            });
            tells(StatusCode::from_u16(status).unwrap(), &headers.collect(), hurried)
        };
        let another = [("purlin-fault-of", "another")];
        let overloaded = Tells::Failure(FaultKind::Overloaded);
        for status in [200, 204, 304, 400, 404, 409, 422] {
            assert_eq!(said(status, &[], false), Tells::Good, "{status}");
        }
        for status in [502, 503] {
            assert_eq!(said(status, &[], false), Tells::Failure(FaultKind::Unavailable));
        }
        assert_eq!(said(504, &[], false), Tells::Failure(FaultKind::Timeout));
        assert_eq!(said(504, &[], true), Tells::Haste, "who gives little time gets little");
        assert_eq!(said(504, &another, true), Tells::Haste, "also of those whom the service asks");
        assert_eq!(said(503, &[("purlin-fault-kind", "overloaded")], false), overloaded);
        assert_eq!(said(503, &[("purlin-fault-kind", "overloaded"), another[0]], false), overloaded);
        assert_eq!(said(429, &[], false), overloaded);
        for status in [502, 503, 504] {
            assert_eq!(said(status, &another, false), Tells::Good);
        }
        assert_eq!(said(503, &[("purlin-fault-of", "me")], false), Tells::Failure(FaultKind::Unavailable));
        for status in [500, 501, 505] {
            assert_eq!(said(status, &another, false), Tells::Failure(FaultKind::Bug));
        }
    }
}
