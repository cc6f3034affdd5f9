//! The line to another service: every call has a deadline, a retry within a budget, a breaker, and a trace.

use std::convert::Infallible;

use axum::Router;
use axum::response::IntoResponse;
use purlin::http::grpc;
use purlin::message::Uuid;
use purlin::resilience::{CallError, Caller};
use tonic::server::NamedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

/// A line to another service; cheap to clone, and connected when it is first used.
#[derive(Clone)]
pub struct Line {
    endpoint: Endpoint,
    channel: Channel,
    caller: Caller,
}

/// A call had no good answer: the line is broken, or the other side refused.
pub type LineError = CallError<grpc::RemoteFault>;

impl Line {
    /// A line to the service at `url`.
    pub fn new(url: &str, caller: Caller) -> Result<Self, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(url.to_owned())?;
        Ok(Self { channel: endpoint.connect_lazy(), endpoint, caller })
    }

    /// The same line over a connection of its own, so that its calls wait behind no others: a connection carries
    /// a limited number at once.
    pub fn apart(&self) -> Self {
        Self { channel: self.endpoint.connect_lazy(), ..self.clone() }
    }

    /// Makes a call; `key` is what the other side may know a repeated one by.
    pub async fn call<M, T, Fut>(
        &self,
        key: Option<&str>,
        message: M,
        send: impl Fn(Channel, Request<M>) -> Fut,
    ) -> Result<T, LineError>
    where
        M: Clone,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let attempt = || {
            let sent = send(self.channel.clone(), grpc::request(message.clone(), key));
            async { sent.await.map(Response::into_inner).map_err(|status| grpc::fault_from_status(&status)) }
        };
        // A call is large, and what waits for several of them would be all of them.
        Box::pin(self.caller.call(attempt)).await
    }
}

/// The door that a gRPC service is reached by.
pub fn door<S>(service: S) -> Router
where
    S: tower::Service<http::Request<axum::body::Body>, Error = Infallible>
        + NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Response: IntoResponse,
    S::Future: Send + 'static,
{
    Router::new().route_service(&format!("/{}/{{*method}}", S::NAME), service)
}

/// An id that came over a line.
pub fn id(text: &str) -> Result<Uuid, Status> {
    text.parse().map_err(|_| Status::invalid_argument(format!("`{text}` is not an id")))
}
