//! The checkouts that do not go on by themselves.

use purlin::saga::{Directory, ListSagas, SagaState};
use purlin::store::{Cause, Query, Store};
use serde_json::{Value, json};

use super::deadline::Deadline;

/// How many are listed.
const MOST: usize = 100;

/// Lists what is stuck; cheap to clone.
#[derive(Clone)]
pub struct Stuck {
    store: Store,
    sagas: Directory,
}

impl Stuck {
    /// What is stuck in a store.
    pub fn new(store: &Store, sagas: Directory) -> Self {
        Self { store: store.clone(), sagas }
    }

    /// Sagas that are stuck or blocked, and choreographed checkouts that are overdue.
    pub async fn list(self) -> Result<Vec<Value>, Cause> {
        let mut stuck = Vec::new();
        for state in [SagaState::Stuck, SagaState::Blocked] {
            let wanted = ListSagas { state: Some(state), limit: MOST, ..ListSagas::default() };
            for (id, row) in self.sagas.list(wanted).await?.items {
                let error = row.error.map(|error| error.to_string());
                stuck.push(json!({
                    "id": id, "kind": row.kind, "state": row.state, "reason": row.reason, "error": error,
                    "started_at": row.started_at, "deadline": row.deadline,
                }));
            }
        }
        let overdue = self.store.list::<Deadline>(Query::all().and("state", "stuck").limit(MOST)).await?;
        for record in overdue.records {
            let row: Deadline = record.decode()?;
            stuck.push(json!({
                "id": row.order_id, "kind": "choreographed-checkout", "state": row.state,
                "reason": row.reason, "deadline": row.deadline,
            }));
        }
        Ok(stuck)
    }
}
