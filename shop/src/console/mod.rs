//! What operators see: health, numbers, what is stuck and what is parked, as JSON.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json as Answer, Router};
use purlin::bus::DeadLetters;
use purlin::http::{Cursors, Limit, Listing, Problem, Query};
use purlin::resilience::{BreakerStatus, Breakers};
use purlin::service::{Supervisor, TaskStatus, probes};
use purlin::store::Store;
use purlin::telemetry::{Health, Metrics};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::contracts::service::{Stuck, StuckPage};

/// How many of a list are shown, unless somebody wants fewer.
const MOST: usize = 100;

const STUCK: Cursors = Cursors::of("stuck");
const PARKED: Cursors = Cursors::of("dead-letters");

#[derive(Debug, Deserialize)]
struct Page {
    limit: Option<Limit>,
    cursor: Option<String>,
}

/// What the console looks at.
#[derive(Clone)]
pub struct Console {
    /// Whether the process can take work.
    pub health: Health,
    /// Its numbers.
    pub metrics: Metrics,
    /// Its breakers.
    pub breakers: Breakers,
    /// Its tasks.
    pub supervisor: Supervisor,
    /// Its services.
    pub services: Arc<[Watched]>,
}

/// A service as the console sees it.
#[derive(Clone)]
pub struct Watched {
    /// Its name.
    pub name: &'static str,
    /// Its data.
    pub store: Store,
    /// What does not go on by itself.
    pub stuck: Option<Stuck>,
}

/// The console's routes.
pub fn router(console: Console) -> Router {
    let probes = probes(&console.health, &console.metrics);
    Router::new()
        .route("/", get(index))
        .route("/sagas/stuck", get(stuck))
        .route("/dead-letters", get(parked))
        .route("/breakers", get(breakers))
        .route("/tasks", get(tasks))
        .with_state(console)
        .merge(probes)
}

async fn index() -> Answer<Value> {
    Answer(json!({
        "livez": "/livez", "readyz": "/readyz", "metrics": "/metrics", "stuck_sagas": "/sagas/stuck",
        "dead_letters": "/dead-letters", "breakers": "/breakers", "tasks": "/tasks",
    }))
}

async fn stuck(
    State(console): State<Console>,
    Query(page): Query<Page>,
) -> Result<Answer<Listing<Value>>, Problem> {
    let listed = console.walk(STUCK, page, async |service: Watched, after, limit| {
        let Some(list) = &service.stuck else { return Ok(StuckPage::default()) };
        list(after, limit).await.map_err(|error| unreadable(service.name, &*error))
    });
    listed.await.map(Answer)
}

async fn parked(
    State(console): State<Console>,
    Query(page): Query<Page>,
) -> Result<Answer<Listing<Value>>, Problem> {
    let listed = console.walk(PARKED, page, async |service: Watched, after: Option<String>, limit| {
        let page = DeadLetters::new(&service.store).list(None, after.as_deref(), limit).await?;
        let items = page.items.iter().map(serde_json::to_value).collect::<Result<_, _>>();
        let items = items.map_err(|error| unreadable(service.name, &error))?;
        Ok(StuckPage { items, next: page.next })
    });
    listed.await.map(Answer)
}

impl Console {
    /// A page of a list that goes through the services, one after the other.
    async fn walk<F, Fut>(&self, cursors: Cursors, page: Page, list: F) -> Result<Listing<Value>, Problem>
    where
        F: Fn(Watched, Option<String>, usize) -> Fut,
        Fut: Future<Output = Result<StuckPage, Problem>>,
    {
        let cursor = cursors.read_optional(page.cursor.as_deref())?;
        let (first, mut after) = match cursor.as_deref().and_then(|cursor| cursor.split_once(' ')) {
            Some((name, after)) => (name, Some(after.to_owned()).filter(|after| !after.is_empty())),
            None => ("", None),
        };
        let limit = page.limit.map_or(MOST, Limit::get);
        let mut items = Vec::new();
        let services = self.services.iter().skip_while(|service| !first.is_empty() && service.name != first);
        for service in services {
            // What is full goes on at the next service.
            if items.len() >= limit {
                return Ok(Listing { items, next: Some(cursors.write(&format!("{} ", service.name))) });
            }
            let found = list(service.clone(), after.take(), limit - items.len()).await?;
            items.extend(found.items.into_iter().map(|item| of(service.name, item)));
            if let Some(next) = found.next {
                return Ok(Listing { items, next: Some(cursors.write(&format!("{} {next}", service.name))) });
            }
        }
        Ok(Listing { items, next: None })
    }
}

async fn breakers(State(console): State<Console>) -> Answer<Vec<BreakerStatus>> {
    Answer(console.breakers.list(Instant::now()))
}

async fn tasks(State(console): State<Console>) -> Answer<Vec<TaskStatus>> {
    Answer(console.supervisor.tasks())
}

fn of(service: &str, mut item: Value) -> Value {
    if let Value::Object(members) = &mut item {
        members.insert("service".into(), service.into());
    }
    item
}

fn unreadable(service: &str, error: &(dyn std::error::Error + 'static)) -> Problem {
    tracing::error!(service, error, "what operators should see cannot be read");
    Problem::new(http::StatusCode::SERVICE_UNAVAILABLE, "unavailable")
        .detail(format!("what the service {service} has to show cannot be read"))
}
