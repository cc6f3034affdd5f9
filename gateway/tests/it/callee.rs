//! A gateway, a service, and a callee that the service needs for one of its routes: what becomes of the others when the
//! callee hangs, dies, and comes back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use purlin::http::{Edge, Problem, layers};
use purlin::message::{FaultKind, Refusal};
use purlin::resilience::{
    BreakerConfig, BreakerState, Breakers, BulkheadConfig, CallPolicy, Caller as Calls, Retry,
};
use purlin::telemetry::Metrics;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cascade::has_got;
use crate::world::{Answer, Caller, PATIENCE, Running, Service, config, full, passes};

const NEEDS: &str = "GET /needs HTTP/1.1\r\nHost: shop\r\n\r\n";
const OWN: &str = "GET /own HTTP/1.1\r\nHost: shop\r\n\r\n";

const BULKHEAD: usize = 4;
const PROBES: usize = 2;
/// So long the callee is left alone.
const REST: Duration = Duration::from_secs(1);

/// No time limit plays a part but that of the open breaker.
fn policy() -> CallPolicy {
    CallPolicy {
        timeout: PATIENCE,
        attempt: PATIENCE,
        retry: Retry::NEVER,
        concurrency: BulkheadConfig { max_under_way: BULKHEAD, max_waiting: 0, ..BulkheadConfig::default() },
        breaker: BreakerConfig {
            failure_threshold: BULKHEAD as u32,
            window: BULKHEAD as u32,
            success_threshold: PROBES as u32,
            timeout: REST,
            ..BreakerConfig::default()
        },
        ..CallPolicy::default()
    }
}

/// The service in the middle, which ends with this.
struct Middle {
    address: SocketAddr,
    calls: Calls,
    _serving: JoinSet<std::io::Result<()>>,
}

impl Middle {
    async fn start(callee: SocketAddr) -> Self {
        let calls = Calls::new("callee", policy(), &Breakers::new());
        let (client, needing) = (Client::builder(TokioExecutor::new()).build_http(), calls.clone());
        let needs = move || {
            let (client, calls) = (client.clone(), needing.clone());
            async move {
                let ask = || {
                    let request = Request::get(format!("http://{callee}/")).body(Empty::<Bytes>::new());
                    let asked = client.request(request.unwrap());
                    let down = |_| Refusal::new(FaultKind::Unavailable, "unavailable", "the callee is down");
                    async move { asked.await.map_err(down) }
                };
                calls.call(ask).await.map(|_| "done").map_err(Problem::from)
            }
        };
        let router = Router::new().route("/needs", get(needs)).route("/own", get(async || "own"));
        let router = layers(router, Edge::new("middle", &Metrics::new()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, router).await });
        Self { address, calls, _serving: serving }
    }

    fn state(&self) -> BreakerState {
        self.calls.breaker().status(Instant::now()).state
    }
}

/// A callee that answers when it is told to, and knows how many requests it has had in hand at most.
struct Callee {
    service: Service,
    answers: watch::Sender<bool>,
    most: Arc<AtomicUsize>,
}

impl Callee {
    async fn start(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let (answers, most) = (watch::Sender::new(false), Arc::new(AtomicUsize::new(0)));
        let (told, in_hand, seen) = (answers.clone(), Arc::new(AtomicUsize::new(0)), Arc::clone(&most));
        let service = Service::on(listener, move |_| {
            let (mut told, in_hand) = (told.subscribe(), Arc::clone(&in_hand));
            seen.fetch_max(in_hand.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            async move {
                told.wait_for(|answers| *answers).await.unwrap();
                in_hand.fetch_sub(1, Ordering::Relaxed);
                Response::new(full("done"))
            }
        });
        Self { service, answers, most }
    }
}

async fn asked(gateway: &Running, request: &str) -> Caller {
    let mut caller = gateway.connect().await;
    caller.write(request).await;
    caller
}

fn is_refused(answer: &Answer, problem: &str) {
    assert_eq!((answer.status, answer.problem().as_str()), (503, problem));
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn a_callee_that_hangs_dies_and_returns_harms_nobody_else_and_is_not_run_over() {
    let callee = Callee::start("127.0.0.1:0").await;
    let address = callee.service.address;
    let middle = Middle::start(address).await;
    let gateway = Running::start(config(&[middle.address])).await;

    // It hangs: it has as much in hand as its bulkhead gives, and no more; everybody else is told at once.
    let mut waiting = Vec::new();
    for count in 1..=BULKHEAD {
        waiting.push(asked(&gateway, NEEDS).await);
        has_got(&callee.service, count).await;
    }
    for _ in 0..10 {
        is_refused(&gateway.ask(NEEDS).await, "overloaded");
        assert_eq!(gateway.ask(OWN).await.text(), "own");
    }
    assert_eq!((callee.service.got().len(), middle.state()), (BULKHEAD, BreakerState::Closed));
    assert_eq!(callee.most.load(Ordering::Relaxed), BULKHEAD);

    // It dies: the breaker opens.
    drop(callee);
    for caller in &mut waiting {
        assert_eq!(caller.answer().await.problem(), "unavailable");
    }
    is_refused(&gateway.ask(NEEDS).await, "circuit-open");
    assert_eq!(gateway.ask(OWN).await.text(), "own");

    // It is back, and still slow: it gets its probes and nothing beyond, though many ask.
    let callee = Callee::start(&address.to_string()).await;
    passes(REST).await;
    let mut probing = Vec::new();
    for count in 1..=PROBES {
        probing.push(asked(&gateway, NEEDS).await);
        has_got(&callee.service, count).await;
    }
    for _ in 0..10 {
        assert_eq!(gateway.ask(NEEDS).await.problem(), "circuit-open");
    }
    assert_eq!((callee.service.got().len(), middle.state()), (PROBES, BreakerState::HalfOpen));

    // It answers: the breaker closes.
    callee.answers.send_replace(true);
    for caller in &mut probing {
        assert_eq!(caller.answer().await.text(), "done");
    }
    assert_eq!(middle.state(), BreakerState::Closed);
    assert_eq!(gateway.ask(NEEDS).await.text(), "done");
    assert_eq!(callee.most.load(Ordering::Relaxed), PROBES);
}
