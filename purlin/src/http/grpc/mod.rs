//! The same over gRPC: faults as statuses and back, and what travels along with a call.
//!
//! A callee turns its error into a [`Status`] that says its kind, code and message; the caller gets all three
//! back as a [`RemoteFault`], and whether it was he who failed, or somebody whom he asked. A request carries the trace, the deadline and, if it writes, its key.
//!
//! ```
//! use purlin::http::grpc;
//! use purlin::message::{Fault, FaultKind};
//!
//! #[derive(Debug, thiserror::Error)]
//! #[error("only 2 are left")]
//! struct TooFew;
//! impl Fault for TooFew {
//!     fn kind(&self) -> FaultKind { FaultKind::Conflict }
//!     fn code(&self) -> &str { "product-unavailable" }
//! }
//!
//! let fault = grpc::fault_from_status(&grpc::status_from_fault(&TooFew));
//! assert_eq!((fault.kind(), fault.code()), (FaultKind::Conflict, "product-unavailable"));
//! assert_eq!(fault.to_string(), "only 2 are left");
//! ```

mod retry_info;

use std::time::Duration;

use http::{HeaderMap, header};
use prost::Message;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::{Code, Request, Response, Status};

use crate::message::{Fault, FaultKind};
use crate::resilience::{Criticality, Deadline, criticality, deadline};
use crate::store::Commit;
use crate::telemetry;

use super::ANOTHER;
use super::idempotency::{Attempt, Done, Idempotency, Key};
use super::problem::chain;

const KIND: &str = "purlin-fault-kind";
const OF: &str = "purlin-fault-of";
const CODE: &str = "purlin-fault-code";
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const TIMEOUT: &str = "grpc-timeout";
/// How long we ourselves wait, which one of ours hears as well: no deadline grows on its way down.
const MILLIS: &str = "x-request-timeout-ms";
/// How much longer than we ourselves wait a call is told to take.
const SLACK: Duration = Duration::from_millis(2);
/// When to try again, in milliseconds; less than 0 is: never (gRFC A6).
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// What a callee answered instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RemoteFault {
    kind: FaultKind,
    code: String,
    message: String,
    passed_on: bool,
    retry_after: Option<Duration>,
}

impl Fault for RemoteFault {
    fn kind(&self) -> FaultKind {
        self.kind
    }

    fn code(&self) -> &str {
        &self.code
    }

    fn is_of_another(&self) -> bool {
        self.kind.is_transient()
    }

