//! Read models, asked for by an operator.

use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::{Json, Limit, Listing, Path, Problem, Query};
use crate::projection::{ParkedPage, ViewStatus, Views};
use crate::store::Position;

use super::Services;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    #[serde(default)]
    limit: Limit,
    cursor: Option<String>,
}

pub(super) async fn list(
    State(services): State<Services>,
    Path(service): Path<String>,
) -> Result<Json<Listing<ViewStatus>>, Problem> {
    let items = views(&services, &service)?.list().await?;
    Ok(Json(Listing { items, next: None }))
}

pub(super) async fn show(
    State(services): State<Services>,
    Path((service, name)): Path<(String, String)>,
) -> Result<Json<ViewStatus>, Problem> {
    Ok(Json(views(&services, &service)?.show(&name).await?))
}

pub(super) async fn rebuild(
    State(services): State<Services>,
    Path((service, name)): Path<(String, String)>,
) -> Result<Json<Value>, Problem> {
    views(&services, &service)?.rebuild(&name).await?;
    Ok(done(&service, &name, "an operator has a view built anew"))
}

pub(super) async fn cancel(
    State(services): State<Services>,
    Path((service, name)): Path<(String, String)>,
) -> Result<Json<Value>, Problem> {
    views(&services, &service)?.cancel_rebuild(&name).await?;
    Ok(done(&service, &name, "an operator called the rebuild of a view off"))
}

pub(super) async fn pause(
    State(services): State<Services>,
    Path((service, name)): Path<(String, String)>,
) -> Result<Json<Value>, Problem> {
    views(&services, &service)?.pause(&name).await?;
    Ok(done(&service, &name, "an operator paused a view"))
}

pub(super) async fn resume(
    State(services): State<Services>,
    Path((service, name)): Path<(String, String)>,
) -> Result<Json<Value>, Problem> {
    views(&services, &service)?.resume(&name).await?;
    Ok(done(&service, &name, "an operator let a view go on"))
}

pub(super) async fn parked(
    State(services): State<Services>,
    Path((service, name)): Path<(String, String)>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<ParkedPage>, Problem> {
    let views = views(&services, &service)?;
    Ok(Json(views.parked(&name, wanted.cursor.as_deref(), wanted.limit.get()).await?))
}

pub(super) async fn retry(
    State(services): State<Services>,
    Path((service, name, position)): Path<(String, String, Position)>,
) -> Result<Json<Value>, Problem> {
    views(&services, &service)?.retry(&name, position).await?;
    tracing::info!(service, view = name, %position, "an operator had parked events tried again");
    Ok(Json(json!({ "name": name, "position": position })))
}

pub(super) async fn drop(
    State(services): State<Services>,
    Path((service, name, position)): Path<(String, String, Position)>,
) -> Result<Json<Value>, Problem> {
    views(&services, &service)?.drop(&name, position).await?;
    tracing::warn!(service, view = name, %position, "an operator left an event out of a view");
    Ok(Json(json!({ "name": name, "position": position })))
}

fn done(service: &str, view: &str, what: &str) -> Json<Value> {
    tracing::info!(service, view, "{what}");
    Json(json!({ "name": view }))
}

fn views(services: &Services, service: &str) -> Result<Views, Problem> {
    Ok(Views::new(services.store(service)?))
}
