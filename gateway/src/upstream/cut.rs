//! A service that closes while the end of a body is written to it, which nobody outside can bring about at will: here nothing
//! is heard of the connection between the close and the write.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use purlin::resilience::{Breakers, Calls, Policies};
use purlin::telemetry::metrics::Metrics;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Call, Upstreams};
use crate::calls::{callee, section};
use crate::config::{Limits, Pool};
use crate::core::Refusal;
use crate::tasks::Tasks;
use crate::unread::Unread;

/// The body of a request as a caller sends it, and where he does.
async fn caller() -> (Unread, DuplexStream) {
    let (mut theirs, ours) = tokio::io::duplex(1024);
    let (arrived, mut arrives) = mpsc::channel(1);
    let service = service_fn(move |request: Request<Incoming>| {
        let arrived = arrived.clone();
        async move {
            let _ = arrived.send(request).await;
            std::future::pending::<Result<Response<String>, Infallible>>().await
        }
    });
    #[expect(clippy::disallowed_methods, reason = "it ends with the runtime of the test")]
    tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(ours), service));
    theirs.write_all(b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 8\r\n\r\nfour").await.unwrap();
    let (head, body) = arrives.recv().await.unwrap().into_parts();
    (Unread::new(&head.headers, body), theirs)
}

async fn who_closes_behind_half_of_a_body_while_the_rest_is_written() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoints = vec![listener.local_addr().unwrap().to_string()];
    let pools = BTreeMap::from([("service".to_owned(), Pool { endpoints })]);
    let breakers = Breakers::new();
    let policies = Policies::built_in().with("the gateway", section(["service"])).unwrap();
    let (tasks, _end) = Tasks::new();
    let calls = Calls::new(policies, &breakers);
    let upstreams = Upstreams::new(&pools, &Limits::default(), &tasks, (&calls, &Metrics::new()));
    let given = Duration::from_secs(15);
    let mut headers = HeaderMap::new();
    headers.insert("content-length", 8.into());
    let call = Call {
        pool: "service",
        method: Method::POST,
        target: "/".parse().unwrap(),
        headers,
        room: None,
        deadline: Instant::now() + given,
        given,
        hurried: false,
    };
    let (mut unread, mut caller) = caller().await;
    let service = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut read = Vec::new();
        while !read.ends_with(b"four") {
            assert!(stream.read_buf(&mut read).await.unwrap() > 0);
        }
        stream.set_zero_linger().unwrap();
        drop(stream);
        caller.write_all(b"more").await.unwrap();
        // The caller stays.
        std::future::pending::<()>().await;
    };
    let answered = tokio::select! {
        answered = upstreams.send(&call, &mut unread) => answered,
        () = service => unreachable!("it is pending"),
    };
    assert!(matches!(answered, Err(Refusal::BrokeOff)), "{answered:?}");
    assert_eq!(breakers.find(&callee("service")).unwrap().status(Instant::now()).failures, 0);
}

#[test]
fn a_service_that_closes_while_the_end_of_a_body_is_written_may_have_answered_and_is_not_blamed() {
    // What happens outside is looked at when all else is done, and not before.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().event_interval(10_000).build().unwrap();
    runtime.block_on(who_closes_behind_half_of_a_body_while_the_rest_is_written());
}
