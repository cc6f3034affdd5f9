//! Archiving streams, asked for by an operator: a part at a time, so that who asks knows how far it is, and stops it by
//! not asking again.

use std::time::Duration;

use axum::extract::State;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use crate::http::{Json, Path, Problem, Query};
use crate::store::Position;
use crate::store::archive::{ArchiveError, Archiving, Progress, Selection};

use super::streams::SLICE;
use super::{Services, bad_request, told};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    category: String,
    tenant: Option<String>,
    /// Seconds.
    idle: u64,
    /// Kinds, with commas between.
    ended_by: Option<String>,
    after: Option<Position>,
    #[serde(default)]
    dry_run: bool,
}

impl Wanted {
    fn selection(self) -> Selection {
        let kinds = self.ended_by.as_deref().unwrap_or_default().split(',').filter(|kind| !kind.is_empty());
        let selection = Selection::category(self.category)
            .idle_for(Duration::from_secs(self.idle))
            .ended_by(kinds)
            .after(self.after.unwrap_or_default());
        let selection = self.tenant.into_iter().fold(selection, Selection::tenant);
        if self.dry_run { selection.dry_run() } else { selection }
    }
}

/// Archives for a moment, and says how far it came; when it fails too.
pub(super) async fn archive(
    State(services): State<Services>,
    Path(service): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Progress>, Problem> {
    let store = services.store(&service)?;
    let mut archiving = Archiving::new(store, &wanted.selection()).map_err(refused)?;
    let until = Instant::now() + SLICE;
    let before = archiving.progress().through;
    let went = loop {
        match archiving.step().await {
            Ok(true) => {}
            Ok(false) => break Ok(()),
            Err(error) => break Err(error),
        }
        let Progress { through, events, .. } = archiving.progress();
        // Who asks again has come on.
        if Instant::now() >= until && (through > before || events > 0) {
            break Ok(());
        }
    };
    let progress = archiving.progress();
    if progress.events > 0 {
        let (events, is_whole) = (progress.events, went.is_ok());
        tracing::info!(service, events, is_whole, "an operator has streams archived");
    }
    match went {
        Ok(()) => Ok(Json(progress)),
        Err(error) => Err(refused(error).with("progress", json!(progress))),
    }
}

/// With its causes: an operator can do something about them.
fn refused(error: ArchiveError) -> Problem {
    let said = told(&error);
    match error {
        ArchiveError::Invalid(_) => bad_request(said),
        error => Problem::from(error).detail(said),
    }
}
