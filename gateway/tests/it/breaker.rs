//! A service that is away is left alone: what its breaker counts, what it does not, and who may hold it.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::header::AGE;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use purlin::message::Clock;
use purlin::resilience::{
    Breaker, BreakerState, Breakers, Calls, Forced, Operator, Policies, policies::Section,
};
use purlin_gateway::auth::{Claims, Rules, Signer, Verifier, VerifyError};
use purlin_gateway::calls::{TOKEN_KEYS, callee, section};
use purlin_gateway::config::{Config, Pool, Route};
use purlin_gateway::core::Access;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cascade::{has_got, says};
use crate::world::{
    Answer, Caller, Desk, Got, PATIENCE, Running, Service, ServiceBody, config, dead_address, full,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: shop\r\n\r\n";
const OTHER: &str = "GET /other HTTP/1.1\r\nHost: shop\r\n\r\n";

/// As many failures in a row open it.
const ENOUGH: usize = 10;

fn calls(said: serde_json::Value) -> (Calls, Breakers) {
    let file: Section = serde_json::from_value(said).unwrap();
    let policies = Policies::built_in().with("the gateway", section(["service", "other"])).unwrap();
    let breakers = Breakers::new();
    (Calls::new(policies.with("this test", file).unwrap(), &breakers), breakers)
}

fn breaker(breakers: &Breakers, pool: &str) -> Breaker {
    breakers.find(&callee(pool)).unwrap()
}

fn state(breakers: &Breakers) -> BreakerState {
    breaker(breakers, "service").status(Instant::now()).state
}

/// Two pools: `/other` goes to the second.
fn beside(service: std::net::SocketAddr, other: &Service) -> Config {
    let mut config = config(&[service]);
    config.pools.insert("other".into(), Pool { endpoints: vec![other.address.to_string()] });
    config.routes.push(Route::new("/other", Access::Public, "other"));
    config
}

fn is_open(answer: &Answer) {
    assert_eq!((answer.status, answer.problem().as_str()), (503, "circuit-open"));
    let after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=2).contains(&after), "{after}");
}

#[tokio::test]
async fn a_service_that_is_gone_is_left_alone_and_used_again_when_it_is_back() {
    let (service, other) = (Service::named("service").await, Service::named("other").await);
    let address = service.address;
    let (calls, breakers) = calls(json!({ "gateway-service": { "breaker": { "timeout": "200ms" } } }));
    let gateway = Running::calling(beside(address, &other), &calls).await;
    assert_eq!(gateway.ask(GET).await.text(), "service");
    drop(service);
    for _ in 0..ENOUGH {
        let answer = gateway.ask(GET).await;
        assert!(matches!(answer.problem().as_str(), "unavailable" | "broke-off"), "{answer:?}");
    }
    is_open(&gateway.ask(GET).await);
    assert_eq!(gateway.ask(OTHER).await.text(), "other");
    assert_eq!(breaker(&breakers, "other").status(Instant::now()).state, BreakerState::Closed);

    let _service =
        Service::on(TcpListener::bind(address).await.unwrap(), |_| async { Response::new(full("back")) });
    let back = async {
        while gateway.ask(GET).await.text() != "back" || state(&breakers) != BreakerState::Closed {}
    };
    tokio::time::timeout(PATIENCE, back).await.expect("it is used again");
}

