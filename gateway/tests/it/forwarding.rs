//! Where requests go, and what comes back.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use purlin::resilience::Criticality;
use purlin_gateway::config::{Config, Route};
use purlin_gateway::core::Access;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::world::{Running, Service, config, dead_address, full};

const GET: &str = "GET / HTTP/1.1\r\nHost: shop\r\n\r\n";

#[tokio::test]
async fn requests_go_to_the_endpoints_in_turn() {
    let (a, b) = (Service::named("a").await, Service::named("b").await);
    let gateway = Running::start(config(&[a.address, b.address])).await;
    let mut caller = gateway.connect().await;
    let mut answers = String::new();
    for _ in 0..6 {
        caller.write(GET).await;
        answers += caller.answer().await.text();
    }
    assert_eq!(answers, "ababab");
}

#[tokio::test]
async fn an_endpoint_that_refuses_connections_is_passed_over_even_with_a_body() {
    let (dead, alive) = (dead_address().await, Service::named("alive").await);
    let gateway = Running::start(config(&[dead, alive.address])).await;
    for _ in 0..6 {
        let answer = gateway.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").await;
        assert_eq!((answer.status, answer.text()), (200, "alive"));
    }
    assert_eq!(alive.got().len(), 6);
    assert!(alive.got().iter().all(|got| got.body.as_deref() == Some(b"hello")));
    // While it rests it is not even tried.
    assert!(gateway.metrics.render().contains(&format!("gateway_unreached_total{{endpoint=\"{dead}\"}} 1")));
}

#[tokio::test]
async fn without_an_endpoint_the_answer_is_503_until_one_is_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let gateway = Running::start(config(&[address, dead_address().await])).await;
    let answer = gateway.ask(GET).await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "unavailable"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    let listener = TcpListener::bind(address).await.unwrap();
    let _service = Service::on(listener, |_| async { Response::new(full("back")) });
    assert_eq!(gateway.ask(GET).await.text(), "back");
}

#[tokio::test]
async fn a_request_that_a_service_may_have_seen_is_not_sent_again() {
    let (listener, mut tasks) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), JoinSet::new());
    let rude = listener.local_addr().unwrap();
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
        }
    });
    let polite = Service::named("polite").await;
    let gateway = Running::start(config(&[rude, polite.address])).await;
    let answer = gateway.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "broke-off"));
    assert!(polite.got().is_empty());
}

#[tokio::test]
async fn a_slow_service_is_a_timeout_and_hears_how_long_it_has() {
    let service = Service::start(|_| async {
        std::future::pending::<()>().await;
        unreachable!()
    })
    .await;
    let mut config = config(&[service.address]);
    config.routes[0].timeout_ms = Some(200);
    let gateway = Running::start(config).await;
    let answer = gateway.ask(GET).await;
    assert_eq!((answer.status, answer.problem().as_str()), (504, "timeout"));
    let millis =
        |at: usize| service.got()[at].header("x-request-timeout-ms").unwrap().parse::<u64>().unwrap();
    assert!((1..=200).contains(&millis(0)));

    let hurried = gateway.ask("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Timeout-Ms: 20\r\n\r\n").await;
    assert_eq!(hurried.status, 504);
    assert!((1..=20).contains(&millis(1)));

    let hurried = gateway.ask("GET / HTTP/1.1\r\nHost: a\r\ngrpc-timeout: 20m\r\n\r\n").await;
    assert_eq!(hurried.status, 504);
    assert!((1..=20).contains(&millis(2)));
}

#[tokio::test]
async fn a_connection_that_cannot_be_made_in_time_is_503_or_504() {
    // A listener whose queue is full answers nothing at all.
    let full = tokio::net::TcpSocket::new_v4().unwrap();
    full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address: SocketAddr = full.local_addr().unwrap();
    let listener = full.listen(1).unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(address)).await
    {
        waiting.push(stream);
    }
    let mut config = config(&[address]);
    config.limits.connect_timeout_ms = 50;
    let gateway = Running::start(config).await;
    assert_eq!(gateway.ask(GET).await.status, 503);
    drop(listener);
}

#[tokio::test]
async fn the_callers_trace_goes_on_and_everybody_gets_its_id() {
    let service = Service::named("service").await;
    let gateway = Running::start(config(&[service.address])).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let with = |parent: &str| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\ntraceparent: {parent}\r\ntracestate: a=b\r\nX-Request-Id: my-request\r\n\r\n"
        )
    };
    let answer = gateway.ask(with(&format!("00-{trace}-00f067aa0ba902b7-01"))).await;
    let sent = service.only().header("traceparent").unwrap().to_owned();
    assert!(sent.contains(trace) && !sent.contains("00f067aa0ba902b7"), "{sent}");
    assert_eq!(answer.header("traceparent"), Some(sent.as_str()));
    assert_eq!(service.only().header("tracestate"), Some("a=b"));
    assert_eq!(answer.header("x-request-id"), Some("my-request"));
    assert_eq!(service.only().header("x-request-id"), Some("my-request"));

    let answer = gateway.ask(with("00-00000000000000000000000000000000-00f067aa0ba902b7-01")).await;
    assert!(!answer.header("traceparent").unwrap().contains("-00000000000000000000000000000000-"));
    assert_eq!(service.got()[1].header("tracestate"), None);
}

