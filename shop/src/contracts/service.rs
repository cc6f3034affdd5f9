//! What every service is made of and what it is run by.

use std::sync::Arc;

use axum::{Extension, Router};
use purlin::message::Clock;
use purlin::store::{BoxFuture, Cause, Store};
use purlin::telemetry::Metrics;
use purlin_gateway::auth::Verifier;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::keys::{About, Elsewhere, Keys};

/// What a service stands on.
#[derive(Clone)]
pub struct Base {
    /// Its name.
    pub name: &'static str,
    /// Its data.
    pub store: Store,
    /// What time it is.
    pub clock: Clock,
    /// One effect for each key.
    pub keys: Keys,
    /// Which tokens hold.
    pub verifier: Verifier,
    /// The numbers of the process.
    pub metrics: Metrics,
}

impl Base {
    /// A service's ground.
    pub fn new(name: &'static str, store: Store, clock: Clock, verifier: Verifier) -> Self {
        let keys = Keys::new(&store, &clock);
        Self { name, store, clock, keys, verifier, metrics: Metrics::new() }
    }

    /// Shows how its work goes among these numbers.
    pub fn metrics(self, metrics: &Metrics) -> Self {
        Self { metrics: metrics.clone(), ..self }
    }

    /// Says which other services take keys of the same callers, and about whose they are asked.
    pub fn elsewhere(mut self, elsewhere: Vec<Elsewhere>, about: About) -> Self {
        self.keys = self.keys.elsewhere(elsewhere, about, &self.metrics);
        self
    }

    /// The service itself: its doors, and its work in the background.
    pub fn service(&self, router: Router) -> Service {
        let (sweeper, store) = (self.keys.clone(), self.store.clone());
        let router = router.merge(self.keys.door()).layer(Extension(self.verifier.clone()));
        Service {
            name: self.name,
            store: self.store.clone(),
            router,
            tasks: Vec::new(),
            first: None,
            stuck: None,
        }
        .task("keys", move |shutdown| sweeper.clone().sweeper(shutdown))
        .task("commits", move |shutdown| store.commit_sweeper(shutdown))
    }
}

/// A service that is ready to be run.
pub struct Service {
    /// Its name.
    pub name: &'static str,
    /// Its data.
    pub store: Store,
    /// What it answers, over REST and gRPC.
    pub router: Router,
    /// What it does in the background.
    pub tasks: Vec<Task>,
    /// What is still to be done, once the services it needs answer, before it is ready; tried until it is done.
    pub first: Option<First>,
    /// What does not go on by itself, for operators.
    pub stuck: Option<Stuck>,
}

/// Lists what does not go on by itself, each with a reason: behind which one, and how many at most.
pub type Stuck =
    Arc<dyn Fn(Option<String>, usize) -> BoxFuture<'static, Result<StuckPage, Cause>> + Send + Sync>;

/// Some of what does not go on by itself, and behind which one it goes on.
#[derive(Debug, Default)]
pub struct StuckPage {
    /// What is stuck.
    pub items: Vec<Value>,
    /// What to give for the next page; none: this is the last.
    pub next: Option<String>,
}

/// What is to be done first.
pub type First = Arc<dyn Fn() -> BoxFuture<'static, Result<(), Cause>> + Send + Sync>;

/// Work in the background, which is begun again when it fails.
#[derive(Clone)]
pub struct Task {
    /// What it is.
    pub name: String,
    /// Begins it.
    pub run: Arc<dyn Fn(CancellationToken) -> BoxFuture<'static, Result<(), Cause>> + Send + Sync>,
}

impl Service {
    /// Has something done before it is ready.
    pub fn first<F, Fut>(mut self, first: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Cause>> + Send + 'static,
    {
        self.first = Some(Arc::new(move || Box::pin(first())));
        self
    }

    /// Lists what does not go on by itself.
    pub fn stuck<F, Fut>(mut self, list: F) -> Self
    where
        F: Fn(Option<String>, usize) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<StuckPage, Cause>> + Send + 'static,
    {
        self.stuck = Some(Arc::new(move |after, limit| Box::pin(list(after, limit))));
        self
    }

    /// Adds work in the background.
    pub fn task<F, Fut, E>(mut self, name: &str, run: F) -> Self
    where
        F: Fn(CancellationToken) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Cause>,
    {
        let run = Arc::new(run);
        let name = format!("{}/{name}", self.name);
        let begin = move |shutdown| -> BoxFuture<'static, Result<(), Cause>> {
            let run = Arc::clone(&run);
            Box::pin(async move { run(shutdown).await.map_err(Into::into) })
        };
        self.tasks.push(Task { name, run: Arc::new(begin) });
        self
    }
}
