//! Rates, connections, and the end.

use std::sync::Arc;

use http::Response;
use purlin_gateway::config::{Rate, Route};
use purlin_gateway::core::Access;
use tokio::sync::Notify;

use crate::world::{Running, Service, config, full};

const GET: &str = "GET / HTTP/1.1\r\nHost: shop\r\n\r\n";

#[tokio::test]
async fn a_caller_who_asks_too_often_is_told_when_to_come_back() {
    let service = Service::named("service").await;
    let mut config = config(&[service.address]);
    config.rate = Some(Rate { per_second: 1, burst: 3 });
    let gateway = Running::start(config).await;
    for remaining in ["2", "1", "0"] {
        let answer = gateway.ask(GET).await;
        assert_eq!((answer.status, answer.header("ratelimit-remaining")), (200, Some(remaining)));
        assert_eq!(answer.header("ratelimit-limit"), Some("3"));
    }
    let answer = gateway.ask(GET).await;
    assert_eq!((answer.status, answer.problem().as_str()), (429, "rate-limited"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.header("ratelimit-remaining"), Some("0"));
    assert_eq!(answer.header("ratelimit-reset"), Some("3"));
    assert_eq!(service.got().len(), 3);
    assert!(gateway.metrics.render().contains("gateway_refusals_total{problem=\"rate-limited\"} 1"));
}

#[tokio::test]
async fn a_route_has_a_stricter_limit_of_its_own() {
    let service = Service::named("service").await;
    let mut config = config(&[service.address]);
    config.rate = Some(Rate { per_second: 100, burst: 100 });
    let sessions = Route::new("/sessions", Access::Public, "service");
    config.routes.push(Route { rate: Some(Rate { per_second: 1, burst: 2 }), ..sessions });
    let gateway = Running::start(config).await;
    let login = "GET /sessions HTTP/1.1\r\nHost: shop\r\n\r\n";
    assert_eq!(gateway.ask(login).await.header("ratelimit-limit"), Some("2"));
    assert_eq!(gateway.ask(login).await.status, 200);
    assert_eq!(gateway.ask(login).await.status, 429);
    assert_eq!(gateway.ask(GET).await.status, 200);
}

#[tokio::test]
async fn connections_past_the_limit_wait_for_room() {
    let service = Service::named("service").await;
    let mut config = config(&[service.address]);
    config.limits.connections = 1;
    let gateway = Running::start(config).await;
    let mut first = gateway.connect().await;
    first.write(GET).await;
    assert_eq!(first.answer().await.status, 200);
    let mut second = gateway.connect().await;
    second.write(GET).await;
    first.write(GET).await;
    assert_eq!(first.answer().await.status, 200);
    assert_eq!(service.got().len(), 2);
    drop(first);
    assert_eq!(second.answer().await.status, 200);
}

#[tokio::test]
async fn stopping_finishes_what_is_in_hand_and_takes_nothing_new() {
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begins, goes_on) = (Arc::clone(&begun), Arc::clone(&go_on));
    let service = Service::start(move |_| {
        let (begins, goes_on) = (Arc::clone(&begins), Arc::clone(&goes_on));
        async move {
            begins.notify_one();
            goes_on.notified().await;
            Response::new(full("done"))
        }
    })
    .await;
    let mut gateway = Running::start(config(&[service.address])).await;
    let (mut silent, mut idle) = (gateway.connect().await, gateway.connect().await);
    idle.write("GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(idle.answer().await.status, 200);
    let mut busy = gateway.connect().await;
    busy.write(GET).await;
    begun.notified().await;
    gateway.stop();
    assert!(silent.is_closed().await);
    assert!(idle.is_closed().await);
    while tokio::net::TcpStream::connect(gateway.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    go_on.notify_one();
    assert_eq!(busy.answer().await.text(), "done");
    assert!(busy.is_closed().await);
    drop((silent, idle, busy));
    assert!(gateway.stopped().await);
}

#[tokio::test]
async fn stopping_does_not_wait_for_ever() {
    let service = Service::start(|_| async {
        std::future::pending::<()>().await;
        unreachable!()
    })
    .await;
    let mut config = config(&[service.address]);
    config.limits.drain_timeout_ms = 100;
    let mut gateway = Running::start(config).await;
    let mut caller = gateway.connect().await;
    caller.write(GET).await;
    while service.got().is_empty() {
        tokio::task::yield_now().await;
    }
    gateway.stop();
    assert!(!gateway.stopped().await);
}
