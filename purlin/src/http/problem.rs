//! What went wrong, as RFC 9457 says it: `application/problem+json`.

use std::ops::{Deref, DerefMut};
use std::sync::LazyLock;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Map, Value};

use crate::message::{Fault, FaultKind};
use crate::telemetry::{self, RarelyEach};

use super::{ANOTHER, FAULT_KIND, FAULT_OF, exchange};

/// The content type of a problem.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// An error on its way to an HTTP client. Every error that is a [`Fault`] becomes one with `?`.
///
/// ```
/// use purlin::http::Problem;
/// use purlin::message::{Fault, FaultKind};
///
/// #[derive(Debug, thiserror::Error)]
/// #[error("cannot submit an empty order")]
/// struct EmptyOrder;
/// impl Fault for EmptyOrder {
///     fn kind(&self) -> FaultKind { FaultKind::Conflict }
///     fn code(&self) -> &str { "empty-order" }
/// }
///
/// let problem = Problem::from(EmptyOrder);
/// assert_eq!((problem.status.as_u16(), &*problem.type_), (409, "/problems/empty-order"));
/// ```
#[derive(Debug, Clone)]
pub struct Problem(Box<Particulars>);

/// What a [`Problem`] says; read and changed through the problem itself.
#[derive(Debug, Clone)]
pub struct Particulars {
    /// Which problem this is, relative: `/problems/empty-order`.
    pub type_: String,
    /// The same in a few words, alike at every occurrence.
    pub title: String,
    /// The status of the answer.
    pub status: StatusCode,
    /// What went wrong this time, and what to do about it.
    pub detail: Option<String>,
    /// Where; the path of the request unless said otherwise.
    pub instance: Option<String>,
    /// Further members (`field`, say).
    pub extra: Map<String, Value>,
    /// Further headers (`Retry-After`, say).
    pub headers: HeaderMap,
}

impl Problem {
    /// A problem of the type `/problems/<code>`, titled after its code.
    pub fn new(status: StatusCode, code: &str) -> Self {
        Self(Box::new(Particulars {
            type_: format!("/problems/{code}"),
            title: title_of(code),
            status,
            detail: None,
            instance: None,
            extra: Map::new(),
            headers: HeaderMap::new(),
        }))
    }

    /// A problem that says no more than its status.
    pub fn of_status(status: StatusCode) -> Self {
        let reason = status.canonical_reason().unwrap_or("Unknown status");
        let code: String =
            reason.to_lowercase().split(|c: char| !c.is_alphanumeric()).collect::<Vec<_>>().join("-");
        Self::new(status, &code)
    }

    /// The problem of an error: the one table from kinds to statuses.
    ///
    /// What a `Bug` says is logged and not told.
    pub fn from_fault(fault: &dyn Fault) -> Self {
        let status = status_of(fault.kind());
        let problem = Self::new(status, fault.code());
        // Who is told never to come again is not told when.
        let after = fault.retry_after().filter(|after| *after < Duration::MAX);
        let problem = after.into_iter().fold(problem, Self::retry_after);
        let problem = match fault.is_of_another() {
            true => problem.header(FAULT_OF, HeaderValue::from_static(ANOTHER)),
            false => problem,
        };
        match fault.kind() {
            FaultKind::Bug => {
                tracing::error!(error = %chain(fault), "a request met a bug");
                Self::bug()
            }
            FaultKind::Unavailable | FaultKind::Timeout => {
                unanswered(fault);
                problem.detail(fault.to_string())
            }
            FaultKind::Overloaded => {
                let after = after.unwrap_or(Duration::from_secs(1));
                // The status is that of one who is down as well.
                let kind = HeaderValue::from_static(FaultKind::Overloaded.as_str());
                problem.detail(fault.to_string()).retry_after(after).header(FAULT_KIND, kind)
            }
            FaultKind::Rejected | FaultKind::NotFound | FaultKind::Conflict => {
                problem.detail(fault.to_string())
            }
        }
    }

    /// The problem of somebody whom we asked and cannot do without: as [`Problem::from_fault`], and says that it is not we
    /// who failed (`purlin-fault-of`), if it is for now. Whoever stands in front of us then goes on asking for all else.
    #[expect(clippy::needless_pass_by_value, reason = "so it stands in a `map_err`, as `From` does")]
    pub fn of_another(fault: impl Fault) -> Self {
        let problem = Self::from_fault(&fault);
        match fault.kind().is_transient() {
            true => problem.header(FAULT_OF, HeaderValue::from_static(ANOTHER)),
            false => problem,
        }
    }

    /// Something that must never happen did; the client learns nothing but the trace to ask about.
    pub fn bug() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal-error")
            .detail("something went wrong that should not have; the logs of this trace say what")
    }

    /// Says what went wrong this time.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds a member.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(name.to_owned(), value.into());
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Says when to try again, in whole seconds and at least one.
    pub fn retry_after(self, after: Duration) -> Self {
        let seconds = after.as_millis().div_ceil(1000).max(1);
        let value = HeaderValue::from_str(&seconds.to_string()).expect("digits are a header value");
        self.header(header::RETRY_AFTER, value)
    }

    /// The body: JSON, with the trace that is at work as `trace_id`.
    pub fn render(&self) -> Bytes {
        let mut members = Map::new();
        members.insert("type".into(), self.type_.as_str().into());
        members.insert("title".into(), self.title.as_str().into());
        members.insert("status".into(), self.status.as_u16().into());
        members.insert("detail".into(), self.detail.clone().unwrap_or_else(|| self.title.clone()).into());
        let instance = self.instance.clone().or_else(|| exchange::current().map(|exchange| exchange.path));
        members.insert("instance".into(), instance.into());
        members.insert("trace_id".into(), telemetry::current().map(|trace| trace.trace_id_hex()).into());
        for (name, value) in &self.extra {
            members.entry(name.clone()).or_insert_with(|| value.clone());
        }
        Value::Object(members).to_string().into()
    }
}

