//! Whom the end of a call over a real gRPC connection is held against.

use std::time::Duration;

use axum::Router;
use axum::routing::post;
use bytes::{Buf, BufMut, Bytes};
use purlin::http::{Edge, grpc, layers};
use purlin::message::{Fault, FaultKind};
use purlin::resilience::{Breakers, CallError, CallPolicy, Caller, Deadline, Retry, deadline};
use purlin::service::{ServeConfig, serve};
use purlin::telemetry::Metrics;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};

const MS: Duration = Duration::from_millis(1);

/// Messages as they are.
#[derive(Debug, Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// A service that takes calls and never answers.
async fn hanging(tasks: &mut JoinSet<()>) -> Channel {
    let router = Router::new().route("/test.Slow/Ask", post(std::future::pending::<()>));
    let router = layers(router, Edge::new("slow", &Metrics::new()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(serve(listener, router, ServeConfig::default(), CancellationToken::new()));
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

async fn ask(caller: &Caller, channel: &Channel) -> FaultKind {
    let work = async || {
        let mut client = Grpc::new(channel.clone());
        client.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static("/test.Slow/Ask");
        let answer = client.unary(grpc::request(Bytes::new(), None), path, Raw).await;
        answer.map(drop).map_err(|status| grpc::fault_from_status(&status))
    };
    match caller.call(work).await.unwrap_err() {
        CallError::DeadlineExceeded => FaultKind::Timeout,
        error => error.kind(),
    }
}

fn caller(attempt: Duration) -> Caller {
    let policy = CallPolicy { attempt, retry: Retry::NEVER, ..CallPolicy::default() };
    Caller::new("slow", policy, &Breakers::new())
}

#[tokio::test]
async fn who_gives_little_time_opens_no_breaker_and_the_policys_own_time_does() {
    let mut tasks = JoinSet::new();
    let channel = hanging(&mut tasks).await;
    let hasty = caller(2000 * MS);
    // Parts of a millisecond too: what is rounded down ends before our own time does.
    for micros in [400, 1_700, 10_300, 20_900, 30_500, 40_999] {
        let until = Deadline::after(Duration::from_micros(micros));
        let answer = deadline::within(until, ask(&hasty, &channel)).await;
        assert_eq!(answer, FaultKind::Timeout, "{micros} us");
    }
    assert_eq!(hasty.breaker().status(Instant::now()).failures, 0);

    // A busy machine may hold us up for a part of it, and that would be nobody's failure.
    let patient = caller(300 * MS);
    for _ in 0..3 {
        assert_eq!(ask(&patient, &channel).await, FaultKind::Timeout);
    }
    assert_eq!(patient.breaker().status(Instant::now()).failures, 3);
    tasks.shutdown().await;
}
