//! Commits that may be repeated, and happen once: their ids are kept for a time.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::message::Timestamp;
use crate::store::{Change, Commit, CommitError, Committed, Field, Revision, Row};

use super::Store;

/// How often the ids of commits whose time is over are forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Keeps the ids of commits that may be repeated.
#[derive(serde::Serialize, serde::Deserialize)]
struct CommitMark {
    at: Timestamp,
}

impl Row for CommitMark {
    const COLLECTION: &'static str = "purlin_commits";
    const FIELDS: &'static [Field] = &[];
}

impl Store {
    pub(super) async fn commit_once(
        &self,
        commit: Commit,
        id: String,
        keep: Duration,
    ) -> Result<Committed, CommitError> {
        if commit.changes.iter().flat_map(Change::names).any(|name| name == CommitMark::COLLECTION) {
            let why =
                format!("a commit with an id cannot change `{}`, where ids are kept", CommitMark::COLLECTION);
            return Err(CommitError::Invalid(why));
        }
        self.define::<CommitMark>().await?;
        let now = self.engine.clock().now();
        let due = now.checked_add(keep).unwrap_or(Timestamp::MAX);
        let marked = commit.put_expecting(&id, &CommitMark { at: now }, Revision::Absent, Some(due));
        match self.engine.commit(marked).await {
            // Repeated, it meets what it did itself, whichever of its expectations is asked first.
            // The same with whom it is about, who may be forgotten since.
            Err(refused @ (CommitError::Conflict(_) | CommitError::Forgotten(_))) => {
                self.answer_again(&id, refused).await
            }
            other => other,
        }
    }

    /// The outcome of the commit that left this mark; `refused` if there is none.
    async fn answer_again(&self, id: &str, refused: CommitError) -> Result<Committed, CommitError> {
        let mark = self.get_record(CommitMark::COLLECTION, id).await;
        let Some(mark) = mark.map_err(|error| CommitError::Unavailable(error.into()))? else {
            return Err(refused);
        };
        let at = mark.decode::<CommitMark>().map_err(|error| CommitError::Unavailable(error.into()))?.at;
        Ok(Committed {
            position: mark.position,
            revision: mark.revision,
            at,
            appended: Vec::new(),
            repeated: true,
        })
    }

    /// Forgets the ids of commits whose time is over; returns how many.
    pub async fn forget_commits(&self, now: Timestamp) -> Result<usize, CommitError> {
        self.define::<CommitMark>().await?;
        self.sweep::<CommitMark>(now).await
    }

    /// Forgets the ids of commits as their time comes, until `shutdown`. For the supervisor to run; a store that is away
    /// only delays it.
    pub fn commit_sweeper(
        &self,
        shutdown: CancellationToken,
    ) -> impl Future<Output = Result<(), CommitError>> + Send + use<> + 'static {
        let store = self.clone();
        async move {
            loop {
                // By the clock that they were written by.
                match store.forget_commits(store.engine.clock().now()).await {
                    Ok(forgotten) if forgotten > 0 && !shutdown.is_cancelled() => continue,
                    Err(error @ CommitError::Invalid(_)) => return Err(error),
                    _ => {}
                }
                tokio::select! {
                    () = shutdown.cancelled() => return Ok(()),
                    () = tokio::time::sleep(SWEEP_EVERY) => {}
                }
            }
        }
    }
}
