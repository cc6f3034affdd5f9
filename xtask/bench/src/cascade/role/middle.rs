//! The service in the middle: one route needs the callee, one does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use http::uri::PathAndQuery;
use purlin::http::{Edge, Problem, grpc, layers};
use purlin::message::Fault;
use purlin::resilience::{BreakerState, Breakers, Caller};
use purlin::telemetry::Metrics;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Status;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::station::Station;
use super::{Care, run};
use crate::cascade::plan::{self, METHOD, NEEDS, OTHER_PLACES, OTHER_SERVICE_MS, OWN};

/// Serves until told to end; after the order `hang` the route that needs the callee does not answer until `go on`.
pub(super) async fn be(callee: &str, care: Care) -> Result<()> {
    let middle = Middle(Arc::new(Inside {
        care,
        channel: Endpoint::from_shared(format!("http://{callee}"))?.connect_lazy(),
        caller: Caller::new("callee", plan::policy(), &Breakers::new()),
        hangs: watch::Sender::new(false),
        own: Station::new(OTHER_PLACES, OTHER_SERVICE_MS),
        calls: AtomicU64::new(0),
        attempts: AtomicU64::new(0),
        under_way: AtomicUsize::new(0),
    }));
    let router = Router::new().route(NEEDS, get(needs)).route(OWN, get(own)).with_state(middle.clone());
    let router = layers(router, Edge::new("middle", &Metrics::new()));
    let order = |line: &str| {
        middle.0.hangs.send_replace(line == "hang");
    };
    run(0, router, order, || middle.0.said()).await
}

#[derive(Clone)]
struct Middle(Arc<Inside>);

struct Inside {
    care: Care,
    channel: Channel,
    caller: Caller,
    hangs: watch::Sender<bool>,
    own: Station,
    /// Calls of which at least one attempt was made.
    calls: AtomicU64,
    attempts: AtomicU64,
    /// Requests of the route that needs the callee.
    under_way: AtomicUsize,
}

async fn own(State(Middle(middle)): State<Middle>) -> &'static str {
    middle.own.work().await;
    "done"
}

async fn needs(State(Middle(middle)): State<Middle>) -> Result<&'static str, Problem> {
    let _here = Here::begin(&middle.under_way);
    // The sender is in our hands.
    let _ = middle.hangs.subscribe().wait_for(|hangs| !hangs).await;
    match middle.care {
        Care::Careful => careful(&middle).await?,
        Care::Careless => careless(&middle).await?,
    }
    Ok("done")
}

async fn careful(middle: &Inside) -> Result<(), Problem> {
    let mut first = true;
    let attempt = || {
        let attempt = middle.attempt(first);
        first = false;
        attempt
    };
    Ok(middle.caller.call(attempt).await?)
}

/// As it is often seen: a timeout and three attempts.
async fn careless(middle: &Inside) -> Result<(), Problem> {
    let policy = plan::policy();
    let mut last = None;
    for first in [true, false, false] {
        match tokio::time::timeout(policy.attempt, middle.attempt(first)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(fault)) => last = Some(Problem::from_fault(&fault)),
            Err(_) => last = Some(Problem::of_another(purlin::resilience::DeadlineExceeded)),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err(last.expect("there were attempts"))
}

impl Inside {
    fn attempt(&self, first: bool) -> impl Future<Output = Result<(), impl Fault + use<>>> + Send + use<> {
        self.calls.fetch_add(u64::from(first), Ordering::Relaxed);
        self.attempts.fetch_add(1, Ordering::Relaxed);
        let channel = self.channel.clone();
        async move { ask(channel).await.map_err(|status| grpc::fault_from_status(&status)) }
    }

    fn said(&self) -> Vec<(&'static str, f64)> {
        let breaker = self.caller.breaker().status(Instant::now());
        let concurrency = self.caller.status().concurrency;
        let state = match breaker.state {
            BreakerState::Closed => 0.0,
            BreakerState::HalfOpen => 1.0,
            BreakerState::Open => 2.0,
        };
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
        vec![
            ("calls", read(&self.calls)),
            ("attempts", read(&self.attempts)),
            ("under_way", self.under_way.load(Ordering::Relaxed) as f64),
            ("places_taken", concurrency.under_way as f64),
            ("waiting", concurrency.waiting as f64),
            ("breaker", state),
            ("opened", breaker.opened as f64),
        ]
    }
}

async fn ask(channel: Channel) -> Result<(), Status> {
    let mut callee = Grpc::new(channel);
    callee.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let method = PathAndQuery::from_static(METHOD);
    callee.unary(grpc::request((), None), method, ProstCodec::<(), ()>::default()).await?;
    Ok(())
}

/// A request that is here, for as long as this lives.
struct Here<'a>(&'a AtomicUsize);

impl<'a> Here<'a> {
    fn begin(here: &'a AtomicUsize) -> Self {
        here.fetch_add(1, Ordering::Relaxed);
        Self(here)
    }
}

impl Drop for Here<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
