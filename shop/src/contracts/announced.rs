//! Which callers have used a key at another service: they said so before they did.
//!
//! The busiest service does not ask the others about every key. It is told of a caller when he uses one elsewhere, and
//! asks about his keys alone. He is noted before the teller gets his answer, and looked for after a key is claimed: so
//! of two services that claim a key at once one still sees the other.

use std::sync::Arc;
use std::time::Duration;

use purlin::http::Problem;
use purlin::message::{Clock, Timestamp};
use purlin::store::{Commit, CommitError, ReadError, Revision, Row, Store};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

/// How long a caller is remembered; longer than his keys are (25 h).
const KEEP: Duration = Duration::from_secs(50 * 60 * 60);

/// How much of that must be left for him not to be noted again.
const ENOUGH: Duration = Duration::from_secs(26 * 60 * 60);

/// The callers who were announced; cheap to clone.
#[derive(Clone)]
pub(super) struct Announced {
    store: Store,
    clock: Clock,
    defined: Arc<OnceCell<()>>,
}

/// A caller with keys elsewhere.
#[derive(Debug, Serialize, Deserialize)]
struct Noted {
    until: Timestamp,
}

impl Row for Noted {
    const COLLECTION: &'static str = "key_callers";
}

impl Announced {
    pub(super) fn new(store: &Store, clock: &Clock) -> Self {
        Self { store: store.clone(), clock: clock.clone(), defined: Arc::default() }
    }

    /// Notes a caller.
    pub(super) async fn note(&self, caller: &str) -> Result<(), Problem> {
        self.define().await?;
        let now = self.clock.now();
        let noted = self.store.get::<Noted>(caller).await?;
        if noted.is_some_and(|noted| noted.until > now.checked_add(ENOUGH).unwrap_or(Timestamp::MAX)) {
            return Ok(());
        }
        self.sweep(now).await?;
        let until = now.checked_add(KEEP).unwrap_or(Timestamp::MAX);
        let commit = Commit::new().put_expecting(caller, &Noted { until }, Revision::Any, Some(until));
        self.store.commit(commit).await?;
        Ok(())
    }

    /// Whether a caller was noted.
    pub(super) async fn has(&self, caller: &str) -> Result<bool, Problem> {
        self.define().await?;
        let noted: Result<_, ReadError> = self.store.get::<Noted>(caller).await;
        Ok(noted?.is_some())
    }

    /// Forgets those whose time is over; one who was noted again meanwhile is for the next time.
    async fn sweep(&self, now: Timestamp) -> Result<(), CommitError> {
        match self.store.sweep::<Noted>(now).await {
            Ok(_) | Err(CommitError::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn define(&self) -> Result<(), CommitError> {
        let define = async || self.store.define::<Noted>().await;
        self.defined.get_or_try_init(define).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_caller_is_noted_until_his_keys_are_forgotten() {
        let (clock, hand) = Clock::manual(Timestamp::from_second(1_800_000_000).unwrap());
        let announced = Announced::new(&Store::memory(), &clock);
        assert!(!announced.has("user 7").await.unwrap());
        announced.note("user 7").await.unwrap();
        hand.advance(KEEP - ENOUGH);
        announced.note("user 7").await.unwrap();
        hand.advance(ENOUGH);
        announced.note("user 9").await.unwrap();
        assert!(announced.has("user 7").await.unwrap());
        assert!(!announced.has("user 8").await.unwrap());
        hand.advance(KEEP);
        announced.note("user 9").await.unwrap();
        assert!(!announced.has("user 7").await.unwrap());
    }
}
