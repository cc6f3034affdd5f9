//! What an operator asks of a process.

use axum::Router;
use axum::body::Body;
use http::{Method, Request};
use http_body_util::BodyExt;
use purlin::message::new_id;
use purlin::saga::SagaRow;
use purlin::service::operator::{self, Served};
use purlin::store::{Query, ReadError, Store};
use serde_json::{Value, json};
use tower::ServiceExt;

fn house() -> Router {
    let served = |name: &str| Served { name: name.into(), store: Store::memory() };
    operator::router([served("orders"), served("inventory")])
}

async fn ask(router: &Router, method: Method, path: &str) -> (u16, String, Value) {
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, content_type, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn a_service_that_never_had_trouble_has_empty_lists() {
    let house = house();
    let (_, _, services) = ask(&house, Method::GET, "/").await;
    assert_eq!(services, json!({ "services": ["inventory", "orders"] }));
    for path in ["/orders/dead-letters", "/orders/dead-letters?group=g&limit=5", "/orders/sagas?state=stuck"]
    {
        let (status, _, body) = ask(&house, Method::GET, path).await;
        assert_eq!((status, body), (200, json!({ "items": [], "next": null })), "{path}");
    }
}

#[tokio::test]
async fn what_is_not_there_or_makes_no_sense_is_a_problem() {
    let (house, nobody) = (house(), new_id());
    for (method, path, expected) in [
        (Method::GET, "/payments/sagas".to_owned(), 404),
        (Method::GET, "/payments/dead-letters".to_owned(), 404),
        (Method::GET, "/orders/nothing".to_owned(), 404),
        (Method::GET, format!("/orders/sagas/{nobody}"), 404),
        (Method::GET, "/orders/sagas/not-an-id".to_owned(), 404),
        (Method::POST, format!("/orders/sagas/{nobody}/retry"), 404),
        (Method::GET, "/orders/dead-letters/g-7".to_owned(), 404),
        (Method::POST, "/orders/dead-letters/g-7/replay".to_owned(), 404),
        (Method::POST, "/orders/dead-letters/g-7/drop".to_owned(), 404),
        (Method::GET, "/orders/sagas?state=sad".to_owned(), 400),
        (Method::GET, "/orders/sagas?colour=red".to_owned(), 400),
        (Method::GET, "/orders/dead-letters?limit=0".to_owned(), 400),
    ] {
        let (status, content_type, body) = ask(&house, method, &path).await;
        assert_eq!((status, &*content_type), (expected, "application/problem+json"), "{path}: {body}");
    }
}

#[tokio::test]
async fn who_only_looks_writes_nothing() {
    let store = Store::memory();
    let house = operator::router([Served { name: "orders".into(), store: store.clone() }]);
    for path in ["/orders/sagas", "/orders/dead-letters", "/orders/dead-letters/g-7"] {
        ask(&house, Method::GET, path).await;
    }
    ask(&house, Method::GET, &format!("/orders/sagas/{}", new_id())).await;
    ask(&house, Method::POST, &format!("/orders/sagas/{}/retry", new_id())).await;
    let sagas = store.list::<SagaRow>(Query::all()).await;
    assert!(matches!(sagas, Err(ReadError::Invalid(_))), "no collection of sagas was made: {sagas:?}");
    let parked = store.get_record("purlin_parked_messages", "g/7").await;
    assert!(matches!(parked, Err(ReadError::Invalid(_))), "no collection of parked messages was made");
}
