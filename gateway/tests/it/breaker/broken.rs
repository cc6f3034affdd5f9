//! Connections that break: a service that is away, and one that does not want the rest of a body.

use std::net::SocketAddr;
use std::time::Duration;

use purlin::resilience::BreakerState;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{ENOUGH, GET, breaker, calls, may_probe, state};
use crate::world::{Running, config, passes};

/// What comes of a request until it has this in it, or ends.
async fn read_until(stream: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let mut read = Vec::new();
    while !read.windows(end.len()).any(|window| window == end) {
        if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
            break;
        }
    }
    read
}

/// A service that closes each connection as soon as it has read so much of it, and said this.
async fn closing_behind(end: &'static [u8], words: &'static str) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_until(&mut stream, end).await;
            let _ = stream.write_all(words.as_bytes()).await;
        }
    });
    (address, tasks)
}

/// What a service may say before it answers, or while it does.
const WORDS: [&str; 4] =
    ["", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n", "HTTP/1.1 4"];

#[tokio::test]
async fn a_service_that_closes_without_all_of_a_body_may_have_answered_and_is_not_blamed() {
    for words in WORDS {
        let (address, _closing) = closing_behind(b"\r\n\r\nx", words).await;
        let (calls, breakers) = calls(json!({}));
        let gateway = Running::calling(config(&[address]), &calls).await;
        // More than is read behind a refusal.
        let part = "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 100000\r\n\r\nx";
        for _ in 0..2 * ENOUGH {
            assert_eq!(gateway.ask(part).await.problem(), "broke-off");
        }
        let status = breaker(&breakers, "service").status(Instant::now());
        assert_eq!((status.state, status.failures), (BreakerState::Closed, 0), "{words}");
    }
}

/// Whole requests.
const WHOLE: [&str; 2] = [GET, "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 4\r\n\r\nfour"];

#[tokio::test]
async fn a_service_that_closes_when_it_has_all_of_a_request_has_broken_off() {
    for (words, whole) in WORDS.into_iter().flat_map(|words| WHOLE.map(|whole| (words, whole))) {
        let end = if whole == GET { "\r\n\r\n" } else { "four" };
        let (address, _closing) = closing_behind(end.as_bytes(), words).await;
        let (calls, breakers) = calls(json!({}));
        let gateway = Running::calling(config(&[address]), &calls).await;
        for _ in 0..ENOUGH {
            assert_eq!(gateway.ask(whole).await.problem(), "broke-off");
        }
        assert_eq!(state(&breakers), BreakerState::Open, "{words}");
    }
}

#[tokio::test]
async fn a_service_that_says_something_and_then_hangs_has_not_answered() {
    for words in WORDS {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (calls, breakers) = calls(json!({}));
        let mut config = config(&[listener.local_addr().unwrap()]);
        config.limits.request_timeout_ms = 2000;
        let gateway = Running::calling(config, &calls).await;
        let asked = futures_util::future::join_all((0..ENOUGH).map(|_| gateway.ask(GET)));
        let service = async {
            let mut hanging = Vec::new();
            while hanging.len() < ENOUGH {
                let (mut stream, _) = listener.accept().await.unwrap();
                assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
                stream.write_all(words.as_bytes()).await.unwrap();
                hanging.push(stream);
            }
            passes(Duration::from_secs(2)).await;
            hanging
        };
        let (asked, _hanging) = tokio::join!(asked, service);
        assert!(asked.iter().all(|answer| answer.problem() == "timeout"), "{words}: {asked:?}");
        assert_eq!(state(&breakers), BreakerState::Open, "{words}");
    }
}

/// Who accepts connections for somebody who is not there, and resets them, in a thread of its own: now and then before a
/// request is written. It ends with the sender.
fn resetting() -> (SocketAddr, oneshot::Sender<()>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let (end, ended) = oneshot::channel();
    let resets = async move {
        let listener = TcpListener::from_std(listener).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_zero_linger().unwrap();
        }
    };
    let until_then = async move {
        tokio::select! {
            () = resets => {}
            _ = ended => {}
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    std::thread::spawn(move || runtime.block_on(until_then));
    (address, end)
}

#[tokio::test]
async fn a_service_that_resets_connections_is_left_alone_whatever_comes_first_the_reset_or_the_request() {
    for whole in WHOLE.into_iter().cycle().take(10) {
        let (address, _resetting) = resetting();
        let (calls, breakers) = calls(json!({}));
        let gateway = Running::calling(config(&[address]), &calls).await;
        for _ in 0..ENOUGH {
            let answer = gateway.ask(whole).await;
            assert!(matches!(answer.problem().as_str(), "unavailable" | "broke-off"), "{answer:?}");
        }
        assert_eq!(state(&breakers), BreakerState::Open, "{whole}");
    }
}

/// A service that answers who sends no body, and reads no other request to its end.
async fn taking_no_bodies() -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let read = read_until(&mut stream, b"\r\n\r\n").await;
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
    config.limits.request_timeout_ms = 2400;
    config.limits.body_bytes = 16 << 20;
    let given = Duration::from_millis(config.limits.request_timeout_ms);
    let gateway = Running::calling(config, &calls).await;
    let part = "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 100000\r\n\r\nx";
    // As long as it answers others it may just not want them.
    for _ in 0..4 {
        for _ in 0..2 * ENOUGH {
            assert_eq!(gateway.ask(part).await.problem(), "broke-off");
        }
        assert_eq!(gateway.ask(GET).await.text(), "well");
        passes(given / 3).await;
    }
    // Nobody is answered any more, and for a while that may be chance.
    for _ in 0..3 {
        assert_eq!(gateway.ask(part).await.problem(), "broke-off");
        passes(given / 3).await;
    }
    assert_eq!(breaker(&breakers, "service").status(Instant::now()).failures, 0);
    for _ in 0..ENOUGH {
        assert_eq!(state(&breakers), BreakerState::Closed);
        assert_eq!(gateway.ask(part).await.problem(), "broke-off");
    }
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
