//! Rates, connections, and the end.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2::handshake;
use hyper_util::rt::{TokioExecutor, TokioIo};
use purlin::resilience::SharedLimits;
use purlin::resilience::lease::Memory;
use purlin::telemetry::Metrics;
use purlin_gateway::config::{Rate, Route};
use purlin_gateway::core::Access;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Notify;

use crate::world::{PATIENCE, Running, Service, config, full};

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
async fn gateways_keep_one_limit_together() {
    let service = Service::named("service").await;
    let mut config = config(&[service.address]);
    config.rate = Some(Rate { per_second: 1, burst: 6 });
    let sessions = Route::new("/sessions", Access::Public, "service");
    config.routes.push(Route { rate: Some(Rate { per_second: 1, burst: 2 }), ..sessions });
    let counter = Memory::new();
    let limits = [(); 2].map(|()| SharedLimits::new(counter.clone(), &Metrics::new()));
    let work = async {
        for limits in &limits {
            limits.until_shared().await;
        }
        let one = Running::sharing(config.clone(), &limits[0]).await;
        let other = Running::sharing(config, &limits[1]).await;
        let mut passed = 0;
        for n in 0..20 {
            let gateway = if n % 2 == 0 { &one } else { &other };
            let answer = gateway.ask(GET).await;
            assert_eq!(answer.header("ratelimit-limit"), Some("6"));
            passed += i32::from(answer.status == 200);
        }
        // Each alone would have given six.
        assert!((6..=9).contains(&passed), "{passed}");
        let refused = other.ask(GET).await;
        assert_eq!((refused.status, refused.problem().as_str()), (429, "rate-limited"));
        assert!(refused.header("retry-after").is_some_and(|seconds| seconds != "0"));
    };
    tokio::select! {
        () = limits[0].run() => {}
        () = limits[1].run() => {}
        () = work => {}
    }
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

/// Waits until the gateway has no connection any more.
async fn nobody_is_connected(gateway: &Running) {
    connected(gateway, 0).await;
}

/// Waits until the gateway has so many connections.
async fn connected(gateway: &Running, count: usize) {
    let line = format!("gateway_connections {count}\n");
    let few = async {
        while !gateway.metrics.render().contains(&line) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, few).await.expect("so many connections in time");
}

#[tokio::test]
async fn a_caller_who_asks_and_does_not_read_loses_his_connection() {
    let service = Service::start(|_| async { Response::new(full(vec![b'x'; 1 << 20])) }).await;
    let mut config = config(&[service.address]);
    config.limits.write_timeout_ms = 100;
    let gateway = Running::start(config).await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(gateway.address).await.unwrap();
    stream.write_all(GET.repeat(100).as_bytes()).await.unwrap();
    while service.got().is_empty() {
        tokio::task::yield_now().await;
    }
    nobody_is_connected(&gateway).await;
    assert!(service.got().len() < 100);
    drop(stream);
}

#[tokio::test]
async fn an_idle_connection_of_http_2_ends() {
    let service = Service::named("service").await;
    let mut config = config(&[service.address]);
    config.limits.idle_timeout_ms = 100;
    let gateway = Running::start(config).await;
    let stream = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    let (mut sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let asking = async move {
        let request = http::Request::get("http://shop/").body(Empty::<Bytes>::new()).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "service");
        // Only the gateway may end it.
        std::future::pending::<()>().await;
        drop(sender);
    };
    tokio::select! {
        ended = tokio::time::timeout(PATIENCE, connection) => ended.expect("an end in time").unwrap(),
        () = asking => unreachable!(),
    }
}

#[tokio::test]
async fn an_old_connection_of_http_2_ends_even_if_its_caller_takes_no_answer() {
    let service = Service::start(|_| async { Response::new(full(vec![b'x'; 1 << 20])) }).await;
    let mut config = config(&[service.address]);
    config.limits.http2_age_ms = 100;
    let gateway = Running::start(config).await;
    let stream = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    let (mut sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(connection);
    let request = http::Request::get("http://shop/").body(Empty::<Bytes>::new()).unwrap();
    let unread = sender.send_request(request).await.unwrap();
    nobody_is_connected(&gateway).await;
    drop(unread);
}

/// A service with a large answer, behind a gateway that has room for one request and so much patience.
async fn one_at_a_time(bytes: usize, patience_ms: u64) -> (Service, Running) {
    let service = Service::start(move |_| async move { Response::new(full(vec![b'x'; bytes])) }).await;
    let mut config = config(&[service.address]);
    config.limits.requests_per_pool = 1;
    config.limits.write_timeout_ms = patience_ms;
    let gateway = Running::start(config).await;
    (service, gateway)
}

/// A caller of HTTP/2 who takes no more than he reads.
fn small_windows() -> hyper::client::conn::http2::Builder<TokioExecutor> {
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(16 << 10);
    builder
}

/// Waits until the pool's place is free.
async fn place_is_free(gateway: &Running) {
    let free = async {
        while !gateway.metrics.render().contains("gateway_under_way{pool=\"service\"} 0") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, free).await.expect("the place is free in time");
}

#[tokio::test]
async fn a_stream_of_http_2_whose_caller_takes_nothing_leaves_its_place_and_is_reset() {
    let (_service, gateway) = one_at_a_time(1 << 20, 300).await;
    let stream = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    let (mut sender, connection) = small_windows().handshake(TokioIo::new(stream)).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(connection);
    let get = || http::Request::get("http://shop/").body(Empty::<Bytes>::new()).unwrap();
    let unread = sender.send_request(get()).await.unwrap();
    assert_eq!(sender.send_request(get()).await.unwrap().status(), 503, "it has the only place");
    place_is_free(&gateway).await;
    assert_eq!(gateway.ask(GET).await.status, 200);
    assert!(unread.into_body().collect().await.is_err(), "what is left of it does not come");
    // The connection itself goes on.
    let next = sender.send_request(get()).await.unwrap();
    assert_eq!(next.into_body().collect().await.unwrap().to_bytes().len(), 1 << 20);
}

#[tokio::test]
async fn a_caller_of_http_2_who_takes_a_little_at_a_time_has_his_whole_answer() {
    let (_service, gateway) = one_at_a_time(256 << 10, 10_000).await;
    let stream = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    let (mut sender, connection) = small_windows().handshake(TokioIo::new(stream)).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(connection);
    let request = http::Request::get("http://shop/").body(Empty::<Bytes>::new()).unwrap();
    let mut body = sender.send_request(request).await.unwrap().into_body();
    let mut pieces = Vec::new();
    while let Some(frame) = body.frame().await {
        pieces.push(frame.unwrap().into_data().unwrap().len());
    }
    assert_eq!(pieces.iter().sum::<usize>(), 256 << 10);
    assert!(pieces.iter().all(|piece| *piece <= 16 << 10), "no more at once than he grants: {pieces:?}");
}

#[tokio::test]
async fn a_connection_whose_caller_reads_nothing_leaves_its_place() {
    // More than sockets hold.
    let (_service, gateway) = one_at_a_time(64 << 20, 300).await;
    let mut silent = gateway.connect().await;
    silent.write(GET).await;
    let taken = async {
        while !gateway.metrics.render().contains("gateway_under_way{pool=\"service\"} 1") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, taken).await.expect("it has the place");
    place_is_free(&gateway).await;
}

#[tokio::test]
async fn one_address_cannot_take_all_connections() {
    let service = Service::named("service").await;
    let mut config = config(&[service.address]);
    config.limits.connections_per_address = 2;
    let gateway = Running::start(config).await;
    let (mut first, mut second) = (gateway.connect().await, gateway.connect().await);
    for caller in [&mut first, &mut second] {
        caller.write(GET).await;
        assert_eq!(caller.answer().await.status, 200);
    }
    let mut third = gateway.connect().await;
    third.write(GET).await;
    let answer = third.answer().await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "overloaded"));
    assert_eq!((answer.header("retry-after"), answer.header("connection")), (Some("1"), Some("close")));
    assert!(third.is_closed().await);
    drop(first);
    connected(&gateway, 1).await;
    assert_eq!(gateway.ask(GET).await.status, 200);
    assert!(gateway.metrics.render().contains("gateway_connections_refused_total 1"));
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
