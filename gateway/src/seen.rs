//! What can be seen of the gateway's work: numbers, and a line for each request.

use std::net::SocketAddr;
use std::time::Duration;

use http::{Method, StatusCode};
use purlin::telemetry::metrics::{Counter, Family, Gauge, Histogram, Metrics, SECONDS};
use purlin::telemetry::{Rarely, RarelyEach};

use crate::core::Refusal;

/// The gateway's metrics.
#[derive(Debug)]
pub(crate) struct Seen {
    requests: Family<Counter, 3>,
    seconds: Family<Histogram, 1>,
    refusals: Family<Counter, 1>,
    connections: Gauge,
    connections_refused: Counter,
    warning: Rarely,
    /// Of requests that could not be answered: they come in thousands.
    unanswered: RarelyEach,
}

/// A connection is open until this is dropped.
#[derive(Debug)]
pub(crate) struct Open(Gauge);

impl Seen {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let connections = metrics.gauge("gateway_connections", "Connections from outside", []);
        let refused = metrics.counter(
            "gateway_connections_refused",
            "Connections turned away: their address had as many as it may",
            [],
        );
        Self {
            requests: metrics.counter("gateway_requests", "Requests answered", ["route", "method", "status"]),
            seconds: metrics.histogram(
                "gateway_request_seconds",
                "Time from a request's head to its answer's",
                ["route"],
                SECONDS,
            ),
            refusals: metrics.counter(
                "gateway_refusals",
                "Requests the gateway answered itself",
                ["problem"],
            ),
            connections: connections.with([]),
            connections_refused: refused.with([]),
            warning: Rarely::every(Duration::from_secs(1)),
            unanswered: RarelyEach::every(Duration::from_secs(1)),
        }
    }

    /// A request was answered.
    pub(crate) fn answer(&self, route: &str, method: &Method, status: StatusCode, took: Duration) {
        self.requests.with([route, method_label(method), status.as_str()]).inc();
        self.seconds.with([route]).observe(took.as_secs_f64());
        tracing::debug!(route, %method, status = status.as_u16(), took_us = took.as_micros(), "answered");
    }

    /// A request was answered by the gateway itself.
    pub(crate) fn refusal(&self, refusal: &Refusal, path: &str) {
        self.refusals.with([refusal.code()]).inc();
        // What callers do wrong must not fill our logs; what we could not do, somebody must see.
        // That a breaker is open was said when it opened.
        let may_warn = refusal.is_ours() && !matches!(refusal, Refusal::CircuitOpen { .. });
        let problem = refusal.code();
        match may_warn.then(|| self.unanswered.due(problem)).flatten() {
            Some(more) => {
                tracing::warn!(problem, path, reason = %refusal, more, "a request was not answered");
            }
            None => tracing::debug!(problem, path, reason = %refusal, "a request was refused"),
        }
    }

    /// A connection was turned away, because its address has as many as it may.
    pub(crate) fn connection_refused(&self, peer: SocketAddr) {
        self.connections_refused.inc();
        if let Some(more) = self.warning.due() {
            tracing::warn!(
                %peer,
                more,
                "a connection was refused: its address has as many as it may (`connections_per_address`)"
            );
        }
    }

    pub(crate) fn connection_opens(&self) -> Open {
        self.connections.inc();
        Open(self.connections.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A method as a label: callers may not make up labels.
fn method_label(method: &Method) -> &str {
    match *method {
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::PATCH | Method::DELETE => {
            method.as_str()
        }
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