#[tokio::test]
async fn what_a_service_says_of_itself_counts_and_what_it_says_of_others_or_of_a_request_does_not() {
    for (status, header, opens) in [
        (502, None, true),
        (503, None, true),
        (504, None, true),
        (502, Some(("purlin-fault-of", "another")), false),
        (503, Some(("purlin-fault-of", "another")), false),
        (504, Some(("purlin-fault-of", "another")), false),
        (503, Some(("purlin-fault-kind", "overloaded")), false),
        (500, None, false),
        (404, None, false),
        (429, None, false),
    ] {
        let service = Service::start(move |_| async move {
            let mut response = Response::new(full("said"));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            if let Some((name, value)) = header {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            response
        })
        .await;
        let (calls, breakers) = calls(json!({}));
        let gateway = Running::calling(config(&[service.address]), &calls).await;
        for _ in 0..ENOUGH {
            let answer = gateway.ask(GET).await;
            assert_eq!((answer.status, answer.text()), (status, "said"), "what it says is passed on");
            for ours in ["purlin-fault-of", "purlin-fault-kind"] {
                assert_eq!(answer.header(ours), None, "whose fault it is is between it and us");
            }
        }
        let expected = if opens { BreakerState::Open } else { BreakerState::Closed };
        assert_eq!(state(&breakers), expected, "{status} {header:?}");
        if opens {
            is_open(&gateway.ask(GET).await);
            assert_eq!(service.got().len(), ENOUGH, "it got nothing more");
        }
    }
}

#[tokio::test]
async fn a_service_that_hangs_for_all_the_time_it_has_opens_its_breaker() {
    let hanging = Service::start(|_| std::future::pending()).await;
    let (calls, breakers) = calls(json!({}));
    let mut config = config(&[hanging.address]);
    config.limits.request_timeout_ms = 50;
    let gateway = Running::calling(config, &calls).await;
    let asked = futures_util::future::join_all((0..ENOUGH).map(|_| gateway.ask(GET))).await;
    assert!(asked.iter().all(|answer| answer.problem() == "timeout"));
    assert_eq!(state(&breakers), BreakerState::Open);
    is_open(&gateway.ask(GET).await);
}

#[tokio::test]
async fn a_route_that_hangs_does_not_close_its_service_to_the_others() {
    let service = Service::start(|got| async move {
        match got.uri.path() {
            "/hanging" => std::future::pending().await,
            _ => Response::new(full("quick")),
        }
    })
    .await;
    let (calls, breakers) = calls(json!({}));
    let mut config = config(&[service.address]);
    config.limits.request_timeout_ms = 200;
    let gateway = Running::calling(config, &calls).await;
    let hanging = "GET /hanging HTTP/1.1\r\nHost: shop\r\n\r\n";
    let asked = futures_util::future::join_all((0..3 * ENOUGH).map(|_| gateway.ask(hanging)));
    let others = async {
        for count in 0..ENOUGH {
            has_got(&service, 3 * ENOUGH + count).await;
            assert_eq!(gateway.ask(GET).await.text(), "quick");
        }
    };
    let (asked, ()) = tokio::join!(asked, others);
    assert!(asked.iter().all(|answer| answer.problem() == "timeout"));
    assert_eq!(state(&breakers), BreakerState::Closed);
    // With nobody answered, it is the service that hangs.
    let asked = futures_util::future::join_all((0..ENOUGH).map(|_| gateway.ask(hanging))).await;
    assert!(asked.iter().all(|answer| answer.problem() == "timeout"));
    assert_eq!(state(&breakers), BreakerState::Open);
}

#[tokio::test]
async fn what_callers_do_opens_no_breaker() {
    let hanging = Service::start(|_| std::future::pending()).await;
    let (calls, breakers) = calls(json!({}));
    let mut config = config(&[hanging.address]);
    config.limits.body_bytes = 8;
    let gateway = Running::calling(config, &calls).await;
    // They hang up,
    for count in 1..=2 * ENOUGH {
        let mut caller = gateway.connect().await;
        caller.write(GET).await;
        has_got(&hanging, count).await;
    }
    // give next to no time,
    let hurried = "GET / HTTP/1.1\r\nHost: shop\r\nx-request-timeout-ms: 20\r\n\r\n";
    let asked = futures_util::future::join_all((0..2 * ENOUGH).map(|_| gateway.ask(hurried))).await;
    assert!(asked.iter().all(|answer| answer.problem() == "timeout"));
    // send too much,
    let large =
        "POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n123456789\r\n0\r\n\r\n";
    for _ in 0..2 * ENOUGH {
        assert_eq!(gateway.ask(large).await.problem(), "body-too-large");
    }
    // or what is nothing,
    let broken = "POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n";
    for _ in 0..2 * ENOUGH {
        assert_eq!(gateway.ask(broken).await.problem(), "truncated-body");
    }
    // or too slowly.
    let slow = "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 4\r\nx-request-timeout-ms: 500\r\n\r\nx";
    let asked = futures_util::future::join_all((0..2 * ENOUGH).map(|_| gateway.ask(slow))).await;
    let problems: Vec<_> = asked.iter().map(Answer::problem).collect();
    assert!(problems.iter().all(|problem| problem == "body-too-slow"), "{problems:?}");
    let status = breaker(&breakers, "service").status(Instant::now());
    assert_eq!((status.state, status.failures), (BreakerState::Closed, 0));
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_for_all_the_time_there_is_is_no_fault_of_the_service() {
    // The time is the route's, or the policy's.
    for (of_route, of_policy) in [(1000, "5s"), (10_000, "1s")] {
        let service = Service::named("service").await;
        let (calls, breakers) = calls(json!({ "gateway-service": { "attempt": of_policy } }));
        let mut config = config(&[service.address]);
        config.limits.request_timeout_ms = of_route;
        let gateway = Running::calling(config, &calls).await;
        let slow = "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 4\r\n\r\nx";
        let asked = futures_util::future::join_all((0..2 * ENOUGH).map(|_| gateway.ask(slow))).await;
        let problems: Vec<_> = asked.iter().map(Answer::problem).collect();
        assert!(problems.iter().all(|problem| problem == "body-too-slow"), "{problems:?}");
        assert_eq!(state(&breakers), BreakerState::Closed, "{of_policy}");
    }
}

/// Waits until the next request may be a probe.
async fn may_probe(breakers: &Breakers) {
    let breaker = breaker(breakers, "service");
    // It says how long that is, up to the last millisecond.
    let moment = Duration::from_millis(1);
    let waiting = async {
        while let Some(rests) = breaker.rests(Instant::now() - moment) {
            tokio::time::sleep(rests).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it lets probes through");
    assert_eq!(breaker.state(), BreakerState::Open);
}

/// Asks until a request is let through to the service as its `count`th; whoever made it waits for the answer. While its
/// breaker is half-open that takes a place, which there is once a probe has ended, or has been waited for long enough.
async fn let_through(gateway: &Running, service: &Service, count: usize) -> Caller {
    let asking = async {
        loop {
            let mut caller = gateway.connect().await;
            caller.write(GET).await;
            tokio::select! {
                refused = caller.answer() => is_open(&refused),
                () = has_got(service, count) => return caller,
            }
            // He asks again as anybody does who is refused, and leaves the machine to the others meanwhile.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("it is let through in time")
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
async fn probes_that_hang_keep_nobody_out_for_long() {
    let desk = Desk::default();
    let (gateway, breakers, service) = back(desk.answers()).await;
    let (_hanging, _too) =
        (let_through(&gateway, &service, 1).await, let_through(&gateway, &service, 2).await);
    is_open(&gateway.ask(GET).await);
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
    let _slow = let_through(&gateway, &service, 1).await;
    let mut good = let_through(&gateway, &service, 2).await;
    desk.answer(1, 200);
    assert_eq!(good.answer().await.text(), "200");
    // There is one place more, which the first one leaves.
    let mut bug = let_through(&gateway, &service, 3).await;
    assert_eq!(state(&breakers), BreakerState::HalfOpen);
    desk.answer(2, 500);
    assert_eq!(bug.answer().await.text(), "500");
    let (_slow, mut bug) =
        (let_through(&gateway, &service, 4).await, let_through(&gateway, &service, 5).await);
    desk.answer(4, 500);
    assert_eq!(bug.answer().await.text(), "500");
    let _next = let_through(&gateway, &service, 6).await;
    assert_eq!(state(&breakers), BreakerState::HalfOpen);
    desk.answer(0, 200);
    let closed = async {
        while state(&breakers) != BreakerState::Closed {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.expect("the first one is answered, too");
}

#[tokio::test]
async fn probes_that_fail_late_open_a_hop_again_though_others_have_their_places() {
    let desk = Desk::default();
    let (gateway, breakers, service) = back(desk.answers()).await;
    let mut first = let_through(&gateway, &service, 1).await;
    let _second = let_through(&gateway, &service, 2).await;
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
    // By now a probe was waited for long enough, and so were those from before.
    let _third = let_through(&gateway, &service, probes + 2).await;
    for (at, status) in [(0, 200), (1, 503)] {
        desk.answer(at, status);
        assert_eq!(before[at].answer().await.status, status);
        let status = breaker(&breakers, "service").status(Instant::now());
        assert_eq!((status.state, status.opened), (BreakerState::HalfOpen, 1));
    }
}

#[tokio::test]
async fn nobody_keeps_a_hop_closed_by_giving_little_time() {
    let service = Service::start(|got| async move {
        let hurried = got.header("x-hurried").is_some();
        let mut response = Response::new(full("away"));
        *response.status_mut() =
            if hurried { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::SERVICE_UNAVAILABLE };
        if hurried {
            response.headers_mut().insert("purlin-fault-of", HeaderValue::from_static("another"));
        }
        response
    })
    .await;
    let (calls, breakers) = calls(json!({}));
    let gateway = Running::calling(config(&[service.address]), &calls).await;
    let hurried = "GET / HTTP/1.1\r\nHost: shop\r\nx-hurried: 1\r\nx-request-timeout-ms: 9000\r\n\r\n";
    for _ in 0..ENOUGH {
        assert_eq!(state(&breakers), BreakerState::Closed);
        for _ in 0..2 {
            assert_eq!(gateway.ask(hurried).await.status, 504);
        }
        assert_eq!(gateway.ask(GET).await.status, 503);
    }
    assert_eq!(state(&breakers), BreakerState::Open);
}

#[tokio::test]
async fn an_answer_to_haste_is_no_sign_that_a_service_answers() {
    let service = Service::start(|got| async move {
        match got.uri.path() {
            "/hurried" => {
                let mut response = Response::new(full("too short"));
                *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
                response
            }
            _ => std::future::pending().await,
        }
    })
    .await;
    let (calls, breakers) = calls(json!({}));
    let mut config = config(&[service.address]);
    config.limits.request_timeout_ms = 500;
    let gateway = Running::calling(config, &calls).await;
    let hanging = futures_util::future::join_all((0..ENOUGH).map(|_| gateway.ask(GET)));
    let hurried = async {
        has_got(&service, ENOUGH).await;
        let hurried = "GET /hurried HTTP/1.1\r\nHost: shop\r\nx-request-timeout-ms: 400\r\n\r\n";
        assert_eq!(gateway.ask(hurried).await.text(), "too short");
    };
    let (hanging, ()) = tokio::join!(hanging, hurried);
    assert!(hanging.iter().all(|answer| answer.problem() == "timeout"));
    assert_eq!(state(&breakers), BreakerState::Open);
}

/// A service that closes each connection as soon as it has read so much of it.
async fn closing_behind(end: &'static [u8]) -> (std::net::SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut read = Vec::new();
            while !read.windows(end.len()).any(|window| window == end) {
                if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                    break;
                }
            }
        }
    });
    (address, tasks)
}

#[tokio::test]
async fn a_service_that_closes_without_all_of_a_body_may_have_answered_and_is_not_blamed() {
    let (address, _closing) = closing_behind(b"\r\n\r\n").await;
    let (calls, breakers) = calls(json!({}));
    let gateway = Running::calling(config(&[address]), &calls).await;
    // More than is read behind a refusal.
    let part = "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 100000\r\n\r\nx";
    for _ in 0..2 * ENOUGH {
        assert_eq!(gateway.ask(part).await.problem(), "broke-off");
    }
    let status = breaker(&breakers, "service").status(Instant::now());
    assert_eq!((status.state, status.failures), (BreakerState::Closed, 0));
    // One that has all of it, and closes, has broken off.
    for whole in ["GET / HTTP/1.1\r\nHost: shop\r\n\r\n"; ENOUGH] {
        assert_eq!(gateway.ask(whole).await.problem(), "broke-off");
    }
    assert_eq!(state(&breakers), BreakerState::Open);
}

#[tokio::test]
async fn a_service_that_closes_when_it_has_all_of_a_body_has_broken_off() {
    let (address, _closing) = closing_behind(b"four").await;
    let (calls, breakers) = calls(json!({}));
    let gateway = Running::calling(config(&[address]), &calls).await;
    let post = "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 4\r\n\r\nfour";
    for _ in 0..ENOUGH {
        assert_eq!(gateway.ask(post).await.problem(), "broke-off");
    }
    assert_eq!(state(&breakers), BreakerState::Open);
}

/// Who accepts connections for somebody who is not there, and resets them.
async fn resetting() -> (std::net::SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_zero_linger().unwrap();
        }
    });
    (address, tasks)
}

#[tokio::test]
async fn a_service_that_resets_connections_is_left_alone_whatever_comes_first_the_reset_or_the_request() {
    for _ in 0..5 {
        let (address, _resetting) = resetting().await;
        let (calls, breakers) = calls(json!({}));
        let gateway = Running::calling(config(&[address]), &calls).await;
        for _ in 0..ENOUGH {
            let answer = gateway.ask(GET).await;
            assert!(matches!(answer.problem().as_str(), "unavailable" | "broke-off"), "{answer:?}");
        }
        assert_eq!(state(&breakers), BreakerState::Open);
    }
}

/// A service that answers who sends no body, and reads no other request to its end.
async fn taking_no_bodies() -> (std::net::SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut read = Vec::new();
            while !read.windows(4).any(|window| window == b"\r\n\r\n") {
                if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            if read.starts_with(b"GET") {
                let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nwell";
                let _ = stream.write_all(answer).await;
            }
        }
    });
    (address, tasks)
}

