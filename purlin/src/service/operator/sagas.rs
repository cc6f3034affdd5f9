//! Sagas, asked for by an operator.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::http::{Json, Limit, Listing, Path, Problem, Query};
use crate::message::{Clock, Uuid};
use crate::saga::{Directory, ListSagas, SagaRow, SagaState, SagaView};
use crate::store::ReadError;

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
    let page = if_any(directory(&services, &service)?.list(wanted).await)?;
    let items = page.items.into_iter().map(|(id, row)| Listed { id, row }).collect();
    Ok(Json(Listing { items, next: page.next.map(|id| id.to_string()) }))
}

pub(super) async fn show(
    State(services): State<Services>,
    Path((service, id)): Path<(String, Uuid)>,
) -> Result<Json<SagaView>, Problem> {
    let saga = if_any(directory(&services, &service)?.show(id).await)?;
    saga.map(Json).ok_or_else(|| not_found(format!("there is no saga {id}")))
}

pub(super) async fn retry(
    State(services): State<Services>,
    Path((service, id)): Path<(String, Uuid)>,
) -> Result<Json<Value>, Problem> {
    let directory = directory(&services, &service)?;
    if if_any(directory.show(id).await)?.is_none() {
        return Err(not_found(format!("there is no saga {id}")));
    }
    directory.prepare().await?;
    directory.retry(id).await?;
    tracing::info!(service, %id, "an operator told a saga to go on");
    Ok(Json(json!({ "id": id })))
}

fn directory(services: &Services, service: &str) -> Result<Directory, Problem> {
    Ok(Directory::new(services.store(service)?, Clock::system()))
}

/// What was read, or nothing of a store that never had sagas: who only looks must not make their collections in it.
fn if_any<T: Default>(read: Result<T, ReadError>) -> Result<T, ReadError> {
    match read {
        Err(ReadError::Invalid(_)) => Ok(T::default()),
        read => read,
    }
}
