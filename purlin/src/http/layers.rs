//! What stands around all handlers of a service.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tokio::time::Instant;

use crate::message::{Fault, TraceContext, new_id};
use crate::resilience::{Bulkhead, Criticality, Deadline, DeadlineExceeded, criticality, deadline};
use crate::store::Store;
use crate::telemetry::metrics::{Counter, Family, Histogram, SECONDS};
use crate::telemetry::{self, Metrics, RarelyEach};

use super::exchange::{self, Exchange};
use super::extract::path_of;
use super::idempotency::POSITION;
use super::{PROBLEM_JSON, Problem, grpc};

/// The header that names a request.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The header that names the trace a request belongs to.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The header that says how many milliseconds the client will wait.
pub const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout-ms");

/// How much later than its deadline a request is cut off, so that it may clean up and say so itself.
const GRACE: Duration = Duration::from_millis(250);

/// The edge of a service: its name, its numbers, how long it works on one request.
#[derive(Debug, Clone)]
pub struct Edge {
    service: Arc<str>,
    max_timeout: Duration,
    log: Option<Store>,
    places: Option<Bulkhead>,
    /// Of answers that say that something is wrong with the service: they come in thousands.
    warning: Arc<RarelyEach>,
    requests: Family<Counter, 4>,
    seconds: Family<Histogram, 3>,
}

impl Edge {
    /// The edge of a service whose requests have 30 s.
    pub fn new(service: impl Into<Arc<str>>, metrics: &Metrics) -> Self {
        Self {
            service: service.into(),
            max_timeout: Duration::from_secs(30),
            log: None,
            places: None,
            warning: Arc::new(RarelyEach::every(Duration::from_secs(1))),
            requests: metrics.counter(
                "purlin_http_requests",
                "Requests answered",
                ["service", "method", "route", "status"],
            ),
            seconds: metrics.histogram(
                "purlin_http_request_seconds",
                "How long requests took",
                ["service", "method", "route"],
                SECONDS,
            ),
        }
    }

    /// Every answer to a write that bears no position yet bears that of this store's log: what was refused was refused
    /// on what the log had come to.
    pub fn log(mut self, store: &Store) -> Self {
        self.log = Some(store.clone());
        self
    }

    /// Answers no more requests at once than there are places here: the others are answered 503 (`RESOURCE_EXHAUSTED`),
    /// the least critical first (`x-criticality`).
    pub fn places(mut self, places: &Bulkhead) -> Self {
        self.places = Some(places.clone());
        self
    }

    /// The longest time that a request gets, whatever it asks for.
    pub fn max_timeout(mut self, timeout: Duration) -> Self {
        self.max_timeout = timeout;
        self
    }
}

/// Puts the edge of a service around its routes, REST and gRPC.
///
/// From the outside in: the request gets an id (its `x-request-id` or a new one), a trace (its valid `traceparent` is
/// continued), the service's name, its criticality (`x-criticality`) and a deadline (`x-request-timeout-ms` or
/// `grpc-timeout`, capped); it is counted and logged; one that comes too late, or for which there is no place, is not
/// begun; a handler that is too late is cut off with 504; one that panics is answered 500; every error that
/// has no problem yet (an unknown path, a wrong method) gets one.
pub fn layers(router: Router, edge: Edge) -> Router {
    router.layer(from_fn_with_state(edge, around))
}

