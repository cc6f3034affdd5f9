//! Who follows a log, while its process stops.

use std::time::Duration;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use purlin::service::operator::{self, Served};
use purlin::store::Store;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

#[tokio::test(start_paused = true)]
async fn who_waits_for_something_new_is_answered_when_the_process_stops() {
    let (shutdown, begun) = (CancellationToken::new(), Instant::now());
    let served = Served { name: "orders".into(), store: Store::memory() };
    let router = operator::until(shutdown.clone(), operator::router([served]));
    let request = Request::get("/orders/log?wait=10").body(Body::empty()).unwrap();
    let stop = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        shutdown.cancel();
    };
    let (answer, ()) = tokio::join!(router.clone().oneshot(request), stop);
    assert_eq!(begun.elapsed(), Duration::from_secs(2));
    let body = answer.unwrap().into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body, json!({ "items": [], "through": 0, "head": 0 }));
    // Nor does one wait who asks then.
    let request = Request::get("/orders/log?wait=10").body(Body::empty()).unwrap();
    assert_eq!(router.oneshot(request).await.unwrap().status(), 200);
    assert_eq!(begun.elapsed(), Duration::from_secs(2));
}
