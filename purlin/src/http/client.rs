//! HTTP clients: what travels along with a request, and all that stands around a call.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use std::convert::Infallible;
//! use purlin::http::client;
//! use purlin::resilience::{Breakers, CallPolicy, Caller};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! // In place of a connection: it answers with the time that it is given.
//! let connection = service_fn(async |request: http::Request<String>| {
//!     Ok::<_, Infallible>(http::Response::new(request.headers()["x-request-timeout-ms"].clone()))
//! });
//! let weather = Caller::new("weather", CallPolicy::default(), &Breakers::new());
//! let client = client::stack(weather).layer(connection);
//! let request = http::Request::get("/today").body(String::new()).unwrap();
//! let given: u64 = client.oneshot(request).await.unwrap().body().to_str().unwrap().parse().unwrap();
//! assert!(given <= 2000, "an attempt has two seconds, unless the policy says otherwise");
//! # });
//! ```

use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use tower::layer::util::Stack;
use tower::{Layer, Service};

use crate::message::{Clock, FaultKind};
use crate::resilience::layer::{CallLayer, Exchange};
use crate::resilience::{Caller, Criticality, Verdict, criticality, deadline};
use crate::telemetry;

use super::{FAULT_KIND, REQUEST_TIMEOUT, TRACEPARENT};

/// What the client sends with a request that may be made again although its method is not idempotent.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Writes the trace, the deadline and the criticality at work into a request's headers.
pub fn inject(headers: &mut HeaderMap) {
    let mut insert = |name, value: String| headers.insert(name, HeaderValue::try_from(value).ok()?);
    if let Some(trace) = telemetry::current() {
        insert(TRACEPARENT, trace.child().to_string());
    }
    if let Some(deadline) = deadline::current() {
        insert(REQUEST_TIMEOUT, deadline.remaining().as_millis().to_string());
    }
    let class = criticality::current();
    if class != Criticality::default() {
        insert(HeaderName::from_static(criticality::HEADER), class.to_string());
    }
}

/// After how long an answer asks to be tried again: its `Retry-After`, in seconds or as a date (RFC 9110, 10.2.3).
pub fn retry_after(headers: &HeaderMap, clock: &Clock) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Duration::try_from(at.duration_since(clock.now())).unwrap_or(Duration::ZERO))
}

/// All that stands around a call ([`Caller`] says in which order, and why), and the headers that travel along.
///
/// A request is repeated if its method is idempotent (RFC 9110, 9.2.2) or if it has an `Idempotency-Key`, and its body
/// can be cloned: bytes can. Answers 502, 503 and 504, and connections that break, are failures of the callee; 429, and a
/// 503 of one of ours that sheds load (`purlin-fault-kind: overloaded`), concern the concurrency limit and not the
/// breaker; a 500 is a bug, which repeating does not help, and which the breaker counts neither way. `purlin-fault-of` is not
/// read: a callee over HTTP may be anybody.
pub fn stack(caller: Caller) -> Stack<PassOn, CallLayer<HttpExchange>> {
    Stack::new(PassOn, CallLayer::new(caller, HttpExchange::default()))
}

/// Knows which requests may be repeated, and what statuses say.
#[derive(Debug, Clone, Default)]
pub struct HttpExchange {
    clock: Clock,
}

impl HttpExchange {
    /// By this clock, for answers that say a date.
    pub fn with_clock(clock: Clock) -> Self {
        Self { clock }
    }
}

impl<B: Clone, C, E> Exchange<Request<B>, Response<C>, E> for HttpExchange {
    fn again(&self, request: &Request<B>) -> Option<Request<B>> {
        let idempotent =
            [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE, Method::TRACE];
        let repeatable =
            idempotent.contains(request.method()) || request.headers().contains_key(IDEMPOTENCY_KEY);
        repeatable.then(|| request.clone())
    }

