//! What the keys of personal data are wrapped in, asked for by an operator. He sees no key, and nothing that one seals.

use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;

use crate::http::{Json, Path, Problem, Query};
use crate::store::CommitError;
use crate::store::personal::PersonalKeys;

use super::{Services, unread};

/// How many keys are wrapped in what.
pub(super) async fn show(
    State(services): State<Services>,
    Path(service): Path<String>,
) -> Result<Json<PersonalKeys>, Problem> {
    Ok(Json(services.store(&service)?.personal_keys().await.map_err(unread)?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lost {
    master: String,
}

/// Lets new keys be made under another master key, because the one of this name is lost.
pub(super) async fn abandon(
    services: State<Services>,
    service: Path<String>,
    Query(Lost { master }): Query<Lost>,
) -> Result<Json<PersonalKeys>, Problem> {
    match services.store(&service.0)?.abandon_master_key(&master).await {
        Ok(()) => {
            tracing::warn!(service = &*service.0, master, "an operator gave up a master key as lost");
            show(services, service).await
        }
        Err(CommitError::Invalid(why)) => Err(Problem::new(StatusCode::CONFLICT, "conflict").detail(why)),
        Err(error) => Err(error.into()),
    }
}