#[tokio::test]
async fn an_id_that_could_forge_a_log_line_is_replaced() {
    let service = Service::named("service").await;
    let gateway = Running::start(config(&[service.address])).await;
    for id in ["short", "a b c d e f g h", "\"},{\"level\":1", &"x".repeat(65)] {
        let answer = gateway.ask(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: {id}\r\n\r\n")).await;
        let replaced = answer.header("x-request-id").unwrap();
        assert!(replaced != id && replaced.len() == 36, "{replaced}");
    }
}

#[tokio::test]
async fn an_answer_streams_as_it_comes_and_may_outlast_the_deadline() {
    let (events, to_send) = mpsc::channel::<Bytes>(1);
    let to_send = std::sync::Arc::new(std::sync::Mutex::new(Some(to_send)));
    let service = Service::start(move |_| {
        let mut to_send = to_send.lock().unwrap().take().unwrap();
        let stream = futures_util::stream::poll_fn(move |context| to_send.poll_recv(context));
        let frames = futures_util::StreamExt::map(stream, |event| Ok(Frame::data(event)));
        let response = Response::builder().header("content-type", "text/event-stream");
        async { response.body(StreamBody::new(frames).boxed()).unwrap() }
    })
    .await;
    let mut config = config(&[service.address]);
    config.routes[0].timeout_ms = Some(100);
    let gateway = Running::start(config).await;
    let mut caller = gateway.connect().await;
    caller.write(GET).await;
    let head = String::from_utf8(caller.until(b"\r\n\r\n").await).unwrap();
    assert!(head.contains("text/event-stream"), "{head}");
    events.send("data: 1\n\n".into()).await.unwrap();
    assert_eq!(caller.chunk().await.as_deref(), Some(b"data: 1\n\n".as_slice()));
    // Only the deadline is waited out here.
    tokio::time::sleep(Duration::from_millis(150)).await;
    events.send("data: 2\n\n".into()).await.unwrap();
    assert_eq!(caller.chunk().await.as_deref(), Some(b"data: 2\n\n".as_slice()));
    drop(events);
    assert_eq!(caller.chunk().await, None);
}

#[tokio::test]
async fn hop_by_hop_headers_of_an_answer_stay_behind() {
    let service = Service::start(|_| async {
        Response::builder()
            .status(201)
            .header("connection", "x-internal")
            .header("x-internal", "1")
            .header("keep-alive", "timeout=1")
            .header("upgrade", "h2c")
            .header("x-position", "7")
            .body(full("made"))
            .unwrap()
    })
    .await;
    let gateway = Running::start(config(&[service.address])).await;
    let answer = gateway.ask(GET).await;
    assert_eq!((answer.status, answer.text(), answer.header("x-position")), (201, "made", Some("7")));
    for gone in ["connection", "x-internal", "keep-alive", "upgrade"] {
        assert_eq!(answer.header(gone), None, "{gone}");
    }
}

#[tokio::test]
async fn a_truncated_answer_is_truncated_and_not_completed() {
    let (listener, mut tasks) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), JoinSet::new());
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this").await.unwrap();
    });
    let gateway = Running::start(config(&[address])).await;
    let mut caller = gateway.connect().await;
    caller.write(GET).await;
    let mut all = Vec::new();
    let _ = caller.stream.read_to_end(&mut all).await;
    assert!(all.ends_with(b"only this"), "{}", all.escape_ascii());
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let service = Service::named("service").await;
    let mut config: Config = config(&[service.address]);
    config.routes[0].path = "/orders".into();
    config.routes[0].methods = vec!["GET".into(), "POST".into()];
    let gateway = Running::start(config).await;
    let ask = async |method: &str, path: &str| {
        gateway.ask(format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await
    };
    let unknown = ask("GET", "/elsewhere").await;
    assert_eq!((unknown.status, unknown.problem().as_str()), (404, "not-found"));
    let other = ask("DELETE", "/orders/7").await;
    assert_eq!((other.status, other.problem().as_str()), (405, "method-not-allowed"));
    assert_eq!(other.header("allow"), Some("GET, POST"));
    assert_eq!(ask("GET", "/livez").await.status, 200);
    assert_eq!(ask("GET", "/readyz").await.status, 200);
    assert!(service.got().is_empty());
}

