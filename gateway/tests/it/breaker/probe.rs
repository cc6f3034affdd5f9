//! Probes: what is one, how long it is waited for, and what comes of it.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::header::AGE;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use purlin::resilience::{BreakerState, Breakers};
use serde_json::json;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{ENOUGH, GET, breaker, calls, is_open, may_probe, state};
use crate::cascade::{has_got, says};
use crate::world::{Caller, Desk, Got, Running, Service, ServiceBody, config, dead_address, full, passes};

/// For so long a probe is waited for; then others may probe as well.
const AWAITED: Duration = Duration::from_secs(1);

/// A request that is let through to the service as its `count`th; whoever made it waits for the answer.
async fn let_through(gateway: &Running, service: &Service, count: usize) -> Caller {
    let mut caller = gateway.connect().await;
    caller.write(GET).await;
    tokio::select! {
        answer = caller.answer() => panic!("it is not let through: {answer:?}"),
        () = has_got(service, count) => caller,
    }
}

/// A gateway whose service was away, and now answers so; its breaker lets probes through.
async fn back<A, F>(answer: A) -> (Running, Breakers, Service)
where
    A: Fn(Got) -> F + Send + Sync + 'static,
    F: Future<Output = Response<ServiceBody>> + Send,
{
    let address = dead_address().await;
    let (calls, breakers) = calls(json!({ "gateway-service": { "breaker": { "timeout": "200ms" } } }));
    let gateway = Running::calling(config(&[address]), &calls).await;
    for _ in 0..ENOUGH {
        assert_eq!(gateway.ask(GET).await.problem(), "unavailable");
    }
    let service = Service::on(TcpListener::bind(address).await.unwrap(), answer);
    may_probe(&breakers).await;
    (gateway, breakers, service)
}

#[tokio::test]
async fn whoever_keeps_his_body_to_himself_keeps_nobody_from_a_service_that_is_back() {
    let (gateway, breakers, service) = back(|_| async { Response::new(full("back")) }).await;
    let mut keeping = Vec::new();
    for body in ["Content-Length: 4\r\n\r\nx", "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"] {
        for _ in 0..4 {
            let mut caller = gateway.connect().await;
            caller.write(format!("POST / HTTP/1.1\r\nHost: shop\r\n{body}")).await;
            keeping.push(caller);
        }
    }
    // All of them are in, and none is a probe.
    says(&gateway, "gateway_under_way{pool=\"service\"} 8").await;
    assert!(service.got().is_empty());
    for _ in 0..2 {
        assert_eq!(gateway.ask(GET).await.text(), "back");
    }
    assert_eq!(state(&breakers), BreakerState::Closed);
    for (at, caller) in keeping.iter_mut().enumerate() {
        caller.write(if at < 4 { "yzw" } else { "3\r\nyzw\r\n0\r\n\r\n" }).await;
        assert_eq!(caller.answer().await.text(), "back");
    }
    for got in &service.got()[2..] {
        assert_eq!(got.body.as_deref(), Some(&b"xyzw"[..]));
    }
}

#[tokio::test]
async fn a_whole_body_is_a_probe_like_any_other_and_a_large_one_too() {
    let (gateway, breakers, service) = back(|_| async { Response::new(full("back")) }).await;
    let large = "x".repeat(200_000);
    for body in ["four", &large] {
        let post = format!("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        assert_eq!(gateway.ask(post).await.text(), "back");
    }
    assert_eq!(state(&breakers), BreakerState::Closed);
    let got = service.got().into_iter().map(|got| got.body.map(|body| body.len()));
    assert_eq!(got.collect::<Vec<_>>(), [Some(4), Some(200_000)]);
}

#[tokio::test]
async fn a_probe_may_end_in_trailers() {
    let (gateway, breakers, service) = back(|_| async { Response::new(full("back")) }).await;
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    for _ in 0..2 {
        let trailers = HeaderMap::from_iter([(AGE, HeaderValue::from_static("7"))]);
        let frames = [Frame::data(Bytes::from_static(b"four")), Frame::trailers(trailers)];
        let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok::<_, Infallible>)));
        let request = Request::post("http://shop/").body(body).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "back");
    }
    assert!(service.got().iter().all(|got| got.body.as_deref() == Some(&b"four"[..])));
    assert_eq!(state(&breakers), BreakerState::Closed);
}

#[tokio::test]
async fn probes_that_hang_keep_nobody_out_for_long() {
    let desk = Desk::default();
    let (gateway, breakers, service) = back(desk.answers()).await;
    let (_hanging, _too) =
        (let_through(&gateway, &service, 1).await, let_through(&gateway, &service, 2).await);
    is_open(&gateway.ask(GET).await);
    passes(AWAITED).await;
    for at in 2..4 {
        let mut next = let_through(&gateway, &service, at + 1).await;
        desk.answer(at, 200);
        assert_eq!(next.answer().await.text(), "200");
    }
    assert_eq!(state(&breakers), BreakerState::Closed);
}

