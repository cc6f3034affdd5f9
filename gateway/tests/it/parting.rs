//! Callers who say all that they have to say and close their side of the connection, and those who are gone.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;

use crate::cascade::{has_got, says};
use crate::world::{Caller, Running, Service, ServiceBody, config, passes};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A service that answers with the pieces that it is given, and has its head ready at once only if there is one.
async fn in_pieces() -> (mpsc::Sender<&'static str>, Service) {
    let (sender, receiver) = mpsc::channel::<&'static str>(1);
    let receiver = std::sync::Mutex::new(Some(receiver));
    let service = Service::start(move |_| {
        let receiver = receiver.lock().unwrap().take();
        async move {
            let mut receiver = receiver.unwrap();
            let mut first = receiver.recv().await;
            let pieces = futures_util::stream::poll_fn(move |context| {
                let piece = match first.take() {
                    Some(piece) => std::task::Poll::Ready(Some(piece)),
                    None => receiver.poll_recv(context),
                };
                piece.map(|piece| piece.map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::from(piece)))))
            });
            let body: ServiceBody = StreamBody::new(pieces).boxed();
            Response::new(body)
        }
    })
    .await;
    (sender, service)
}

/// Somebody who asks, and closes his side.
async fn said_all(gateway: &Running) -> Caller {
    let mut caller = gateway.connect().await;
    caller.write(GET).await;
    caller.stream.shutdown().await.unwrap();
    caller
}

#[tokio::test]
async fn who_closes_his_side_behind_his_request_is_answered() {
    let service = Service::named("service").await;
    let gateway = Running::start(config(&[service.address])).await;
    for _ in 0..20 {
        let mut caller = said_all(&gateway).await;
        assert_eq!(caller.answer().await.text(), "service");
        assert!(caller.is_closed().await, "and nothing more is waited for");
    }
}

#[tokio::test]
async fn he_is_waited_for_as_long_as_he_takes_something_now_and_then() {
    let (sender, service) = in_pieces().await;
    let gateway = Running::start(config(&[service.address])).await;
    let mut caller = said_all(&gateway).await;
    has_got(&service, 1).await;
    for piece in ["one", "two", "three"] {
        passes(Duration::from_millis(700)).await;
        sender.send(piece).await.unwrap();
        caller.until(piece.as_bytes()).await;
    }
    drop(sender);
    caller.until(b"0\r\n\r\n").await;
    assert!(caller.is_closed().await);
}

#[tokio::test]
async fn who_is_silent_for_longer_is_gone_and_leaves_his_place() {
    let (_sender, service) = in_pieces().await;
    let gateway = Running::start(config(&[service.address])).await;
    let mut caller = said_all(&gateway).await;
    has_got(&service, 1).await;
    passes(Duration::from_millis(700)).await;
    assert!(gateway.metrics.render().contains("gateway_under_way{pool=\"service\"} 1"));
    passes(Duration::from_millis(700)).await;
    says(&gateway, "gateway_under_way{pool=\"service\"} 0").await;
    assert!(caller.is_closed().await);
}

#[tokio::test]
async fn requests_behind_each_other_are_all_answered_before_the_end() {
    let service = Service::named("service").await;
    let gateway = Running::start(config(&[service.address])).await;
    let mut caller = gateway.connect().await;
    caller.write([GET, GET, GET].concat()).await;
    caller.stream.shutdown().await.unwrap();
    for _ in 0..3 {
        assert_eq!(caller.answer().await.text(), "service");
    }
    assert!(caller.is_closed().await);
}
