//! The stores themselves, asked for by an operator: which log each is, who follows it, and copies of them.

use std::path::PathBuf;

use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::bus;
use crate::http::{Json, Path, Problem, Query};
use crate::store::transfer;

use super::{Services, bad_request, told};

/// Which log a store is, and what it holds.
pub(super) async fn show(
    State(services): State<Services>,
    Path(service): Path<String>,
) -> Result<Json<Value>, Problem> {
    let store = services.store(&service)?;
    let collections = store.collections().await?;
    let names: Vec<&str> = collections.iter().map(|collection| &*collection.name).collect();
    Ok(Json(json!({
        "log": store.log_id().log,
        "incarnation": store.log_id().incarnation,
        "head": store.head(),
        "now": store.now(),
        "collections": names,
        "half_imported": transfer::unfinished(store).await?.is_some(),
    })))
}

/// Who follows the logs of these services, and how far behind: the relays and groups of all stores.
pub(super) async fn followers(State(services): State<Services>) -> Result<Json<Value>, Problem> {
    let mut items = Vec::new();
    for (service, store) in services.0.iter() {
        for follower in bus::followers(store).await? {
            // A life of the log that ended is another log to whoever follows it.
            let same = services.0.iter().find(|(_, store)| store.log_id() == follower.log);
            let other_life = services.0.values().any(|store| store.log_id().log == follower.log.log);
            let head = same.map(|(_, store)| store.head());
            items.push(json!({
                "service": service,
                "kind": follower.kind,
                "name": follower.name,
                "follows": same.map(|(name, _)| name),
                "position": follower.position,
                "head": head,
                "lag": head.map(|head| head.0.saturating_sub(follower.position.0)),
                "other_incarnation": same.is_none() && other_life,
            }));
        }
    }
    Ok(Json(json!({ "items": items })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Copy {
    to: PathBuf,
}

/// Writes a copy of a store to a new file, as of one instant, while it is used.
pub(super) async fn backup(
    State(services): State<Services>,
    Path(service): Path<String>,
    Query(wanted): Query<Copy>,
) -> Result<Json<Value>, Problem> {
    let store = services.store(&service)?;
    if !wanted.to.is_absolute() {
        return Err(bad_request(format!("`{}` is no absolute path", wanted.to.display())));
    }
    match store.backup(&wanted.to).await {
        Ok(()) => {
            tracing::info!(service, to = %wanted.to.display(), "an operator had a backup written");
            Ok(Json(json!({ "to": wanted.to })))
        }
        Err(error) => Err(Problem::new(StatusCode::CONFLICT, "no-backup").detail(told(&*error))),
    }
}
