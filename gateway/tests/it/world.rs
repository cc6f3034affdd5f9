//! A gateway, the services behind it, and a caller who writes bytes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use purlin::message::Clock;
use purlin::resilience::{Calls, SharedLimits};
use purlin::telemetry::Metrics;
use purlin_gateway::Gateway;
use purlin_gateway::Means;
use purlin_gateway::config::{Config, Pool, Route};
use purlin_gateway::core::Access;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

/// No test waits longer than this for one thing.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Lets so much time pass at once, for everybody in this test. In small steps, because who hears of a timer much too late
/// takes himself for one who was held.
pub(crate) async fn passes(time: Duration) {
    const STEP: Duration = Duration::from_millis(20);
    let _stopped = StoppedClock::new();
    // A timer takes up to a millisecond more.
    let mut left = time + Duration::from_millis(1);
    while !left.is_zero() {
        let step = left.min(STEP);
        tokio::time::advance(step).await;
        // Who is woken now does what it is time for, before it is later.
        tokio::task::yield_now().await;
        left -= step;
    }
}

/// A clock that only moves when it is told to; it goes on by itself when this is dropped.
struct StoppedClock;

impl StoppedClock {
    fn new() -> Self {
        tokio::time::pause();
        Self
    }
}

impl Drop for StoppedClock {
    fn drop(&mut self) {
        tokio::time::resume();
    }
}

/// A running gateway; it ends with this.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) metrics: Metrics,
    pub(crate) gateway: Gateway,
    stop: Option<oneshot::Sender<()>>,
    tasks: JoinSet<bool>,
}

impl Running {
    pub(crate) async fn start(config: Config) -> Self {
        Self::with_clock(config, Clock::system()).await
    }

    pub(crate) async fn with_clock(config: Config, clock: Clock) -> Self {
        let metrics = Metrics::new();
        let gateway = Gateway::with(config, clock, &metrics).unwrap();
        Self::serve(gateway, metrics).await
    }

    /// One whose rate limits are one with those of others.
    pub(crate) async fn sharing(config: Config, limits: &SharedLimits) -> Self {
        let metrics = Metrics::new();
        let gateway = Gateway::sharing(config, Clock::system(), &metrics, limits).unwrap();
        Self::serve(gateway, metrics).await
    }

    /// One that calls as these say.
    pub(crate) async fn calling(config: Config, calls: &Calls) -> Self {
        let metrics = Metrics::new();
        let means = Means { metrics: metrics.clone(), calls: Some(calls.clone()), ..Means::default() };
        Self::serve(Gateway::by(config, means).unwrap(), metrics).await
    }

    async fn serve(gateway: Gateway, metrics: Metrics) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let mut tasks = JoinSet::new();
        let serving = gateway.clone();
        tasks.spawn(async move {
            serving
                .serve(listener, async {
                    let _ = stopped.await;
                })
                .await
        });
        Self { address, metrics, gateway, stop: Some(stop), tasks }
    }

    pub(crate) async fn connect(&self) -> Caller {
        Caller { stream: TcpStream::connect(self.address).await.unwrap(), read: Vec::new() }
    }

    /// The answer to one request on a connection of its own.
    pub(crate) async fn ask(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut caller = self.connect().await;
        caller.write(request).await;
        caller.answer().await
    }

    /// Asks it to stop.
    pub(crate) fn stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    /// Waits until it has stopped; whether everything was finished.
    pub(crate) async fn stopped(&mut self) -> bool {
        tokio::time::timeout(PATIENCE, self.tasks.join_next()).await.unwrap().unwrap().unwrap()
    }
}

/// One public route for everything, to one pool of these endpoints.
pub(crate) fn config(endpoints: &[SocketAddr]) -> Config {
    let mut config = Config::default();
    let endpoints = endpoints.iter().map(ToString::to_string).collect();
    config.pools.insert("service".into(), Pool { endpoints });
    config.routes.push(Route::new("/", Access::Public, "service"));
    config
}

/// An address where nobody listens.
pub(crate) async fn dead_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// A caller's connection.
pub(crate) struct Caller {
    pub(crate) stream: TcpStream,
    read: Vec<u8>,
}

/// What came back.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Caller {
    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// The next answer, whose body must have a length or be chunked.
    pub(crate) async fn answer(&mut self) -> Answer {
        tokio::time::timeout(PATIENCE, self.read_answer()).await.expect("an answer in time")
    }

    /// Whether the gateway closes the connection, with nothing more to say.
    pub(crate) async fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        let read =
            tokio::time::timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await.expect("an end in time");
        read.is_err() || (rest.is_empty() && self.read.is_empty())
    }

    async fn read_answer(&mut self) -> Answer {
        let head = String::from_utf8(self.until(b"\r\n\r\n").await).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut answer = Answer { status, headers, body: Vec::new() };
        if let Some(length) = answer.header("content-length") {
            answer.body = self.exactly(length.parse().unwrap()).await;
        } else if answer.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk().await {
                answer.body.extend(chunk);
            }
        }
        answer
    }

    /// The next chunk of a chunked body; none behind the last.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = String::from_utf8(self.until(b"\r\n").await).unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let chunk = self.exactly(size).await;
        self.until(b"\r\n").await;
        (size > 0).then_some(chunk)
    }

    /// Reads up to and with `end`.
    pub(crate) async fn until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end) {
                return self.read.drain(..at + end.len()).collect();
            }
            self.more().await;
        }
    }

    async fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count {
            self.more().await;
        }
        self.read.drain(..count).collect()
    }

    async fn more(&mut self) {
        let read = self.stream.read_buf(&mut self.read).await.unwrap();
        assert!(read > 0, "the connection ended in the middle of an answer: {}", self.read.escape_ascii());
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The last part of the problem's type, after checking that it is a whole problem.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem["status"], self.status);
        for member in ["title", "detail", "instance"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {problem}");
        }
        let trace = problem["trace_id"].as_str().unwrap();
        assert!(trace.len() == 32 && self.header("traceparent").unwrap().contains(trace), "{problem}");
        problem["type"].as_str().unwrap().strip_prefix("/problems/").unwrap().to_owned()
    }
}

