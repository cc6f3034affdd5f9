//! Bodies that are too large, too slow, or break off.

use http::Response;
use tokio::io::AsyncWriteExt as _;

use crate::world::{Running, Service, config, full};

const MIB: usize = 1 << 20;

async fn echo() -> Service {
    Service::start(|got| async move { Response::new(full(got.body.unwrap_or_default().len().to_string())) })
        .await
}

fn sized(len: usize) -> Vec<u8> {
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\n\r\n");
    [head.as_bytes(), &vec![b'x'; len]].concat()
}

fn chunked(len: usize) -> Vec<u8> {
    let mut request = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in vec![b'x'; len].chunks(50_000) {
        request.extend(format!("{:x}\r\n", chunk.len()).bytes());
        request.extend(chunk);
        request.extend(b"\r\n");
    }
    request.extend(b"0\r\n\r\n");
    request
}

#[tokio::test]
async fn a_body_of_just_the_limit_passes() {
    let service = echo().await;
    let gateway = Running::start(config(&[service.address])).await;
    for request in [sized(MIB), chunked(MIB)] {
        let answer = gateway.ask(request).await;
        assert_eq!((answer.status, answer.text()), (200, MIB.to_string().as_str()));
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_to_a_caller_who_writes_all_of_it_first() {
    let service = echo().await;
    let gateway = Running::start(config(&[service.address])).await;
    for request in [sized(MIB + 1), chunked(MIB + 1), sized(10 * MIB), chunked(10 * MIB)] {
        let mut caller = gateway.connect().await;
        caller.write(request).await;
        let answer = caller.answer().await;
        assert_eq!((answer.status, answer.problem().as_str()), (413, "body-too-large"));
        assert!(caller.is_closed().await);
    }
    assert!(service.got().iter().all(|got| got.body.is_none()), "no body may seem complete");
}

#[tokio::test]
async fn a_caller_who_asks_first_need_not_send_a_body_that_is_too_large() {
    let service = echo().await;
    let gateway = Running::start(config(&[service.address])).await;
    let asking = |len: usize| {
        format!("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {len}\r\n\r\n")
    };
    assert_eq!(gateway.ask(asking(10 * MIB)).await.status, 413);
    let mut caller = gateway.connect().await;
    caller.write(asking(5)).await;
    assert_eq!(caller.answer().await.status, 100);
    caller.write("hello").await;
    assert_eq!(caller.answer().await.text(), "5");
    assert_eq!(service.only().header("expect"), None);
}

#[tokio::test]
async fn a_truncated_body_is_400_and_never_seems_complete() {
    let service = echo().await;
    let gateway = Running::start(config(&[service.address])).await;
    for begun in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    ] {
        let mut caller = gateway.connect().await;
        caller.write(begun).await;
        caller.stream.shutdown().await.unwrap();
        let answer = caller.answer().await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "truncated-body"), "{begun:?}");
    }
    assert!(service.got().iter().all(|got| got.body.is_none()), "{:?}", service.got());
}

#[tokio::test]
async fn a_body_that_does_not_come_is_the_callers_timeout() {
    let service = echo().await;
    let mut config = config(&[service.address]);
    config.limits.request_timeout_ms = 100;
    let gateway = Running::start(config).await;
    let answer = gateway.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello").await;
    assert_eq!((answer.status, answer.problem().as_str()), (408, "body-too-slow"));
}

#[tokio::test]
async fn a_connection_goes_on_after_a_refusal_that_read_the_body() {
    let service = echo().await;
    let mut config = config(&[service.address]);
    config.routes[0].path = "/here".into();
    let gateway = Running::start(config).await;
    let mut caller = gateway.connect().await;
    caller.write("POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!(caller.answer().await.status, 404);
    caller.write("POST /here HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc").await;
    assert_eq!(caller.answer().await.text(), "3");
}

#[tokio::test]
async fn a_small_body_that_comes_behind_the_refusal_does_not_end_the_connection() {
    let service = echo().await;
    let mut config = config(&[service.address]);
    config.routes[0].path = "/here".into();
    let gateway = Running::start(config).await;
    let mut caller = gateway.connect().await;
    caller.write("POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n").await;
    gateway.ask("GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").await;
    caller.write("hello").await;
    let refused = caller.answer().await;
    assert_eq!((refused.status, refused.header("connection")), (404, None));
    caller.write("POST /here HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc").await;
    assert_eq!(caller.answer().await.text(), "3");
}

#[tokio::test]
async fn a_refusal_says_that_the_connection_ends_when_the_body_is_not_read() {
    let service = echo().await;
    let mut config = config(&[service.address]);
    config.routes[0].path = "/here".into();
    let gateway = Running::start(config).await;
    for head in [
        "POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n",
        "POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
        "POST /nowhere HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        "POST /here%2f HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n",
    ] {
        let mut caller = gateway.connect().await;
        caller.write(head).await;
        let refused = caller.answer().await;
        assert_eq!(refused.header("connection"), Some("close"), "{head}");
        assert!(caller.is_closed().await);
    }
}
