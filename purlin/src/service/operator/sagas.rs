//! Sagas, asked for by an operator.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::http::{Json, Limit, Listing, Path, Problem, Query};
use crate::message::{Clock, Uuid};
use crate::saga::{Directory, ListSagas, SagaRow, SagaState, SagaView};

use super::{Services, not_found};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    state: Option<SagaState>,
    kind: Option<String>,
    #[serde(default)]
    limit: Limit,
    cursor: Option<Uuid>,
}

/// A saga in a list.
#[derive(Serialize)]
pub(super) struct Listed {
    id: Uuid,
    #[serde(flatten)]
    row: SagaRow,
}

pub(super) async fn list(
    State(services): State<Services>,
    Path(service): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Listing<Listed>>, Problem> {
    let Wanted { state, kind, limit, cursor } = wanted;
    let wanted = ListSagas { state, kind, after: cursor, limit: limit.get() };
    let page = directory(&services, &service).await?.list(wanted).await?;
    let items = page.items.into_iter().map(|(id, row)| Listed { id, row }).collect();
    Ok(Json(Listing { items, next: page.next.map(|id| id.to_string()) }))
}

pub(super) async fn show(
    State(services): State<Services>,
    Path((service, id)): Path<(String, Uuid)>,
) -> Result<Json<SagaView>, Problem> {
    let saga = directory(&services, &service).await?.show(id).await?;
    saga.map(Json).ok_or_else(|| not_found(format!("there is no saga {id}")))
}

pub(super) async fn retry(
    State(services): State<Services>,
    Path((service, id)): Path<(String, Uuid)>,
) -> Result<Json<Value>, Problem> {
    directory(&services, &service).await?.retry(id).await?;
    tracing::info!(service, %id, "an operator told a saga to go on");
    Ok(Json(json!({ "id": id })))
}

/// The sagas of a service; one that never had any gets the empty collections.
async fn directory(services: &Services, service: &str) -> Result<Directory, Problem> {
    let directory = Directory::new(services.store(service)?, Clock::system());
    directory.prepare().await?;
    Ok(directory)
}