#[tokio::test]
async fn http_2_is_spoken_to_who_begins_with_it() {
    let service = Service::named("service").await;
    let gateway = Running::start(config(&[service.address])).await;
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let ask = |path: &str, host: Option<&str>| {
        let mut request = Request::builder().method(Method::GET).uri(format!("http://shop{path}"));
        if let Some(host) = host {
            request = request.header("host", host);
        }
        request.header("x-forwarded-for", "1.1.1.1").body(Empty::<Bytes>::new()).unwrap()
    };
    let answer = sender.send_request(ask("/a/../b?c=d", None)).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "service");
    assert_eq!(service.only().uri, "/b?c=d");
    assert_eq!(service.only().header("x-forwarded-host"), Some("shop"));
    assert_eq!(service.only().header("x-forwarded-for"), Some("127.0.0.1"));

    let refused = sender.send_request(ask("/", Some("other"))).await.unwrap();
    assert_eq!(refused.status(), 400);
    assert_eq!(refused.headers()["content-type"], "application/problem+json");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_gets_the_answer_to_his_own_request() {
    let echo = || Service::start(|got| async move { Response::new(full(got.body.unwrap())) });
    let (a, b) = (echo().await, echo().await);
    let gateway = std::sync::Arc::new(Running::start(config(&[a.address, b.address])).await);
    let mut callers = JoinSet::new();
    for caller in 0..32 {
        let gateway = std::sync::Arc::clone(&gateway);
        callers.spawn(async move {
            let mut connection = gateway.connect().await;
            for count in 0..30 {
                let body = format!("{caller}/{count} ").repeat(1 + count * caller);
                let (len, half) = (body.len(), body.len() / 2);
                if count % 2 == 0 {
                    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\n\r\n");
                    connection.write(head + &body).await;
                } else {
                    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
                    connection.write(format!("{head}{half:x}\r\n{}", &body[..half])).await;
                    connection.write(format!("\r\n{:x}\r\n{}\r\n0\r\n\r\n", len - half, &body[half..])).await;
                }
                let answer = connection.answer().await;
                assert_eq!((answer.status, answer.text()), (200, body.as_str()));
            }
        });
    }
    callers.join_all().await;
    let (a, b) = (a.got().len(), b.got().len());
    // Whoever has less in hand gets the next one, so that it is nearly half for each.
    assert!(a + b == 960 && a.abs_diff(b) < 240, "{a} and {b}");
}

/// A service that closes each connection on its second request, before it answers that.
async fn impatient(listener: TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut read = Vec::new();
        while !read.ends_with(b"\r\n\r\n") {
            assert!(stream.read_buf(&mut read).await.unwrap() > 0);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        assert!(stream.read_buf(&mut read).await.unwrap() > 0);
    }
}

#[tokio::test]
async fn a_request_that_does_no_harm_twice_is_sent_again_when_its_connection_broke() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = Running::start(config(&[listener.local_addr().unwrap()])).await;
    let mut tasks = JoinSet::new();
    tasks.spawn(impatient(listener));
    let head = |first: &str| format!("{first} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 200),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 200),
        ("POST / HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nContent-Length: 0\r\n\r\n".to_owned(), 200),
        (head("POST /"), 503),
        (head("POST /"), 200),
        (head("DELETE /"), 503),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 200),
        // What was sent of a body is not there any more.
        ("POST / HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nContent-Length: 4\r\n\r\nfour".to_owned(), 503),
    ] {
        let answer = gateway.ask(&request).await;
        assert_eq!(answer.status, status, "{request}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_request_is_not_sent_again_if_a_new_connection_broke_or_a_part_of_an_answer_came() {
    for part in ["", "HTTP/1.1 2"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gateway = Running::start(config(&[listener.local_addr().unwrap()])).await;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut buffer = [0; 1024];
            let (mut fresh, _) = listener.accept().await.unwrap();
            assert!(fresh.read(&mut buffer).await.unwrap() > 0);
            drop(fresh);
            let (mut used, _) = listener.accept().await.unwrap();
            assert!(used.read(&mut buffer).await.unwrap() > 0);
            used.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            assert!(used.read(&mut buffer).await.unwrap() > 0);
            used.write_all(part.as_bytes()).await.unwrap();
            drop(used);
            let (mut last, _) = listener.accept().await.unwrap();
            assert!(last.read(&mut buffer).await.unwrap() > 0);
            last.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast").await.unwrap();
        });
        assert_eq!(gateway.ask(GET).await.problem(), "broke-off");
        assert_eq!(gateway.ask(GET).await.text(), "ok");
        let answer = gateway.ask(GET).await;
        assert_eq!(answer.status, if part.is_empty() { 200 } else { 503 }, "{part:?}");
    }
}

#[tokio::test]
async fn a_route_says_how_much_a_refusal_would_hurt_and_a_caller_can_only_say_less() {
    let service = Service::named("service").await;
    let mut config = config(&[service.address]);
    config.routes.push(Route {
        criticality: Criticality::SheddablePlus,
        ..Route::new("/list", Access::Public, "service")
    });
    let gateway = Running::start(config).await;
    for (path, said, goes_on) in [
        ("/", None, None),
        ("/", Some("sheddable"), Some("sheddable")),
        ("/list", None, Some("sheddable-plus")),
        ("/list", Some("critical"), Some("sheddable-plus")),
        ("/list", Some("sheddable"), Some("sheddable")),
        ("/list", Some("urgent"), Some("sheddable-plus")),
    ] {
        let said = said.map(|class| format!("x-criticality: {class}\r\n")).unwrap_or_default();
        gateway.ask(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{said}\r\n")).await;
        let got = service.got();
        assert_eq!(got.last().unwrap().header("x-criticality"), goes_on, "{path} {said}");
    }
}
