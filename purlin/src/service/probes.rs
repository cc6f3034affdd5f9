//! What a platform asks of a process.

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use http::{StatusCode, header};

use crate::telemetry::{Health, Metrics, metrics};

/// `GET /livez`: the process runs. `GET /readyz`: it can take work, else 503; the body says which check fails and
/// why. `GET /metrics`: its numbers as Prometheus text.
pub fn probes(health: &Health, metrics: &Metrics) -> Router {
    let (health, metrics) = (health.clone(), metrics.clone());
    Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(async move || readiness(&health)))
        .route("/metrics", get(async move || numbers(&metrics)))
}

fn readiness(health: &Health) -> impl IntoResponse + use<> {
    let report = health.report();
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(report))
}

fn numbers(metrics: &Metrics) -> impl IntoResponse + use<> {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics.render())
}
