//! A service that hangs, and all that does not need it.

use std::convert::Infallible;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use purlin_gateway::config::{Config, Pool, Route};
use purlin_gateway::core::Access;

use crate::world::{Answer, Caller, PATIENCE, Running, Service, ServiceBody, config, full};

const HANGING: &str = "GET /hanging HTTP/1.1\r\nHost: shop\r\n\r\n";
const GOOD: &str = "GET / HTTP/1.1\r\nHost: shop\r\n\r\n";

/// A service that takes requests and never answers.
async fn hanging() -> Service {
    Service::start(|_| std::future::pending()).await
}

/// A gateway's configuration in front of both.
fn beside(good: &Service, hanging: &Service) -> Config {
    let mut config = config(&[good.address]);
    config.pools.insert("hanging".into(), Pool { endpoints: vec![hanging.address.to_string()] });
    config.routes.push(Route::new("/hanging", Access::Public, "hanging"));
    config
}

/// Waits until a service has so many requests.
pub(crate) async fn has_got(service: &Service, count: usize) {
    tokio::time::timeout(PATIENCE, service.has_got(count)).await.expect("so many requests in time");
}

/// Waits until the metrics say this.
pub(crate) async fn says(gateway: &Running, line: &str) {
    let said = async {
        while !gateway.metrics.render().contains(line) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, said).await.unwrap_or_else(|_| panic!("{}", gateway.metrics.render()));
}

fn is_refused_at_once(answer: &Answer) {
    assert_eq!((answer.status, answer.problem().as_str()), (503, "overloaded"));
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn a_service_that_hangs_has_so_many_requests_and_the_others_are_answered() {
    let (good, hanging) = (Service::named("good").await, hanging().await);
    let mut config = beside(&good, &hanging);
    config.limits.requests_per_pool = 3;
    let gateway = Running::start(config).await;
    let mut waiting: Vec<Caller> = Vec::new();
    for count in 1..=3 {
        let mut caller = gateway.connect().await;
        caller.write(HANGING).await;
        waiting.push(caller);
        has_got(&hanging, count).await;
    }
    for _ in 0..5 {
        is_refused_at_once(&gateway.ask(HANGING).await);
        assert_eq!(gateway.ask(GOOD).await.text(), "good");
    }
    assert_eq!(hanging.got().len(), 3, "it got nothing beyond its places");
    assert!(gateway.metrics.render().contains("gateway_refusals_total{problem=\"overloaded\"} 5"));
}

#[tokio::test]
async fn a_caller_who_hangs_up_leaves_his_place_to_another() {
    let (good, hanging) = (Service::named("good").await, hanging().await);
    let mut config = beside(&good, &hanging);
    config.limits.requests_per_pool = 1;
    let gateway = Running::start(config).await;
    let mut first = gateway.connect().await;
    first.write(HANGING).await;
    has_got(&hanging, 1).await;
    is_refused_at_once(&gateway.ask(HANGING).await);
    drop(first);
    says(&gateway, "gateway_under_way{pool=\"hanging\"} 0").await;
    let mut second = gateway.connect().await;
    second.write(HANGING).await;
    has_got(&hanging, 2).await;
}

#[tokio::test]
async fn a_request_has_its_place_until_the_last_byte_of_its_answer() {
    let (sender, receiver) = tokio::sync::mpsc::channel::<&'static str>(1);
    let receiver = std::sync::Mutex::new(Some(receiver));
    let service = Service::start(move |_| {
        let mut receiver = receiver.lock().unwrap().take();
        async move {
            let pieces = futures_util::stream::poll_fn(move |context| {
                let piece = receiver.as_mut().map(|receiver| receiver.poll_recv(context));
                let piece = piece.unwrap_or(std::task::Poll::Ready(None));
                piece.map(|piece| piece.map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::from(piece)))))
            });
            let body: ServiceBody = StreamBody::new(pieces).boxed();
            Response::new(body)
        }
    })
    .await;
    let mut config = config(&[service.address]);
    config.limits.requests_per_pool = 1;
    let gateway = Running::start(config).await;
    let mut reading = gateway.connect().await;
    reading.write(GOOD).await;
    sender.send("half").await.unwrap();
    reading.until(b"half").await;
    is_refused_at_once(&gateway.ask(GOOD).await);
    drop(sender);
    says(&gateway, "gateway_under_way{pool=\"service\"} 0").await;
    assert_eq!(gateway.ask(GOOD).await.status, 200);
}

#[tokio::test]
async fn a_route_leaves_room_to_the_others_of_its_service() {
    let service = Service::start(|got| async move {
        match got.uri.path() {
            "/slow" => std::future::pending().await,
            _ => Response::new(full("quick")),
        }
    })
    .await;
    // Half of its service's places unless it says otherwise.
    for (of_pool, of_route, slow_ones) in [(4, None, 2), (4, Some(1), 1), (4, Some(3), 3)] {
        let mut config = config(&[service.address]);
        config.limits.requests_per_pool = of_pool;
        let route = Route::new("/slow", Access::Public, "service");
        config.routes.push(Route { requests: of_route, ..route });
        let gateway = Running::start(config).await;
        let slow = "GET /slow HTTP/1.1\r\nHost: shop\r\n\r\n";
        let (mut waiting, before) = (Vec::new(), service.got().len());
        for count in 1..=slow_ones {
            let mut caller = gateway.connect().await;
            caller.write(slow).await;
            waiting.push(caller);
            has_got(&service, before + count).await;
        }
        is_refused_at_once(&gateway.ask(slow).await);
        assert_eq!(gateway.ask(GOOD).await.text(), "quick");
        let taken = format!("gateway_route_under_way{{route=\"/slow\"}} {slow_ones}");
        assert!(gateway.metrics.render().contains(&taken));
    }
}

#[tokio::test]
async fn an_endpoint_that_hangs_is_passed_by() {
    let (good, hanging) = (Service::named("good").await, hanging().await);
    let gateway = Running::start(config(&[hanging.address, good.address])).await;
    let mut stuck = gateway.connect().await;
    stuck.write(GOOD).await;
    has_got(&hanging, 1).await;
    for _ in 0..10 {
        assert_eq!(gateway.ask(GOOD).await.text(), "good");
    }
    assert_eq!(hanging.got().len(), 1);
}
