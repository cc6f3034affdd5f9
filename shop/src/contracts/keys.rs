//! A caller's `Idempotency-Key` stands for one request in the whole shop, though each service keeps its own.
//!
//! A service claims a key in its own store and then asks the others whether they know it. Of two that claim the same
//! key at once at least one finds the other, so never both are done. Nothing is written elsewhere: a claim that died
//! with its process, or came to nothing, is unknown again at once. A service that cannot be asked stops nobody.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use futures_util::future::join_all;
use http::StatusCode;
use purlin::http::{Attempt, Decided, Idempotency, Problem, WriteRequest};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response as Reply, Status};

use super::clients;
use super::line::door;
use super::rpc::keys::keys_server::{self, KeysServer};
use super::rpc::keys::{FindKey, FoundKey};
use super::who::Caller;

/// How long another service is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// One effect for each key; cheap to clone.
#[derive(Clone)]
pub struct Keys {
    own: Idempotency,
    elsewhere: Arc<[Elsewhere]>,
}

/// Another service that takes keys.
#[derive(Clone)]
pub struct Elsewhere {
    /// How it is asked.
    pub keys: clients::Keys,
    /// Whose keys it can know.
    pub of: Of,
}

/// Whose writes a service takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Those of everybody who has a token.
    Users,
    /// Those of administrators alone.
    Administrators,
}

impl Keys {
    /// The keys of a service.
    pub fn new(own: Idempotency) -> Self {
        Self { own, elsewhere: Arc::default() }
    }

    /// Says where else the same caller may have used a key.
    pub fn elsewhere(self, elsewhere: Vec<Elsewhere>) -> Self {
        Self { elsewhere: elsewhere.into(), ..self }
    }

    /// Answers a request that writes, as [`Idempotency::run`], unless its key stands for another one elsewhere.
    pub async fn run<F, Fut>(&self, caller: &Caller, request: &WriteRequest, decide: F) -> Response
    where
        F: Fn(Attempt) -> Fut,
        Fut: Future<Output = Result<Decided, Problem>>,
    {
        let decide = async |attempt: Attempt| {
            // The first try is made when the key was claimed just now.
            if let (Some(key), 1) = (&request.key, attempt.number) {
                self.is_free_elsewhere(caller, key).await?;
            }
            decide(attempt).await
        };
        self.own.run(&caller.name(), request, decide).await
    }

    async fn is_free_elsewhere(&self, caller: &Caller, key: &str) -> Result<(), Problem> {
        let name = caller.name();
        let asked = self.elsewhere.iter().filter(|service| service.of.includes(caller));
        let asked = asked.map(|service| tokio::time::timeout(PATIENCE, service.keys.find(&name, key)));
        for answer in join_all(asked).await {
            match answer {
                Ok(Ok(true)) => return Err(reused()),
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a service could not be asked for its keys"),
                Err(_) => tracing::debug!("a service did not say in time whether it knows a key"),
            }
        }
        Ok(())
    }

    /// Deletes keys whose time is over, until told to stop.
    pub async fn sweeper(self, shutdown: CancellationToken) -> Result<(), purlin::http::SweepError> {
        self.own.sweeper(shutdown).await
    }

    /// Where other services ask.
    pub fn door(&self) -> Router {
        door(KeysServer::new(self.clone()))
    }
}

impl Of {
    fn includes(self, caller: &Caller) -> bool {
        match caller {
            Caller::Known(known) => self == Self::Users || known.is_admin(),
            Caller::Address(_) => false,
        }
    }
}

#[tonic::async_trait]
impl keys_server::Keys for Keys {
    async fn find(&self, request: Request<FindKey>) -> Result<Reply<FoundKey>, Status> {
        let FindKey { caller, key } = request.into_inner();
        let found = self.own.knows(&caller, &key).await;
        let found = found.map_err(|_| Status::unavailable("the keys cannot be read"))?;
        Ok(Reply::new(FoundKey { found }))
    }
}

fn reused() -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency-key-reused")
        .detail("this Idempotency-Key was used for another request: choose a new one")
}
