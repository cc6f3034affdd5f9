//! What stands around all handlers.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use http::{Request, Response};
use http_body_util::BodyExt;
use purlin::http::{Edge, Idempotency, Json, Path, Problem, Query, Write, exchange, layers};
use purlin::message::{Clock, TraceContext, Uuid};
use purlin::resilience::deadline;
use purlin::store::{Commit, Store};
use purlin::telemetry::{self, Metrics};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tower::ServiceExt;

#[derive(Deserialize, Serialize)]
struct Item {
    quantity: u16,
}

async fn add(idempotency: Idempotency, write: Write<Item>) -> Response<Body> {
    let decide = async |_| purlin::http::Decided::new(Commit::new(), http::StatusCode::CREATED, &write.body);
    idempotency.run("alice", &write.request, decide).await
}

fn router(metrics: &Metrics) -> Router {
    let idempotency = Idempotency::new(&Store::memory(), Clock::system());
    let orders = Router::new()
        .route("/{id}", get(async |Path(id): Path<Uuid>| Json(id)))
        .route("/{id}/items", post(move |write| add(idempotency.clone(), write)));
    let router = Router::new()
        .nest("/orders", orders)
        .route(
            "/who",
            get(async || {
                let exchange = exchange::current().unwrap();
                let deadline = deadline::current().unwrap().remaining();
                Json(json!({
                    "trace": telemetry::current().unwrap().trace_id_hex(),
                    "service": telemetry::service::current().as_deref(),
                    "request_id": exchange.request_id,
                    "path": exchange.path,
                    "millis": deadline.as_millis() as u64,
                }))
            }),
        )
        .route("/plain", get(async |axum::extract::Query(item): axum::extract::Query<Item>| Json(item)))
        .route("/query", get(async |Query(item): Query<Item>| Json(item)))
        .route("/slow", get(async || std::future::pending::<()>().await))
        .route("/panic", get(async || -> Result<(), Problem> { panic!("the secret is 42") }));
    layers(router, Edge::new("orders", metrics).max_timeout(Duration::from_secs(10)))
}

async fn ask(request: Request<Body>) -> (u16, http::HeaderMap, Value) {
    let response = router(&Metrics::new()).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status.as_u16(), parts.headers, serde_json::from_slice(&body).unwrap())
}

fn get_request(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_request_has_a_trace_an_id_a_service_and_a_deadline() {
    let trace = TraceContext::root();
    let mut request = get_request("/who?x=1");
    for (name, value) in [
        ("traceparent", trace.to_string()),
        ("x-request-id", "r-1".into()),
        ("x-request-timeout-ms", "1500".into()),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let (status, headers, body) = ask(request).await;
    let told = json!({
        "trace": trace.trace_id_hex(), "service": "orders", "request_id": "r-1", "path": "/who", "millis": 1500
    });
    assert_eq!((status, body), (200, told));
    assert_eq!(headers["x-request-id"], "r-1");
    let answered: TraceContext = headers["traceparent"].to_str().unwrap().parse().unwrap();
    assert_eq!(answered.trace_id, trace.trace_id);
}

#[tokio::test(start_paused = true)]
async fn what_a_client_should_not_send_is_replaced() {
    let mut request = get_request("/who");
    for (name, value) in [
        ("traceparent", "00-00000000000000000000000000000000-0000000000000000-01"),
        ("x-request-id", "a b"),
        ("x-request-timeout-ms", "99999999999"),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let (_, headers, body) = ask(request).await;
    assert_eq!(body["millis"], 10_000);
    assert_ne!(body["trace"], "0".repeat(32));
    assert_ne!(body["request_id"], "a b");
    assert_eq!(headers["x-request-id"], body["request_id"].as_str().unwrap());
}

#[tokio::test(start_paused = true)]
async fn every_error_is_a_problem_with_the_trace() {
    let item = |body: &'static str| Request::post("/orders/4711/items").body(Body::from(body)).unwrap();
    for (request, status, type_, detail) in [
        (get_request("/nowhere"), 404, "not-found", "`/nowhere`"),
        (Request::delete("/who").body(Body::empty()).unwrap(), 405, "method-not-allowed", "DELETE"),
        (get_request("/orders/4711"), 404, "not-found", "`/orders/4711`"),
        (get_request("/plain?quantity=x"), 400, "malformed-request", "quantity"),
        (get_request("/query?quantity=x"), 400, "invalid-query", "quantity"),
        (item("{"), 400, "not-json", "JSON"),
        (item(r#"{"quantity": -1}"#), 422, "invalid-body", "quantity"),
        (item(r#"{"quantity": 1, "price": 0}"#), 422, "invalid-body", "price"),
        (get_request("/slow"), 504, "deadline-exceeded", "deadline"),
        (get_request("/panic"), 500, "internal-error", "trace"),
    ] {
        let path = request.uri().path().to_owned();
        let (answered, headers, body) = ask(request).await;
        assert_eq!(headers["content-type"], "application/problem+json", "{body}");
        assert_eq!((answered, &body["status"]), (status, &json!(status)), "{body}");
        assert_eq!(body["type"], format!("/problems/{type_}"));
        assert!(body["detail"].as_str().unwrap().contains(detail), "{body}");
        assert!(!body.to_string().contains("the secret"), "{body}");
        assert_eq!(body["instance"], path);
        let trace: TraceContext = headers["traceparent"].to_str().unwrap().parse().unwrap();
        assert_eq!(body["trace_id"], trace.trace_id_hex());
    }
}

#[tokio::test]
async fn a_write_is_replayed_and_its_whole_path_counts() {
    let router = router(&Metrics::new());
    let mut bodies = Vec::new();
    for _ in 0..2 {
        let request = Request::post("/orders/4711/items").header("idempotency-key", "k");
        let request = request.body(Body::from(r#"{"quantity": 1}"#)).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 201);
        bodies.push(response.headers().contains_key("idempotent-replayed"));
    }
    assert_eq!(bodies, [false, true]);
    // The path under the nest counts: another order is another request.
    let request = Request::post("/orders/4712/items").header("idempotency-key", "k");
    let response = router.oneshot(request.body(Body::from(r#"{"quantity": 1}"#)).unwrap()).await.unwrap();
    assert_eq!(response.status(), 422);
}

#[tokio::test]
async fn a_key_that_cannot_be_one_is_refused() {
    let long = "k".repeat(256);
    for keys in [vec![""], vec!["a", "b"], vec![&long], vec!["a\tb"]] {
        let mut request = Request::post("/orders/1/items").body(Body::from(r#"{"quantity": 1}"#)).unwrap();
        for key in keys {
            request.headers_mut().append("idempotency-key", key.parse().unwrap());
        }
        let (status, _, body) = ask(request).await;
        assert_eq!((status, &body["type"]), (400, &json!("/problems/invalid-idempotency-key")));
    }
}

#[tokio::test]
async fn requests_are_counted_by_route_and_not_by_path() {
    let metrics = Metrics::new();
    let router = router(&metrics);
    for _ in 0..2 {
        let id = Uuid::new_v4();
        router.clone().oneshot(get_request(&format!("/orders/{id}"))).await.unwrap();
    }
    let text = metrics.render();
    let line =
        r#"purlin_http_requests_total{service="orders",method="GET",route="/orders/{id}",status="200"} 2"#;
    assert!(text.contains(line), "{text}");
    assert!(text.contains("purlin_http_request_seconds_bucket"));
}