async fn around(State(edge): State<Edge>, request: Request, next: Next) -> Response {
    let exchange = exchange_of(&request);
    let trace = trace_of(request.headers());
    let request_id = exchange.request_id.clone();
    let deadline =
        Deadline::after(timeout_of(request.headers()).unwrap_or(edge.max_timeout).min(edge.max_timeout));
    let service = Arc::clone(&edge.service);
    let writes = !request.method().is_safe() && !grpc::is_grpc(request.headers());
    let log = edge.log.clone().filter(|_| writes);
    let class = criticality_of(request.headers());
    let answer = deadline::within(deadline, Box::pin(counted(edge, request, next)));
    let answer = criticality::within(class, answer);
    let answer = telemetry::service::within(service, exchange::within(exchange, answer));
    let mut response = telemetry::in_trace(trace, answer).await;
    for (name, value) in [(REQUEST_ID, request_id), (TRACEPARENT, trace.to_string())] {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    if let Some(log) = log.filter(|_| !response.headers().contains_key(POSITION))
        && let Ok(token) = HeaderValue::try_from(log.token(log.head()))
    {
        response.headers_mut().insert(POSITION, token);
    }
    response
}

async fn counted(edge: Edge, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let is_grpc = grpc::is_grpc(request.headers());
    let answer = match &edge.places {
        Some(places) => places.answering(cut_off(request, next)).await,
        None => Ok(cut_off(request, next).await),
    };
    let response = answer.unwrap_or_else(|full| refused(is_grpc, &full));
    let response = as_problem(&method, response).await;
    let (took, status) = (began.elapsed(), response.status());
    edge.requests.with([&edge.service, method.as_str(), &route, status.as_str()]).inc();
    edge.seconds.with([&edge.service, method.as_str(), &route]).observe(took.as_secs_f64());
    let (method, status, micros) = (method.as_str(), status.as_u16(), took.as_micros() as u64);
    match (status >= 500).then(|| edge.warning.due(&format!("{method} {route} {status}"))).flatten() {
        None => tracing::debug!(method, route, status, micros, "answered"),
        Some(more) => tracing::warn!(method, route, status, micros, more, "answered"),
    }
    response
}

/// The handler's answer, if it comes in time and without a panic.
async fn cut_off(request: Request, next: Next) -> Response {
    let is_grpc = grpc::is_grpc(request.headers());
    let remaining = deadline::current().map_or(Duration::MAX, Deadline::remaining);
    if remaining.is_zero() {
        return refused(is_grpc, &DeadlineExceeded);
    }
    let remaining = remaining.saturating_add(GRACE);
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind();
    let problem = match tokio::time::timeout(remaining, answer).await {
        Ok(Ok(response)) => return response,
        Ok(Err(panic)) => {
            tracing::error!(panic = panic_text(&*panic), "a handler panicked");
            Problem::bug()
        }
        Err(_) => return refused(is_grpc, &DeadlineExceeded),
    };
    match is_grpc {
        false => problem.into_response(),
        true => tonic::Status::internal("something went wrong that should not have").into_http(),
    }
}

/// The answer that a fault becomes, in the language of who asked.
fn refused(is_grpc: bool, fault: &dyn Fault) -> Response {
    if is_grpc {
        grpc::status_from_fault(fault).into_http()
    } else {
        Problem::from_fault(fault).into_response()
    }
}

/// Gives an error that a router or a plain axum extractor answered the body of a problem.
async fn as_problem(method: &http::Method, response: Response) -> Response {
    let status = response.status();
    let content_type = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let spoken = content_type.is_some_and(|value| !value.starts_with(b"text/plain"));
    if spoken || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let text = axum::body::to_bytes(body, 4096).await.unwrap_or_default();
    let path = exchange::current().map(|exchange| exchange.path).unwrap_or_default();
    let problem = match status {
        StatusCode::NOT_FOUND if text.is_empty() => {
            Problem::of_status(status).detail(format!("nothing is at `{path}`"))
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            Problem::of_status(status).detail(format!("`{path}` does not take {method}"))
        }
        // A plain axum extractor refused it; that has no name of its own.
        StatusCode::BAD_REQUEST => {
            Problem::new(status, "malformed-request").detail(String::from_utf8_lossy(&text))
        }
        _ if status.is_client_error() && !text.is_empty() => {
            Problem::of_status(status).detail(String::from_utf8_lossy(&text))
        }
        _ => Problem::of_status(status),
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    Response::from_parts(parts, Body::from(problem.render()))
}

fn exchange_of(request: &Request) -> Exchange {
    let path = path_of(request.uri(), request.extensions()).to_owned();
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let fits = |id: &&str| (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
    let request_id = given.filter(fits).map_or_else(|| new_id().to_string(), str::to_owned);
    Exchange { request_id, path }
}

/// The trace that the client began, or a new one.
fn trace_of(headers: &HeaderMap) -> TraceContext {
    let given = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok()?.parse::<TraceContext>().ok());
    given.map_or_else(TraceContext::root, TraceContext::child)
}

fn criticality_of(headers: &HeaderMap) -> Criticality {
    let said = headers.get(criticality::HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
    said.unwrap_or_default()
}

/// How much time the caller of a request gives, by [`REQUEST_TIMEOUT`] or by `grpc-timeout`: of two that he says, the shorter.
pub fn timeout_of(headers: &HeaderMap) -> Option<Duration> {
    let millis = headers.get(REQUEST_TIMEOUT).and_then(|value| value.to_str().ok()?.parse().ok());
    millis.map(Duration::from_millis).into_iter().chain(grpc::timeout_of(headers)).min()
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a text")
}

#[cfg(test)]
mod tests {
    use crate::http::client;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_callee_is_given_no_more_time_than_there_is_over_http_and_grpc() {
        for micros in [0, 1, 400, 1_700, 20_900, 5_000_999, 400_000_000_000] {
            let left = Duration::from_micros(micros);
            let [http, grpc] = deadline::within(Deadline::after(left), async {
                let (mut http, mut grpc) = (HeaderMap::new(), tonic::metadata::MetadataMap::new());
                client::inject(&mut http);
                grpc::inject(&mut grpc);
                [http, grpc.into_headers()].map(|headers| timeout_of(&headers).unwrap())
            })
            .await;
            assert_eq!(http, grpc);
            assert!(http <= left && left - http < Duration::from_millis(1), "{http:?} of {left:?}");
        }
    }

    #[test]
    fn of_two_times_that_a_caller_says_the_shorter_counts() {
        let said = |millis: &'static str, grpc: &'static str| {
            let grpc_timeout = HeaderName::from_static("grpc-timeout");
            let said = [(REQUEST_TIMEOUT, millis), (grpc_timeout, grpc)];
            timeout_of(&said.map(|(name, text)| (name, HeaderValue::from_static(text))).into_iter().collect())
        };
        assert_eq!(said("5000", "10m"), Some(Duration::from_millis(10)));
        assert_eq!(said("10", "5S"), Some(Duration::from_millis(10)));
        assert_eq!(said("soon", "5S"), Some(Duration::from_secs(5)));
        assert_eq!(said("10", "soon"), Some(Duration::from_millis(10)));
        assert_eq!(said("soon", "soon"), None);
    }
}
