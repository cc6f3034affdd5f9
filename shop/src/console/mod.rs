//! What operators see: health, numbers, what is stuck and what is parked, as JSON.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json as Answer, Router};
use purlin::bus::DeadLetters;
use purlin::http::Problem;
use purlin::resilience::{BreakerStatus, Breakers};
use purlin::service::{Supervisor, TaskStatus, probes};
use purlin::store::Store;
use purlin::telemetry::{Health, Metrics};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::contracts::service::Stuck;

/// How many parked messages of a service are shown.
const MOST: usize = 100;

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

async fn stuck(State(console): State<Console>) -> Result<Answer<Value>, Problem> {
    let mut items = Vec::new();
    for service in console.services.iter() {
        let Some(list) = &service.stuck else { continue };
        let listed = list().await.map_err(|error| unreadable(service.name, &*error))?;
        items.extend(listed.into_iter().map(|item| of(service.name, item)));
    }
    Ok(Answer(json!({ "items": items, "next": null })))
}

async fn parked(State(console): State<Console>) -> Result<Answer<Value>, Problem> {
    let mut items = Vec::new();
    for service in console.services.iter() {
        let page = DeadLetters::new(&service.store).list(None, None, MOST).await?;
        for letter in page.items {
            let item = serde_json::to_value(letter).map_err(|error| unreadable(service.name, &error))?;
            items.push(of(service.name, item));
        }
    }
    Ok(Answer(json!({ "items": items, "next": null })))
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