#[tokio::test]
async fn a_service_that_takes_no_body_to_its_end_is_blamed_once_it_has_answered_nobody_for_long() {
    let (address, _taking) = taking_no_bodies().await;
    let (calls, breakers) = calls(json!({ "gateway-service": { "breaker": { "timeout": "200ms" } } }));
    let mut config = config(&[address]);
    config.limits.request_timeout_ms = 1500;
    config.limits.body_bytes = 16 << 20;
    let given = Duration::from_millis(config.limits.request_timeout_ms);
    let gateway = Running::calling(config, &calls).await;
    let part = "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 100000\r\n\r\nx";
    // As long as it answers others it may just not want them.
    let begun = Instant::now();
    while begun.elapsed() < given {
        for _ in 0..2 * ENOUGH {
            assert_eq!(gateway.ask(part).await.problem(), "broke-off");
        }
        assert_eq!(gateway.ask(GET).await.text(), "well");
    }
    assert_eq!(state(&breakers), BreakerState::Closed);
    let opens = async {
        while state(&breakers) == BreakerState::Closed {
            gateway.ask(part).await;
        }
    };
    tokio::time::timeout(PATIENCE, opens).await.expect("nobody is answered any more");
    // Who goes on sending what it does not take keeps nobody from it.
    may_probe(&breakers).await;
    let large = "x".repeat(8 << 20);
    let large = format!("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: {}\r\n\r\n{large}", large.len());
    for _ in 0..2 {
        assert_eq!(gateway.ask(&large).await.problem(), "broke-off");
        assert_eq!(state(&breakers), BreakerState::HalfOpen);
    }
    for _ in 0..2 {
        assert_eq!(gateway.ask(GET).await.text(), "well");
    }
    let status = breaker(&breakers, "service").status(Instant::now());
    assert_eq!((status.state, status.opened), (BreakerState::Closed, 1));
}