#[tokio::test]
async fn a_service_that_takes_longer_than_probes_are_waited_for_is_used_again_once_enough_of_them_are_answered()
 {
    let desk = Desk::default();
    let (gateway, breakers, service) = back(desk.answers()).await;
    let mut first = let_through(&gateway, &service, 1).await;
    let mut second = let_through(&gateway, &service, 2).await;
    is_open(&gateway.ask(GET).await);
    passes(AWAITED).await;
    // Others have their places by the time that the answers come.
    let (_third, _fourth) =
        (let_through(&gateway, &service, 3).await, let_through(&gateway, &service, 4).await);
    desk.answer(0, 200);
    assert_eq!(first.answer().await.text(), "200");
    assert_eq!(state(&breakers), BreakerState::HalfOpen, "it was one");
    desk.answer(1, 200);
    assert_eq!(second.answer().await.text(), "200");
    assert_eq!(state(&breakers), BreakerState::Closed);
}

#[tokio::test]
async fn an_answer_speaks_for_one_probe_and_a_bug_for_none() {
    let desk = Desk::default();
    let (gateway, breakers, service) = back(desk.answers()).await;
    let mut first = let_through(&gateway, &service, 1).await;
    let mut good = let_through(&gateway, &service, 2).await;
    desk.answer(1, 200);
    assert_eq!(good.answer().await.text(), "200");
    // There is one place more, which the first one leaves.
    passes(AWAITED).await;
    let mut bug = let_through(&gateway, &service, 3).await;
    assert_eq!(state(&breakers), BreakerState::HalfOpen);
    desk.answer(2, 500);
    assert_eq!(bug.answer().await.text(), "500");
    let _slow = let_through(&gateway, &service, 4).await;
    passes(AWAITED).await;
    let mut bug = let_through(&gateway, &service, 5).await;
    desk.answer(4, 500);
    assert_eq!(bug.answer().await.text(), "500");
    let _next = let_through(&gateway, &service, 6).await;
    assert_eq!(state(&breakers), BreakerState::HalfOpen);
    desk.answer(0, 200);
    assert_eq!(first.answer().await.text(), "200");
    assert_eq!(state(&breakers), BreakerState::Closed, "the first one is answered, too");
}

#[tokio::test]
async fn probes_that_fail_late_open_a_hop_again_though_others_have_their_places() {
    let desk = Desk::default();
    let (gateway, breakers, service) = back(desk.answers()).await;
    let mut first = let_through(&gateway, &service, 1).await;
    let _second = let_through(&gateway, &service, 2).await;
    passes(AWAITED).await;
    let (_third, _fourth) =
        (let_through(&gateway, &service, 3).await, let_through(&gateway, &service, 4).await);
    desk.answer(0, 503);
    assert_eq!(first.answer().await.text(), "503");
    assert_eq!(breaker(&breakers, "service").status(Instant::now()).opened, 2);
}

#[tokio::test]
async fn what_was_let_through_before_a_hop_opened_says_nothing_of_one_that_probes() {
    let desk = Desk::default();
    let service = Service::start(desk.answers()).await;
    let (calls, breakers) = calls(json!({ "gateway-service": { "breaker": { "timeout": "200ms" } } }));
    let gateway = Running::calling(config(&[service.address]), &calls).await;
    let mut before = [let_through(&gateway, &service, 1).await, let_through(&gateway, &service, 2).await];
    for at in 2..2 + ENOUGH {
        let mut failing = let_through(&gateway, &service, at + 1).await;
        desk.answer(at, 503);
        assert_eq!(failing.answer().await.text(), "503");
    }
    may_probe(&breakers).await;
    let probes = ENOUGH + 3;
    let _first = let_through(&gateway, &service, probes).await;
    let _second = let_through(&gateway, &service, probes + 1).await;
    // By then a probe was waited for long enough, and so were those from before.
    passes(AWAITED).await;
    let _third = let_through(&gateway, &service, probes + 2).await;
    for (at, status) in [(0, 200), (1, 503)] {
        desk.answer(at, status);
        assert_eq!(before[at].answer().await.status, status);
        let status = breaker(&breakers, "service").status(Instant::now());
        assert_eq!((status.state, status.opened), (BreakerState::HalfOpen, 1));
    }
}

/// Somebody who takes no connections any more, so that whoever wants one waits; for as long as the connections live. That no
/// more are taken only a while of real time shows: the kernel says nothing of it.
async fn full_house() -> (TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(address)).await
    {
        waiting.push(stream.unwrap());
    }
    (listener, waiting)
}

#[tokio::test]
async fn probes_of_endpoints_that_are_not_connected_to_in_time_open_a_hop_again() {
    let (one, other) = (full_house().await, full_house().await);
    let (calls, breakers) = calls(json!({ "gateway-service": { "breaker": { "timeout": "200ms" } } }));
    let mut config = config(&[&one, &other].map(|(listener, _)| listener.local_addr().unwrap()));
    config.limits.connect_timeout_ms = 600;
    let gateway = Running::calling(config, &calls).await;
    let ask = async |count: usize| {
        let asked = futures_util::future::join_all((0..count).map(|_| gateway.ask(GET)));
        let time = async {
            says(&gateway, &format!("gateway_under_way{{pool=\"service\"}} {count}")).await;
            // One after the other.
            passes(2 * Duration::from_millis(600)).await;
        };
        let (asked, ()) = tokio::join!(asked, time);
        assert!(asked.iter().all(|answer| answer.problem() == "unavailable"), "{asked:?}");
    };
    ask(ENOUGH).await;
    may_probe(&breakers).await;
    ask(1).await;
    assert_eq!(breaker(&breakers, "service").status(Instant::now()).opened, 2);
}
