//! What a platform asks of a process.

use axum::Router;
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use purlin::service::probes;
use purlin::telemetry::{Health, Metrics};
use tower::ServiceExt;

async fn ask(router: &Router, path: &str) -> (u16, String) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_process_lives_before_it_is_ready_and_says_what_is_missing() {
    let (health, metrics) = (Health::new(), Metrics::new());
    let router = probes(&health, &metrics);
    let store = health.check("store");
    store.not_ready("the disk is full");
    assert_eq!(ask(&router, "/livez").await.0, 200);
    let (status, body) = ask(&router, "/readyz").await;
    assert_eq!(status, 503);
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&body["ready"], &body["checks"][0]["name"]), (&false.into(), &"store".into()));
    assert_eq!(body["checks"][0]["reason"], "the disk is full");
    store.ready();
    assert_eq!(ask(&router, "/readyz").await.0, 200);
}

#[tokio::test]
async fn numbers_are_prometheus_text() {
    let (health, metrics) = (Health::new(), Metrics::new());
    metrics.counter("purlin_things", "Things seen", ["kind"]).with(["good"]).inc();
    let (status, text) = ask(&probes(&health, &metrics), "/metrics").await;
    assert_eq!(status, 200);
    assert!(text.contains("purlin_things_total{kind=\"good\"} 1"), "{text}");
}
