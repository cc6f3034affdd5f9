//! A deadline on its way through three services, over sockets and over the bus: it only ever shrinks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use purlin::bus::{Bus, Failure, Message};
use purlin::http::{Edge, Json, client, grpc, layers};
use purlin::message::{Clock, Envelope};
use purlin::resilience::{
    Breakers, Bulkhead, BulkheadConfig, CallPolicy, Caller, Criticality, Deadline, criticality, deadline,
};
use purlin::service::{ServeConfig, serve};
use purlin::store::{Commit, Expected, Store, StreamId};
use purlin::telemetry::Metrics;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::advance;
use tokio_util::sync::CancellationToken;
use tower::{Layer, ServiceExt};

const MS: Duration = Duration::from_millis(1);

/// What a service saw when it was asked: how many milliseconds it has, and of which class the request is.
type Seen = (u64, String);

fn seen() -> Seen {
    let left = deadline::current().expect("a request has a deadline").remaining();
    (u64::try_from(left.as_millis()).unwrap(), criticality::current().to_string())
}

async fn up(tasks: &mut JoinSet<()>, router: Router, edge: Edge) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(serve(listener, layers(router, edge), ServeConfig::default(), CancellationToken::new()));
    address
}

async fn ask(caller: &Caller, request: Request<Full<Bytes>>) -> Vec<Seen> {
    let http = Client::builder(TokioExecutor::new()).build_http();
    let answer = client::stack(caller.clone()).layer(http).oneshot(request).await.unwrap();
    serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

fn edge(name: &'static str) -> Edge {
    Edge::new(name, &Metrics::new())
}

/// Lets time pass only when it is told to, and not, as a stopped clock would, while everybody waits for a socket: tokio
/// leaves it alone while a thread is busy. Until this is dropped.
fn only_by_hand() -> std::sync::mpsc::Sender<()> {
    let (hold, held) = std::sync::mpsc::channel();
    tokio::task::spawn_blocking(move || held.recv().unwrap_err());
    hold
}

#[tokio::test(start_paused = true)]
async fn a_deadline_shrinks_hop_by_hop_over_http_grpc_and_the_bus() {
    let work = 30 * MS;
    let _by_hand = only_by_hand();
    let mut tasks = JoinSet::new();

    let last = Router::new().route("/last", post(async || Json(vec![seen()])));
    let last = up(&mut tasks, last, edge("last")).await;

    let (orders, shipping) = (Store::memory(), Store::memory());
    let bus = Bus::embedded(Store::memory());
    let (tell, mut told) = mpsc::unbounded_channel();
    let group = bus.group("shipping", &shipping).on_with("order.created", &tell, async |tell, _: Message| {
        tell.send(seen()).unwrap();
        Ok::<_, Failure>(Commit::new())
    });
    let (relay, source) = (bus.clone(), orders.clone());
    tasks.spawn(async move { drop(relay.relay("orders", &source).await) });
    let group = group.run(CancellationToken::new());
    tasks.spawn(async move { drop(group.await) });

    let middle = move || {
        let orders = orders.clone();
        async move {
            let mine = seen();
            advance(work).await;
            let until = deadline::current().unwrap().time_of_day(Clock::system().now());
            let created = Envelope::raw("order.created", "{}").public().until(until);
            let stream = StreamId::new("order", 1).unwrap();
            orders.commit(Commit::new().append(stream, Expected::Any, [created])).await.unwrap();
            // A gRPC call says it in its own header.
            let (metadata, ..) = grpc::request((), None).into_parts();
            let mut request = Request::post(format!("http://{last}/last")).body(Full::default()).unwrap();
            *request.headers_mut() = metadata.into_headers();
            let http = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
            let answer = http.request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
            let mut all = vec![mine];
            all.extend(serde_json::from_slice::<Vec<Seen>>(&answer).unwrap());
            Json(all)
        }
    };
    let middle = up(&mut tasks, Router::new().route("/middle", get(middle)), edge("middle")).await;

    let to_middle = Caller::new("middle", CallPolicy::default(), &Breakers::new());
    let first = move || {
        let to_middle = to_middle.clone();
        async move {
            let mine = seen();
            advance(work).await;
            let request = Request::get(format!("http://{middle}/middle")).body(Full::default()).unwrap();
            let mut all = vec![mine];
            all.extend(ask(&to_middle, request).await);
            Json(all)
        }
    };
    let first = up(&mut tasks, Router::new().route("/first", get(first)), edge("first")).await;

    let to_first = Caller::new("first", CallPolicy::default(), &Breakers::new());
    let request = Request::get(format!("http://{first}/first")).body(Full::default()).unwrap();
    let given = 1500 * MS;
    let call = deadline::within(Deadline::after(given), ask(&to_first, request));
    let mut all = criticality::within(Criticality::Sheddable, call).await;
    all.push(told.recv().await.unwrap());

    let left: Vec<u64> = all.iter().map(|(left, _)| *left).collect();
    assert!(left[0] <= 1500 && left[0] > 0, "{left:?}");
    // gRPC is told two milliseconds more, so that we give up before it does.
    assert!(left[1] + 30 <= left[0] && left[2] + 28 <= left[1] && left[3] + 30 <= left[1], "{left:?}");
    assert_eq!(
        all[..3].iter().filter(|(_, class)| class == "sheddable").count(),
        3,
        "the class goes along, {all:?}"
    );
    tasks.shutdown().await;
}

/// A service that does nothing but count those who come in.
fn counting(count: &Arc<std::sync::atomic::AtomicU32>) -> Router {
    let count = Arc::clone(count);
    let answer = async move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        "here"
    };
    Router::new().route("/", get(answer))
}

async fn asked(router: Router, headers: &[(&str, &str)]) -> Response<axum::body::Body> {
    let request =
        headers.iter().fold(Request::get("/"), |request, (name, value)| request.header(*name, *value));
    router.oneshot(request.body(axum::body::Body::empty()).unwrap()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_comes_too_late_is_not_begun() {
    let count = Arc::default();
    let router = layers(counting(&count), edge("late"));
    let answer = asked(router.clone(), &[("x-request-timeout-ms", "0")]).await;
    assert_eq!(answer.status(), 504);
    let call = [("content-type", "application/grpc"), ("grpc-timeout", "0m")];
    let answer = asked(router.clone(), &call).await;
    assert_eq!(answer.headers()["grpc-status"], "4");
    assert_eq!(count.load(std::sync::atomic::Ordering::Relaxed), 0);
    assert_eq!(asked(router, &[("x-request-timeout-ms", "1")]).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_full_service_refuses_the_least_critical_first_and_says_so_in_either_language() {
    let count = Arc::default();
    let places =
        Bulkhead::new(BulkheadConfig { max_under_way: 2, max_waiting: 0, ..BulkheadConfig::default() });
    let router = layers(counting(&count), edge("full").places(&places));
    let first = places.enter().await.unwrap();
    let sheddable = ("x-criticality", "sheddable");
    let refused = asked(router.clone(), &[sheddable]).await;
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"1".parse().unwrap()));
    assert_eq!(refused.headers()["content-type"], "application/problem+json");
    let call = [("content-type", "application/grpc"), sheddable];
    assert_eq!(asked(router.clone(), &call).await.headers()["grpc-status"], "8");
    assert_eq!(asked(router.clone(), &[]).await.status(), 200, "somebody waits for this one");
    assert_eq!(asked(router.clone(), &[("x-criticality", "nonsense")]).await.status(), 200);
    drop(first);
    assert_eq!(asked(router, &[sheddable]).await.status(), 200);
}