/// Somebody who takes no connections any more, so that whoever wants one waits; for as long as the connections live.
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
    let asked = futures_util::future::join_all((0..ENOUGH).map(|_| gateway.ask(GET))).await;
    assert!(asked.iter().all(|answer| answer.problem() == "unavailable"), "{asked:?}");
    may_probe(&breakers).await;
    assert_eq!(gateway.ask(GET).await.problem(), "unavailable");
    assert_eq!(breaker(&breakers, "service").status(Instant::now()).opened, 2);
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
async fn a_body_that_ends_at_the_last_moment_is_no_fault_of_the_service() {
    let hanging = Service::start(|_| std::future::pending()).await;
    let (calls, breakers) = calls(json!({}));
    let mut config = config(&[hanging.address]);
    config.limits.request_timeout_ms = 1000;
    let gateway = Running::calling(config, &calls).await;
    let late = async || {
        let mut caller = gateway.connect().await;
        caller.write("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 2\r\n\r\nx").await;
        // This is how slow he is; if it is slower still, his body does not come at all.
        tokio::time::sleep(Duration::from_millis(900)).await;
        caller.write("y").await;
        caller.answer().await
    };
    let asked = futures_util::future::join_all((0..2 * ENOUGH).map(|_| late())).await;
    for answer in asked {
        assert!(["timeout", "body-too-slow"].contains(&answer.problem().as_str()), "{answer:?}");
    }
    let status = breaker(&breakers, "service").status(Instant::now());
    assert_eq!((status.state, status.failures), (BreakerState::Closed, 0));
}