/// A request as a service got it.
#[derive(Debug, Clone)]
pub(crate) struct Got {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    /// `None`: the body broke off.
    pub(crate) body: Option<Bytes>,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// A service that notes what it gets; it ends with this.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    got: watch::Sender<Vec<Got>>,
    begun: watch::Sender<usize>,
    _tasks: JoinSet<()>,
}

pub(crate) type ServiceBody = BoxBody<Bytes, Infallible>;

pub(crate) fn full(text: impl Into<Bytes>) -> ServiceBody {
    Full::new(text.into()).boxed()
}

impl Service {
    /// A service that answers 200 with its name.
    pub(crate) async fn named(name: &'static str) -> Self {
        Self::start(move |_| async move { Response::new(full(name)) }).await
    }

    pub(crate) async fn start<A, F>(answer: A) -> Self
    where
        A: Fn(Got) -> F + Send + Sync + 'static,
        F: Future<Output = Response<ServiceBody>> + Send,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, answer)
    }

    pub(crate) fn on<A, F>(listener: TcpListener, answer: A) -> Self
    where
        A: Fn(Got) -> F + Send + Sync + 'static,
        F: Future<Output = Response<ServiceBody>> + Send,
    {
        let address = listener.local_addr().unwrap();
        let (got, answer) = (watch::Sender::new(Vec::new()), Arc::new(answer));
        let (begun, seen) = (watch::Sender::new(0), got.clone());
        let heads = begun.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (heads, seen, answer) = (heads.clone(), seen.clone(), Arc::clone(&answer));
                let service = service_fn(move |request: Request<Incoming>| {
                    heads.send_modify(|heads| *heads += 1);
                    let (seen, answer) = (seen.clone(), Arc::clone(&answer));
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.ok().map(|body| body.to_bytes());
                        let got = Got { method: head.method, uri: head.uri, headers: head.headers, body };
                        seen.send_modify(|seen| seen.push(got.clone()));
                        Ok::<_, Infallible>(answer(got).await)
                    }
                });
                connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, got, begun, _tasks: tasks }
    }

    /// All requests so far.
    pub(crate) fn got(&self) -> Vec<Got> {
        self.got.borrow().clone()
    }

    /// How many requests have come so far, of which some may have no end.
    pub(crate) fn begun(&self) -> usize {
        *self.begun.borrow()
    }

    /// Waits until it has so many requests.
    pub(crate) async fn has_got(&self, count: usize) {
        self.got.subscribe().wait_for(|got| got.len() >= count).await.unwrap();
    }

    /// The only request so far.
    pub(crate) fn only(&self) -> Got {
        let got = self.got();
        assert_eq!(got.len(), 1, "{got:?}");
        got[0].clone()
    }
}

/// Waits until so many requests have come to a service, whether they are whole or not.
pub(crate) async fn has_begun(service: &Service, count: usize) {
    let mut begun = service.begun.subscribe();
    let come = begun.wait_for(|begun| *begun >= count);
    tokio::time::timeout(PATIENCE, come).await.expect("so many requests in time").unwrap();
}

/// A service's answers, which wait until the test gives them.
#[derive(Clone, Default)]
pub(crate) struct Desk(Arc<Mutex<Vec<Option<oneshot::Sender<StatusCode>>>>>);

impl Desk {
    /// What a service does that answers from here: its `n`th request, counted from 0, gets the `n`th answer.
    pub(crate) fn answers(
        &self,
    ) -> impl Fn(Got) -> BoxFuture<'static, Response<ServiceBody>> + Send + Sync + 'static {
        let waiting = Arc::clone(&self.0);
        move |_| {
            let (sender, receiver) = oneshot::channel();
            waiting.lock().unwrap().push(Some(sender));
            Box::pin(async move {
                let status = receiver.await.unwrap();
                let mut response = Response::new(full(status.as_str().to_owned()));
                *response.status_mut() = status;
                response
            })
        }
    }

    /// Answers one of the requests that the service has got.
    pub(crate) fn answer(&self, nth: usize, status: u16) {
        let sender = self.0.lock().unwrap()[nth].take().unwrap();
        sender.send(StatusCode::from_u16(status).unwrap()).unwrap();
    }
}
