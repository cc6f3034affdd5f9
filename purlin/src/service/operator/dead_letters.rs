//! Parked messages, asked for by an operator.

use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::bus::{DeadLetterDetails, DeadLetterPage, DeadLetters};
use crate::http::{Json, Limit, Path, Problem, Query};

use super::Services;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    group: Option<String>,
    #[serde(default)]
    limit: Limit,
    cursor: Option<String>,
}

pub(super) async fn list(
    State(services): State<Services>,
    Path(service): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<DeadLetterPage>, Problem> {
    let letters = DeadLetters::new(services.store(&service)?);
    let (group, after) = (wanted.group.as_deref(), wanted.cursor.as_deref());
    Ok(Json(letters.list(group, after, wanted.limit.get()).await?))
}

pub(super) async fn show(
    State(services): State<Services>,
    Path((service, id)): Path<(String, String)>,
) -> Result<Json<DeadLetterDetails>, Problem> {
    Ok(Json(DeadLetters::new(services.store(&service)?).show(&id).await?))
}

pub(super) async fn replay(
    State(services): State<Services>,
    Path((service, id)): Path<(String, String)>,
) -> Result<Json<Value>, Problem> {
    DeadLetters::new(services.store(&service)?).replay(&id).await?;
    tracing::info!(service, id, "an operator had a parked message tried again");
    Ok(Json(json!({ "id": id })))
}

pub(super) async fn drop(
    State(services): State<Services>,
    Path((service, id)): Path<(String, String)>,
) -> Result<Json<Value>, Problem> {
    DeadLetters::new(services.store(&service)?).drop(&id).await?;
    tracing::warn!(service, id, "an operator dropped a parked message");
    Ok(Json(json!({ "id": id })))
}
