//! The service that fails: one gRPC method, whose work has a fixed capacity.

use std::pin::Pin;
use std::sync::Arc;

use anyhow::Result;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use purlin::http::{Edge, layers};
use purlin::telemetry::Metrics;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tonic::server::{Grpc, UnaryService};
use tonic_prost::ProstCodec;

use super::station::Station;
use super::{Care, run};
use crate::cascade::plan::{CALLEE_PLACES, CALLEE_SERVICE_MS, METHOD};

/// Serves on this port until told to end; the order `service MS` changes how long its work takes, `fail N` lets every
/// Nth call fail.
pub(super) async fn be(port: u16, care: Care) -> Result<()> {
    let station = Arc::new(Station::new(CALLEE_PLACES, CALLEE_SERVICE_MS));
    let work = Work { station: Arc::clone(&station), care, tasks: TaskTracker::new() };
    let router = Router::new().route(METHOD, post(answer)).with_state(work);
    let router = match care {
        Care::Careful => layers(router, Edge::new("callee", &Metrics::new())),
        Care::Careless => router,
    };
    let order = |line: &str| match line.split_once(' ').map(|(order, number)| (order, number.parse())) {
        Some(("service", Ok(ms))) => station.take(ms),
        Some(("fail", Ok(each))) => station.fail(each),
        _ => eprintln!("`{line}` is no order"),
    };
    run(port, router, order, || station.said().to_vec()).await
}

async fn answer(State(work): State<Work>, request: Request) -> Response {
    Grpc::new(ProstCodec::<(), ()>::default()).unary(work, request).await.map(Body::new)
}

#[derive(Clone)]
struct Work {
    station: Arc<Station>,
    care: Care,
    tasks: TaskTracker,
}

impl UnaryService<()> for Work {
    type Response = ();
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<()>, Status>> + Send>>;

    fn call(&mut self, _: tonic::Request<()>) -> Self::Future {
        let (station, care, tasks) = (Arc::clone(&self.station), self.care, self.tasks.clone());
        Box::pin(async move {
            let done = match care {
                Care::Careful => station.work().await,
                // The work is done whether or not anybody still waits for it, as by a thread that knows of no caller.
                Care::Careless => {
                    let work = tasks.spawn(async move { station.work().await });
                    work.await.map_err(|error| Status::internal(error.to_string()))?
                }
            };
            match done {
                true => Ok(tonic::Response::new(())),
                false => Err(Status::unavailable("this one fails")),
            }
        })
    }
}