#[tokio::test]
async fn a_service_that_answers_nobody_is_found_out_though_its_callers_are_in_a_hurry() {
    let service = Service::start(|got| async move {
        match got.uri.path() {
            "/quick" => Response::new(full("quick")),
            _ => std::future::pending().await,
        }
    })
    .await;
    let (calls, breakers) = calls(json!({}));
    let mut config = config(&[service.address]);
    config.limits.request_timeout_ms = 1500;
    let gateway = Running::calling(config, &calls).await;
    let hurried = "GET / HTTP/1.1\r\nHost: shop\r\nx-request-timeout-ms: 1100\r\n\r\n";
    let all = async || {
        let asked = futures_util::future::join_all((0..2 * ENOUGH).map(|_| gateway.ask(hurried))).await;
        assert!(asked.iter().all(|answer| answer.problem() == "timeout"));
        state(&breakers)
    };
    // It may be their haste, as long as the route would have given more, or others are answered.
    assert_eq!(all().await, BreakerState::Closed);
    assert_eq!(gateway.ask("GET /quick HTTP/1.1\r\nHost: shop\r\n\r\n").await.text(), "quick");
    assert_eq!(all().await, BreakerState::Closed);
    assert_eq!(all().await, BreakerState::Open, "nobody was answered for longer than the route gives");
}