impl Deref for Problem {
    type Target = Particulars;

    fn deref(&self) -> &Particulars {
        &self.0
    }
}

impl DerefMut for Problem {
    fn deref_mut(&mut self) -> &mut Particulars {
        &mut self.0
    }
}

impl<E: Fault> From<E> for Problem {
    fn from(fault: E) -> Self {
        Self::from_fault(&fault)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let content_type = [(header::CONTENT_TYPE, PROBLEM_JSON)];
        (self.status, content_type, self.headers.clone(), self.render()).into_response()
    }
}

/// The status that tells a kind of failure.
pub fn status_of(kind: FaultKind) -> StatusCode {
    match kind {
        FaultKind::Rejected => StatusCode::UNPROCESSABLE_ENTITY,
        FaultKind::NotFound => StatusCode::NOT_FOUND,
        FaultKind::Conflict => StatusCode::CONFLICT,
        FaultKind::Unavailable | FaultKind::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
        FaultKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        FaultKind::Bug => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// While a callee is away every request that needs it fails alike: one line in a while says of all of them.
#[cold]
fn unanswered(fault: &dyn Fault) {
    static WARNING: LazyLock<RarelyEach> = LazyLock::new(|| RarelyEach::every(Duration::from_secs(1)));
    let service = telemetry::service::current();
    match WARNING.due(&format!("{} {}", service.as_deref().unwrap_or_default(), fault.code())) {
        Some(more) => tracing::warn!(error = %chain(fault), more, "a request could not be answered"),
        None => tracing::debug!(error = %chain(fault), "a request could not be answered"),
    }
}

/// An error and all that caused it, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// `empty-order` as `Empty order`.
fn title_of(code: &str) -> String {
    let mut title = code.replace('-', " ");
    if let Some(first) = title.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    title
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::UpdateError;
    use crate::message::Refusal;
    use crate::resilience::{Breaker, BreakerConfig, CallError, Forced, Full};
    use crate::store::CommitError;

    #[test]
    fn what_comes_of_no_call_is_the_callees_fault() {
        let says = |error: CallError<Refusal>| {
            let of_another = error.is_of_another();
            assert_eq!(Problem::from(error).headers.contains_key(FAULT_OF), of_another);
            of_another
        };
        let failed = |kind| CallError::Failed(Refusal::new(kind, "no", "it does not"));
        for kind in [FaultKind::Unavailable, FaultKind::Overloaded, FaultKind::Timeout] {
            assert!(says(failed(kind)), "{kind}");
        }
        for kind in [FaultKind::Rejected, FaultKind::NotFound, FaultKind::Conflict, FaultKind::Bug] {
            assert!(!says(failed(kind)), "what it refuses is an answer, and ours to give: {kind}");
        }
        let breaker = Breaker::new("callee", BreakerConfig::default());
        breaker.force(Some(Forced::Open));
        assert!(says(breaker.enter().unwrap_err().into()));
        assert!(says(Full.into()) && says(CallError::DeadlineExceeded));
        let update = UpdateError::Refused(failed(FaultKind::Unavailable));
        assert!(update.is_of_another(), "also from within a decision");
    }

    #[test]
    fn a_bug_keeps_its_cause_to_itself() {
        let problem = Problem::from(CommitError::Invalid("the password was hunter2".into()));
        assert_eq!(problem.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!String::from_utf8(problem.render().to_vec()).unwrap().contains("hunter2"));
    }

    #[test]
    fn an_overload_says_when_to_come_back() {
        let problem = Problem::from(CommitError::Overloaded);
        assert_eq!(problem.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(problem.headers[header::RETRY_AFTER], "1");
    }

    #[test]
    fn whoever_fails_because_of_another_says_so() {
        let of = |problem: Problem| problem.headers.get(FAULT_OF).is_some();
        let away = || Refusal::new(FaultKind::Unavailable, "unavailable", "the callee is away");
        assert!(!of(Problem::from(away())), "nobody knows whose fault it is, so it is ours");
        assert!(of(Problem::of_another(away())));
        let no = Refusal::new(FaultKind::NotFound, "not-found", "there is none");
        assert!(!of(Problem::of_another(no)), "a refusal is an answer");
        let remote = |fault: &dyn Fault| {
            let status = super::super::grpc::status_from_fault(fault);
            Problem::from(super::super::grpc::fault_from_status(&status))
        };
        assert!(of(remote(&CommitError::Overloaded)), "what came over a line is another's");
        assert!(!of(Problem::from(CommitError::Overloaded)));
    }

    #[tokio::test]
    async fn the_body_names_the_trace_at_work() {
        let trace = crate::message::TraceContext::root();
        let body = telemetry::in_trace(trace, async { Problem::bug().render() }).await;
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["trace_id"], trace.trace_id_hex());
        assert_eq!(body["type"], "/problems/internal-error");
        assert_eq!(body["status"], 500);
    }

    #[test]
    fn a_status_alone_has_a_type_and_a_title() {
        let problem = Problem::of_status(StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(
            (&*problem.type_, &*problem.title),
            ("/problems/method-not-allowed", "Method not allowed")
        );
    }
}