    fn judge(&self, answer: &Result<Response<C>, E>) -> Verdict {
        let Ok(response) = answer else {
            return Verdict::Failed { kind: FaultKind::Unavailable, retry_after: None };
        };
        let kind = match response.status() {
            StatusCode::TOO_MANY_REQUESTS => FaultKind::Overloaded,
            // One of ours that has too much to do says so beside a status that means down as well.
            StatusCode::SERVICE_UNAVAILABLE if says_overloaded(response.headers()) => FaultKind::Overloaded,
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => FaultKind::Unavailable,
            StatusCode::GATEWAY_TIMEOUT => FaultKind::Timeout,
            StatusCode::NOT_FOUND => return Verdict::Refused(FaultKind::NotFound),
            status if status.is_client_error() => return Verdict::Refused(FaultKind::Rejected),
            status if status.is_server_error() => return Verdict::Refused(FaultKind::Bug),
            _ => return Verdict::Good,
        };
        Verdict::Failed { kind, retry_after: retry_after(response.headers(), &self.clock) }
    }
}

fn says_overloaded(headers: &HeaderMap) -> bool {
    headers.get(FAULT_KIND).is_some_and(|kind| kind == FaultKind::Overloaded.as_str())
}

/// Gives each request the headers that [`inject`] writes, each attempt anew: the deadline has come nearer.
#[derive(Debug, Clone, Copy, Default)]
pub struct PassOn;

impl<S> Layer<S> for PassOn {
    type Service = PassingOn<S>;

    fn layer(&self, inner: S) -> PassingOn<S> {
        PassingOn { inner }
    }
}

/// A client that sends what travels along.
#[derive(Debug, Clone)]
pub struct PassingOn<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for PassingOn<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        inject(request.headers_mut());
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use crate::http::Problem;
    use crate::resilience::Full;

    use super::*;

    #[test]
    fn retry_after_is_read_in_seconds_and_as_a_date() {
        let (clock, _) = Clock::manual("1994-11-06T08:49:30Z".parse().unwrap());
        let read = |text: &str| {
            retry_after(&HeaderMap::from_iter([(header::RETRY_AFTER, text.parse().unwrap())]), &clock)
        };
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(7)));
        assert_eq!(
            read("Sun, 06 Nov 1994 08:00:00 GMT"),
            Some(Duration::ZERO),
            "a date that has passed is now"
        );
        for text in ["", "soon", "-1", "1.5"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn what_may_be_repeated_is_said_by_the_method_or_a_key() {
        let again = |method: &str, key: Option<&str>| {
            let builder = Request::builder().method(method);
            let request =
                key.into_iter().fold(builder, |builder, key| builder.header("idempotency-key", key));
            let exchange = HttpExchange::default();
            let request = request.body(()).unwrap();
            Exchange::<_, Response<()>, ()>::again(&exchange, &request).is_some()
        };
        for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
            assert!(again(method, None), "{method}");
        }
        assert!(!again("POST", None) && !again("PATCH", None));
        assert!(again("POST", Some("k")));
    }

    #[test]
    fn statuses_say_whose_fault_it_is() {
        let judge = |status: u16| {
            let response = Response::builder().status(status).header("retry-after", "3").body(()).unwrap();
            Exchange::<Request<()>, _, ()>::judge(&HttpExchange::default(), &Ok(response))
        };
        let retry_after = Some(Duration::from_secs(3));
        assert_eq!(judge(204), Verdict::Good);
        assert_eq!(judge(404), Verdict::Refused(FaultKind::NotFound));
        assert_eq!(judge(422), Verdict::Refused(FaultKind::Rejected));
        assert_eq!(judge(500), Verdict::Refused(FaultKind::Bug));
        for (status, kind) in [
            (429, FaultKind::Overloaded),
            (502, FaultKind::Unavailable),
            (503, FaultKind::Unavailable),
            (504, FaultKind::Timeout),
        ] {
            assert_eq!(judge(status), Verdict::Failed { kind, retry_after }, "{status}");
        }
        let shed = Problem::from_fault(&Full).into_response();
        let kind = FaultKind::Overloaded;
        let verdict = Exchange::<Request<()>, _, ()>::judge(&HttpExchange::default(), &Ok(shed));
        assert_eq!(verdict, Verdict::Failed { kind, retry_after: Some(Duration::from_secs(1)) });
    }
}