#[tokio::test]
async fn a_policy_may_give_less_time_than_a_route() {
    let hanging = Service::start(|_| std::future::pending()).await;
    let (calls, breakers) = calls(json!({ "gateway-service": { "attempt": "1s" } }));
    let gateway = Running::calling(config(&[hanging.address]), &calls).await;
    let asked = futures_util::future::join_all((0..ENOUGH).map(|_| gateway.ask(GET))).await;
    assert!(asked.iter().all(|answer| answer.problem() == "timeout"));
    assert_eq!(state(&breakers), BreakerState::Open);
}

#[tokio::test]
async fn an_operator_holds_a_hop_open_and_lets_it_go() {
    let service = Service::named("service").await;
    let (calls, breakers) = calls(json!({}));
    let gateway = Running::calling(config(&[service.address]), &calls).await;
    let held = breaker(&breakers, "service");
    held.force_by(Some(Forced::Open), Operator::new("a test", "it is looked at"));
    is_open(&gateway.ask(GET).await);
    assert!(service.got().is_empty());
    held.force_by(None, Operator::new("a test", "it is well"));
    assert_eq!(gateway.ask(GET).await.text(), "service");
}

#[tokio::test]
async fn a_gateway_of_its_own_shows_its_breakers_in_its_numbers() {
    let gateway = Running::start(config(&[dead_address().await])).await;
    for _ in 0..ENOUGH {
        assert_eq!(gateway.ask(GET).await.problem(), "unavailable");
    }
    is_open(&gateway.ask(GET).await);
    let numbers = gateway.metrics.render();
    assert!(numbers.contains("purlin_breaker_state{callee=\"gateway-service\"} 2"), "{numbers}");
    assert!(numbers.contains("gateway_refusals_total{problem=\"circuit-open\"} 1"), "{numbers}");
}

#[tokio::test]
async fn an_issuer_of_keys_that_is_away_is_left_alone_too() {
    let (calls, breakers) = calls(json!({}));
    let url = format!("http://{}/keys", dead_address().await).parse().unwrap();
    let clock = Clock::system();
    let verifier = Verifier::calling(url, Rules::default(), clock, calls.caller(TOKEN_KEYS));
    let held = breakers.find(TOKEN_KEYS).unwrap();
    let mut changes = held.changes();
    tokio::select! {
        () = verifier.keep_fresh() => unreachable!("it asks for ever"),
        change = tokio::time::timeout(PATIENCE, changes.next()) => {
            assert_eq!(change.expect("it opens in time").unwrap().to, BreakerState::Open);
        }
    }
    assert_eq!(held.status(Instant::now()).opened, 1);
    // While it is left alone, tokens may hold and nobody can say so.
    let (signer, _) = Signer::generate().unwrap();
    let token = signer.sign(&Claims::new("7", 4_000_000_000)).unwrap();
    assert!(matches!(verifier.verify(&token).await, Err(VerifyError::NoKeys)));
}