    fn is_passed_on(&self) -> bool {
        self.passed_on
    }

    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

/// The status that tells of an error. What a `Bug` says is logged and not told.
pub fn status_from_fault(fault: &dyn Fault) -> Status {
    let kind = fault.kind();
    let message = if kind == FaultKind::Bug {
        tracing::error!(error = %chain(fault), "a call met a bug");
        "something went wrong that should not have; the logs of this trace say what".to_owned()
    } else {
        fault.to_string()
    };
    let details = fault.retry_after().map(|after| retry_info::encode(code_of(kind), &message, after));
    let mut status = Status::with_details(code_of(kind), message, details.unwrap_or_default());
    if let Some(after) = fault.retry_after() {
        let millis = i64::try_from(after.as_millis()).unwrap_or(-1);
        status.metadata_mut().insert(PUSHBACK, millis.into());
    }
    status.metadata_mut().insert(KIND, MetadataValue::from_static(kind.as_str()));
    if kind.is_transient() && fault.is_of_another() {
        status.metadata_mut().insert(OF, MetadataValue::from_static(ANOTHER));
    }
    if let Ok(code) = fault.code().parse::<MetadataValue<Ascii>>() {
        status.metadata_mut().insert(CODE, code);
    }
    status
}

/// The error that a status tells of; of a callee that is not ours, what its code says.
pub fn fault_from_status(status: &Status) -> RemoteFault {
    let text = |name| status.metadata().get(name).and_then(|value| value.to_str().ok());
    let kind = text(KIND).and_then(kind_named).unwrap_or_else(|| match is_expired(status) {
        true => FaultKind::Timeout,
        false => kind_of(status.code()),
    });
    let code = text(CODE).unwrap_or(kind.as_str()).to_owned();
    let passed_on = kind.is_transient() && text(OF) == Some(ANOTHER);
    let message = status.message().to_owned();
    RemoteFault { kind, code, message, passed_on, retry_after: retry_after(status) }
}

/// Whether tonic, ours or the callee's, ended the call by its `grpc-timeout`.
fn is_expired(status: &Status) -> bool {
    status.code() == Code::Cancelled && status.message() == "Timeout expired"
}

/// When whoever answered asks to be tried again: by `grpc-retry-pushback-ms`, or by a `google.rpc.RetryInfo`.
fn retry_after(status: &Status) -> Option<Duration> {
    let Some(pushback) = status.metadata().get(PUSHBACK) else { return retry_info::decode(status.details()) };
    let millis: i64 = pushback.to_str().ok()?.parse().ok()?;
    Some(u64::try_from(millis).map_or(Duration::MAX, Duration::from_millis))
}

/// A request that carries the trace, deadline and criticality at work, and a key if it writes.
pub fn request<T>(message: T, key: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    inject(request.metadata_mut());
    if let Some(key) = key.and_then(|key| key.parse::<MetadataValue<Ascii>>().ok()) {
        request.metadata_mut().insert(IDEMPOTENCY_KEY, key);
    }
    request
}

/// Writes the trace, the deadline and the criticality at work into a call's metadata.
pub fn inject(metadata: &mut MetadataMap) {
    let trace = telemetry::current().map(|trace| trace.child().to_string());
    if let Some(trace) = trace.and_then(|trace| trace.parse().ok()) {
        metadata.insert("traceparent", trace);
    }
    if let Some(remaining) = deadline::current().map(Deadline::remaining) {
        let (timeout, millis) = (timeout_value(remaining), remaining.as_millis().to_string());
        for (name, value) in [(TIMEOUT, timeout), (MILLIS, millis)] {
            metadata.insert(name, value.parse().expect("digits and a unit are ASCII"));
        }
    }
    let class = criticality::current();
    if class != Criticality::default() {
        metadata.insert(criticality::HEADER, MetadataValue::from_static(class.as_str()));
    }
}

/// The key of a call.
pub fn idempotency_key<T>(request: &Request<T>) -> Option<&str> {
    request.metadata().get(IDEMPOTENCY_KEY).and_then(|key| key.to_str().ok())
}

/// Answers a call that writes: with a key, once. As [`Idempotency::once`]; `method` keeps one key from serving two.
pub async fn once<Asked, Answer, E, F, Fut>(
    idempotency: &Idempotency,
    caller: &str,
    method: &str,
    request: &Request<Asked>,
    work: F,
) -> Result<Response<Answer>, Status>
where
    Asked: Message,
    Answer: Message + Default,
    E: Fault,
    F: Fn(Attempt) -> Fut,
    Fut: Future<Output = Result<(Commit, Answer), E>>,
{
    let content = [method.as_bytes(), b"\0", &request.get_ref().encode_to_vec()].concat();
    // Without a key of the caller's, one that nobody else has: the effect is the same, and nothing is found again.
    let fresh = crate::message::new_id().to_string();
    let key = Key { caller, key: idempotency_key(request).unwrap_or(&fresh), content: &content };
    let work = |attempt| {
        let work = work(attempt);
        async { work.await.map(|(commit, answer)| Done { commit, answer: answer.encode_to_vec().into() }) }
    };
    let once = idempotency.once(key, work).await.map_err(|error| status_from_fault(&error))?;
    decode(&once.answer).map(Response::new)
}

/// Answers a call that takes back what was done under its key. As [`Idempotency::undo`]; the call must have a key.
pub async fn undo<Asked, Done_, Answer, E, F, Fut>(
    idempotency: &Idempotency,
    caller: &str,
    request: &Request<Asked>,
    work: F,
) -> Result<Response<Answer>, Status>
where
    Done_: Message + Default,
    Answer: Message + Default,
    E: Fault,
    F: Fn(Attempt, Option<Done_>) -> Fut,
    Fut: Future<Output = Result<(Commit, Answer), E>>,
{
    let Some(key) = idempotency_key(request) else {
        return Err(Status::invalid_argument(
            "what is to be undone is named by the metadata `idempotency-key`",
        ));
    };
    let work = |attempt, answer: Option<bytes::Bytes>| {
        let work = work(attempt, answer.and_then(|answer| Done_::decode(answer).ok()));
        async { work.await.map(|(commit, answer)| Done { commit, answer: answer.encode_to_vec().into() }) }
    };
    let key = Key { caller, key, content: &[] };
    let once = idempotency.undo(key, work).await.map_err(|error| status_from_fault(&error))?;
    decode(&once.answer).map(Response::new)
}

fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, Status> {
    M::decode(bytes).map_err(|error| {
        tracing::error!(%error, "a kept answer is not of the type that the method answers");
        Status::internal("a kept answer cannot be read")
    })
}

/// Whether a request is a gRPC call.
pub(in crate::http) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// How long a call's `grpc-timeout` gives.
pub(in crate::http) fn timeout_of(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(3600 * number),
        "M" => Duration::from_secs(60 * number),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The value has at most eight digits: milliseconds for a day, then seconds. It is rounded up, and a little more: a client
/// such as tonic's ends a call by it, and must not do so before we do, who know why.
fn timeout_value(timeout: Duration) -> String {
    match timeout.saturating_add(SLACK).as_nanos().div_ceil(1_000_000) {
        millis @ ..100_000_000 => format!("{millis}m"),
        _ => format!("{}S", timeout.as_secs().saturating_add(1).min(99_999_999)),
    }
}

fn code_of(kind: FaultKind) -> Code {
    match kind {
        FaultKind::Rejected => Code::InvalidArgument,
        FaultKind::NotFound => Code::NotFound,
        FaultKind::Conflict => Code::FailedPrecondition,
        FaultKind::Unavailable => Code::Unavailable,
        FaultKind::Overloaded => Code::ResourceExhausted,
        FaultKind::Timeout => Code::DeadlineExceeded,
        FaultKind::Bug => Code::Internal,
    }
}

fn kind_of(code: Code) -> FaultKind {
    match code {
        Code::InvalidArgument | Code::OutOfRange | Code::PermissionDenied | Code::Unauthenticated => {
            FaultKind::Rejected
        }
        Code::NotFound => FaultKind::NotFound,
        Code::FailedPrecondition | Code::AlreadyExists | Code::Aborted => FaultKind::Conflict,
        Code::ResourceExhausted => FaultKind::Overloaded,
        Code::DeadlineExceeded => FaultKind::Timeout,
        // Transport errors and broken connections come as `Unknown` and `Cancelled`.
        Code::Unavailable | Code::Unknown | Code::Cancelled => FaultKind::Unavailable,
        Code::Ok | Code::Unimplemented | Code::Internal | Code::DataLoss => FaultKind::Bug,
    }
}

fn kind_named(name: &str) -> Option<FaultKind> {
    serde_json::from_value(name.into()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::TraceContext;
    use crate::resilience::CallError;

    #[derive(Debug, thiserror::Error)]
    #[error("the söurce is empty")]
    struct Trouble(FaultKind);

    impl Fault for Trouble {
        fn kind(&self) -> FaultKind {
            self.0
        }
    }

    #[test]
    fn every_kind_comes_back_as_it_went() {
        for kind in [
            FaultKind::Rejected,
            FaultKind::NotFound,
            FaultKind::Conflict,
            FaultKind::Unavailable,
            FaultKind::Overloaded,
            FaultKind::Timeout,
            FaultKind::Bug,
        ] {
            let status = status_from_fault(&Trouble(kind));
            let bare = Status::new(status.code(), "");
            assert_eq!(fault_from_status(&bare).kind(), kind, "a foreign callee's code says the same");
            let fault = fault_from_status(&status);
            assert_eq!((fault.kind(), fault.code()), (kind, kind.as_str()));
            assert_eq!(fault.to_string() == "the söurce is empty", kind != FaultKind::Bug);
        }
    }

    #[test]
    fn whose_fault_it_was_comes_back_too_over_any_number_of_hops() {
        for kind in [FaultKind::Unavailable, FaultKind::Overloaded, FaultKind::Timeout] {
            let first = fault_from_status(&status_from_fault(&Trouble(kind)));
            assert!(first.is_of_another() && !first.is_passed_on(), "the callee itself failed: {kind}");
            let second = fault_from_status(&status_from_fault(&CallError::Failed(first)));
            assert!(second.is_passed_on(), "the callee is there: {kind}");
            let third = fault_from_status(&status_from_fault(&CallError::Failed(second)));
            assert!(third.is_passed_on(), "{kind}");
        }
        for kind in [FaultKind::Rejected, FaultKind::NotFound, FaultKind::Conflict, FaultKind::Bug] {
            let status = status_from_fault(&CallError::Failed(Trouble(kind)));
            assert!(!fault_from_status(&status).is_passed_on(), "{kind}");
        }
        let mut status = Status::unavailable("");
        status.metadata_mut().insert(OF, MetadataValue::from_static("somebody"));
        assert!(!fault_from_status(&status).is_passed_on());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_carries_trace_deadline_and_key() {
        let trace = TraceContext::root();
        let call = async { request((), Some("saga/step")) };
        let call = deadline::within(Deadline::after(Duration::from_millis(1500)), call);
        let request = telemetry::in_trace(trace, call).await;
        assert_eq!(idempotency_key(&request), Some("saga/step"));
        let headers = request.metadata().clone().into_headers();
        let sent: TraceContext = headers["traceparent"].to_str().unwrap().parse().unwrap();
        assert_eq!(sent.trace_id, trace.trace_id);
        assert_ne!(sent.span_id, trace.span_id);
        assert_eq!(timeout_of(&headers), Some(Duration::from_millis(1500) + SLACK));
    }

    #[derive(Debug, thiserror::Error)]
    #[error("later")]
    struct Later(Duration);

    impl Fault for Later {
        fn kind(&self) -> FaultKind {
            FaultKind::Overloaded
        }

        fn retry_after(&self) -> Option<Duration> {
            Some(self.0)
        }
    }

    #[test]
    fn when_to_try_again_comes_back_however_it_is_said() {
        let after = Duration::from_millis(1500);
        let mut status = status_from_fault(&Later(after));
        assert_eq!(status.metadata().get(PUSHBACK).unwrap(), "1500");
        assert_eq!(fault_from_status(&status).retry_after(), Some(after));
        status.metadata_mut().remove(PUSHBACK);
        assert_eq!(
            fault_from_status(&status).retry_after(),
            Some(after),
            "a foreign callee may say only that"
        );
        status.metadata_mut().insert(PUSHBACK, MetadataValue::from_static("-1"));
        assert_eq!(fault_from_status(&status).retry_after(), Some(Duration::MAX), "never");
        assert_eq!(fault_from_status(&Status::unavailable("")).retry_after(), None);
        let broken = Status::with_details(Code::Unavailable, "", vec![0xff, 1, 2].into());
        assert_eq!(fault_from_status(&broken).retry_after(), None);
    }

    #[test]
    fn a_timeout_is_read_in_every_unit_and_never_believed_blindly() {
        let read = |text: &str| {
            timeout_of(&HeaderMap::from_iter([(
                header::HeaderName::from_static(TIMEOUT),
                text.parse().unwrap(),
            )]))
        };
        assert_eq!(read("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(read("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for bad in ["", "m", "1", "1x", "-1S", "123456789S", "1é"] {
            let value = http::HeaderValue::from_bytes(bad.as_bytes()).unwrap();
            let headers = HeaderMap::from_iter([(header::HeaderName::from_static(TIMEOUT), value)]);
            assert_eq!(timeout_of(&headers), None, "{bad}");
        }
        assert_eq!(timeout_value(Duration::MAX), "99999999S");
        assert_eq!(timeout_value(Duration::from_micros(1)), "3m", "never sooner than we give up ourselves");
    }
}
