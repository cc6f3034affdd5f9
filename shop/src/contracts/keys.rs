//! A caller's `Idempotency-Key` stands for one request in the whole shop, though each service keeps its own.
//!
//! A service claims a key in its own store and then asks the others what they know of it. Of two that claim the same
//! key at once at least one finds the other, so never both are done. No claim is written elsewhere: one that died with
//! its process, or came to nothing, is unknown again at once. A service that cannot be asked stops nobody.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use futures_util::future::join_all;
use http::StatusCode;
use purlin::http::{Attempt, Decided, Idempotency, KeyState, Problem, WriteRequest};
use purlin::message::Clock;
use purlin::resilience::{Deadline, deadline};
use purlin::store::Store;
use purlin::telemetry::metrics::{Counter, Family};
use purlin::telemetry::{Metrics, Rarely};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response as Reply, Status};

use super::announced::Announced;
use super::clients;
use super::line::door;
use super::rpc::keys::keys_server::{self, KeysServer};
use super::rpc::keys::{FindKey, FoundKey};
use super::who::Caller;

/// One effect for each key; cheap to clone.
#[derive(Clone)]
pub struct Keys {
    own: Idempotency,
    announced: Announced,
    elsewhere: Arc<Others>,
}

/// The other services that take keys.
struct Others {
    services: Vec<Elsewhere>,
    about: About,
    unasked: Family<Counter, 1>,
    warning: Rarely,
}

/// Another service that takes keys.
#[derive(Clone)]
pub struct Elsewhere {
    /// Its name.
    pub name: &'static str,
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

/// About whose keys a service asks the others. At most one asks about less than everybody's, or two could take a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// Everybody's.
    Everybody,
    /// Only those of callers about whom one of the others asked before.
    Announced,
}

impl Keys {
    /// The keys of a service. The stores of this program are locked for one process, so what another one had in hand
    /// died with it.
    pub fn new(store: &Store, clock: &Clock) -> Self {
        let own = Idempotency::new(store, clock.clone()).sole();
        Self {
            own,
            announced: Announced::new(store, clock),
            elsewhere: Others::new(Vec::new(), About::Everybody, &Metrics::new()),
        }
    }

    /// Says where else the same callers may have used a key.
    pub fn elsewhere(self, services: Vec<Elsewhere>, about: About, metrics: &Metrics) -> Self {
        Self { elsewhere: Others::new(services, about, metrics), ..self }
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
        let (name, others) = (caller.name(), &*self.elsewhere);
        let asked: Vec<_> = others.services.iter().filter(|service| service.of.includes(caller)).collect();
        if asked.is_empty() || others.about == About::Announced && !self.announced.has(&name).await? {
            return Ok(());
        }
        // Half of the caller's time is for the work itself.
        let half = deadline::current().map_or(Duration::MAX, |deadline| deadline.remaining() / 2);
        let find = async |service: &Elsewhere| (service.name, service.keys.find(&name, key).await);
        let answers = join_all(asked.into_iter().map(find));
        let mut running = false;
        for (service, answer) in deadline::within(Deadline::after(half), answers).await {
            match answer {
                Ok(KeyState::Decided) => return Err(reused()),
                Ok(KeyState::Running) => running = true,
                Ok(KeyState::Unknown) => {}
                Err(error) => others.unasked(service, &error),
            }
        }
        if running { Err(in_progress()) } else { Ok(()) }
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

impl Others {
    fn new(services: Vec<Elsewhere>, about: About, metrics: &Metrics) -> Arc<Self> {
        let unasked = metrics.counter(
            "shop_keys_unasked",
            "Idempotency keys that were taken though a service could not say whether it knows them",
            ["service"],
        );
        Arc::new(Self { services, about, unasked, warning: Rarely::every(Duration::from_secs(1)) })
    }

    fn unasked(&self, service: &'static str, error: &(dyn std::error::Error + 'static)) {
        self.unasked.with([service]).inc();
        if let Some(more) = self.warning.due() {
            tracing::warn!(
                service,
                error,
                more,
                "a key is taken though a service could not say whether it knows it"
            );
        }
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
        let unreadable = |_| Status::unavailable("the keys cannot be read");
        // Whoever claims the key here after this looks whether his caller is noted, and asks.
        if self.elsewhere.about == About::Announced {
            self.announced.note(&caller).await.map_err(unreadable)?;
        }
        let state = self.own.state_of(&caller, &key).await.map_err(unreadable)?;
        let (found, running) = (state != KeyState::Unknown, state == KeyState::Running);
        Ok(Reply::new(FoundKey { found, running }))
    }
}

fn reused() -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency-key-reused")
        .detail("this Idempotency-Key was used for another request: choose a new one")
}

fn in_progress() -> Problem {
    Problem::new(StatusCode::CONFLICT, "idempotency-key-in-progress")
        .detail("another request with this Idempotency-Key is still running: send this again in a moment")
        .retry_after(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use purlin::message::Uuid;
    use purlin::resilience::{Breakers, CallPolicy, Caller as Calls, Retry};
    use purlin::store::Commit;
    use tokio::net::TcpListener;

    use super::super::line::Line;
    use super::super::who::{Known, Role};
    use super::*;

    #[tokio::test]
    async fn a_service_that_hangs_stops_nobody_however_little_time_he_has() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (timeout, attempt) = (Duration::from_secs(60), Duration::from_secs(30));
        let policy = CallPolicy { timeout, attempt, retry: Retry::NEVER, ..CallPolicy::default() };
        let calls = Calls::new("keys-users", policy, &Breakers::new());
        let line = Line::new(&format!("http://{}", silent.local_addr().unwrap()), calls).unwrap();
        let users = Elsewhere { name: "users", keys: clients::Keys(line), of: Of::Users };
        let metrics = Metrics::new();
        let keys = Keys::new(&Store::memory(), &Clock::system());
        let keys = keys.elsewhere(vec![users], About::Everybody, &metrics);
        let caller = Caller::Known(Known { id: Uuid::nil(), role: Role::User });
        let request = WriteRequest::new("POST", "/orders", "{}").with_key("k");
        let work = keys
            .run(&caller, &request, |_| async { Decided::new(Commit::new(), StatusCode::CREATED, &"done") });
        let answer = deadline::within(Deadline::after(Duration::from_secs(1)), work).await;
        assert_eq!(answer.status(), 201);
        assert!(metrics.render().contains("shop_keys_unasked_total{service=\"users\"} 1"));
    }
}
