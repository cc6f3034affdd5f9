//! Listeners: patience, limits, and stopping with requests in hand.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use axum::serve::Listener;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use purlin::http::{Json, Problem};
use purlin::service::{ServeConfig, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Takes connections that never leave the process, so that its clock may stand still.
struct Wire(mpsc::Receiver<DuplexStream>);

impl Listener for Wire {
    type Io = DuplexStream;
    type Addr = ();

    async fn accept(&mut self) -> (DuplexStream, ()) {
        match self.0.recv().await {
            Some(io) => (io, ()),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A server that is up, and all that a test needs to disturb it.
struct House {
    dial: mpsc::Sender<DuplexStream>,
    shutdown: CancellationToken,
    started: Arc<Notify>,
    go: Arc<Notify>,
    server: JoinSet<()>,
}

fn router(started: &Arc<Notify>, go: &Arc<Notify>) -> Router {
    let (started, go) = (Arc::clone(started), Arc::clone(go));
    let slow = async move || {
        started.notify_one();
        go.notified().await;
        "slow"
    };
    let read = async |Json(body): Json<serde_json::Value>| Ok::<_, Problem>(Json(body));
    Router::new().route("/", get(async || "quick")).route("/slow", get(slow)).route("/read", post(read))
}

fn house(config: ServeConfig) -> House {
    let (dial, calls) = mpsc::channel(16);
    let (shutdown, started, go) = (CancellationToken::new(), Arc::default(), Arc::default());
    let mut server = JoinSet::new();
    server.spawn(serve(Wire(calls), router(&started, &go), config, shutdown.clone()));
    House { dial, shutdown, started, go, server }
}

impl House {
    async fn connect(&self) -> DuplexStream {
        let (ours, theirs) = duplex(64 * 1024);
        self.dial.send(theirs).await.unwrap();
        ours
    }

    async fn say(&self, text: &str) -> DuplexStream {
        let mut io = self.connect().await;
        io.write_all(text.as_bytes()).await.unwrap();
        io
    }

    async fn stopped(mut self) {
        self.server.join_next().await.unwrap().unwrap();
    }
}

/// All that the server says until it closes.
async fn heard(io: &mut DuplexStream) -> String {
    let mut text = Vec::new();
    // A connection that was cut off says nothing more; that is the answer.
    let _ = io.read_to_end(&mut text).await;
    String::from_utf8_lossy(&text).into_owned()
}

const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_say_what_it_wants_is_disconnected() {
    let house = house(ServeConfig::default());
    for text in
        ["", "G", "GET / HTTP/1.1", "GET / HTTP/1.1\r\nhost: example.org\r\nx-slow", "PRI * HTTP/2.0\r\n"]
    {
        let mut io = house.say(text).await;
        let began = Instant::now();
        let answer = timeout(Duration::from_secs(60), heard(&mut io)).await.expect(text);
        assert!(!answer.contains("quick"), "{text}");
        let waited = began.elapsed();
        assert!((10..=11).contains(&waited.as_secs()), "`{text}` was heard for {waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_request_whose_answer_takes_long_is_not_taken_for_silence() {
    let house = house(ServeConfig::default());
    // Shorter than what HTTP/2 begins with.
    let mut io = house.say("GET /slow HTTP/1.1\r\n\r\n").await;
    house.started.notified().await;
    sleep(Duration::from_secs(25)).await;
    house.go.notify_one();
    let mut answer = [0; 12];
    io.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    // The connection is as good as any other.
    io.write_all(GET.as_bytes()).await.unwrap();
    assert!(heard(&mut io).await.ends_with("quick"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_said_all_and_closes_its_side_gets_its_answer() {
    let house = house(ServeConfig::default());
    let mut io = house.say("GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    io.shutdown().await.unwrap();
    timeout(Duration::from_secs(60), house.started.notified()).await.expect("the request is heard");
    sleep(Duration::from_secs(1)).await;
    house.go.notify_one();
    assert!(heard(&mut io).await.ends_with("slow"));
}

#[tokio::test(start_paused = true)]
async fn a_connection_too_many_waits_for_its_turn() {
    let house = house(ServeConfig { max_connections: 1, ..ServeConfig::default() });
    let mut first = house.say("GET /slow HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    house.started.notified().await;
    let mut second = house.say(GET).await;
    assert!(
        timeout(Duration::from_secs(5), second.read_u8()).await.is_err(),
        "it was served beside the first"
    );
    house.go.notify_one();
    assert!(heard(&mut first).await.ends_with("slow"));
    assert!(heard(&mut second).await.ends_with("quick"));
}

#[tokio::test(start_paused = true)]
async fn stopping_finishes_the_request_in_hand_and_closes_idle_connections() {
    let house = house(ServeConfig::default());
    let mut busy = house.say("GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    house.started.notified().await;
    let mut idle = house.say("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut answer = [0; 12];
    idle.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");

    house.shutdown.cancel();
    let began = Instant::now();
    timeout(Duration::from_secs(1), heard(&mut idle)).await.expect("an idle connection is closed at once");
    sleep(Duration::from_secs(4)).await;
    house.go.notify_one();
    assert!(heard(&mut busy).await.ends_with("slow"));
    house.stopped().await;
    assert_eq!(began.elapsed(), Duration::from_secs(4));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_end_is_cut_off_when_stopping_takes_too_long() {
    let house = house(ServeConfig { drain: Duration::from_secs(7), ..ServeConfig::default() });
    let mut io = house.say("GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    house.started.notified().await;
    house.shutdown.cancel();
    let began = Instant::now();
    house.stopped().await;
    assert_eq!(began.elapsed(), Duration::from_secs(7));
    assert_eq!(heard(&mut io).await, "");
}

#[tokio::test(start_paused = true)]
async fn http2_is_spoken_on_the_same_listener_and_stops_alike() {
    for finishes in [true, false] {
        let house = house(ServeConfig { drain: Duration::from_secs(7), ..ServeConfig::default() });
        let io = TokioIo::new(house.connect().await);
        let (mut client, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async { drop(connection.await) });
        let request = Request::get("http://x/slow").body(Empty::<bytes::Bytes>::new()).unwrap();
        let answer = client.send_request(request);
        tasks.spawn({
            let (started, go) = (Arc::clone(&house.started), Arc::clone(&house.go));
            let shutdown = house.shutdown.clone();
            async move {
                started.notified().await;
                shutdown.cancel();
                if finishes {
                    go.notify_one();
                }
            }
        });
        let body = async { answer.await.ok()?.into_body().collect().await.ok().map(|body| body.to_bytes()) };
        let body = timeout(Duration::from_secs(60), body).await.unwrap();
        assert_eq!(body.as_deref(), finishes.then_some(&b"slow"[..]));
        timeout(Duration::from_secs(60), house.stopped()).await.expect("no stream outlives its listener");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_is_400_and_not_half_a_request() {
    let house = house(ServeConfig::default());
    for (head, body) in [
        ("content-length: 40", r#"{"quantity": 1}"#),
        ("transfer-encoding: chunked", "f\r\n{\"quantity\": 1}\r\n"),
    ] {
        let mut io = house.say(&format!("POST /read HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n{body}")).await;
        io.shutdown().await.unwrap();
        let answer = heard(&mut io).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
        assert!(answer.contains("/problems/truncated-body"), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_to_be_asked_is_told_that_its_body_is_too_large() {
    let house = house(ServeConfig::default());
    let head = "POST /read HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 10485760\r\n\r\n";
    let mut io = house.say(head).await;
    let mut answer = [0; 12];
    timeout(Duration::from_secs(5), io.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn over_tcp_a_body_of_ten_mebibytes_is_413_and_the_client_hears_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let mut server = JoinSet::new();
    let router = router(&Arc::default(), &Arc::default());
    server.spawn(serve(listener, router, ServeConfig::default(), shutdown.clone()));
    for head in ["content-length: 10485760", "transfer-encoding: chunked"] {
        let mut io = TcpStream::connect(address).await.unwrap();
        let head = format!("POST /read HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{head}\r\n\r\n");
        io.write_all(head.as_bytes()).await.unwrap();
        let chunked = head.contains("chunked");
        let piece = vec![b' '; 1 << 20];
        for _ in 0..10 {
            if chunked {
                io.write_all(b"100000\r\n").await.unwrap();
            }
            io.write_all(&piece).await.unwrap();
            if chunked {
                io.write_all(b"\r\n").await.unwrap();
            }
        }
        if chunked {
            io.write_all(b"0\r\n\r\n").await.unwrap();
        }
        let mut answer = String::new();
        io.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        assert!(answer.contains("/problems/body-too-large"), "{answer}");
    }
    shutdown.cancel();
    server.join_next().await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_unix_socket_is_served_alike() {
    let path = std::env::temp_dir().join(format!("purlin-{}.sock", purlin::message::new_id()));
    let listener = UnixListener::bind(&path).unwrap();
    let shutdown = CancellationToken::new();
    let mut server = JoinSet::new();
    let router = router(&Arc::default(), &Arc::default());
    server.spawn(serve(listener, router, ServeConfig::default(), shutdown.clone()));
    let mut io = UnixStream::connect(&path).await.unwrap();
    io.write_all(GET.as_bytes()).await.unwrap();
    let mut answer = String::new();
    io.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("quick"), "{answer}");
    shutdown.cancel();
    server.join_next().await.unwrap().unwrap();
    std::fs::remove_file(&path).unwrap();
}
