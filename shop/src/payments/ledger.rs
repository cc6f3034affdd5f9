//! Which payments these are.

use purlin::message::{Uuid, new_id};
use purlin::store::{Cause, Commit, CommitError, Position, Revision, Row, Store};
use serde::{Deserialize, Serialize};

/// What tells these payments from all others, as long as their data lasts.
#[derive(Debug, Serialize, Deserialize)]
struct Ledger {
    id: Uuid,
}

impl Row for Ledger {
    const COLLECTION: &'static str = "ledger";
}

/// The only record.
const KEY: &str = "own";

/// What is known of the ledger before its store is asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known {
    /// The one that whoever is in this process has paid in so far.
    pub paid_in: Option<Uuid>,
    /// The one that the operator says these are, whatever they know.
    pub said: Option<Uuid>,
}

/// The ledger of a store, a new one if it has none; not if it is to be one that was paid in before, of which it knows
/// nothing.
pub async fn of(store: &Store, known: Known) -> Result<Uuid, Cause> {
    store.define::<Ledger>().await?;
    let own = store.get::<Ledger>(KEY).await?.map(|ledger| ledger.id);
    match (own, known.said, known.paid_in) {
        (_, Some(said), Some(paid)) if said != paid => {
            Err(format!("--payments-ledger {said}: the orders here were paid in the ledger {paid}").into())
        }
        (own, Some(said), _) if own != Some(said) => {
            tracing::warn!(ledger = %said, before = ?own, "the payments are another ledger from now on, as the operator says");
            begin(store, said, Revision::Any).await
        }
        (Some(own), _, None) => Ok(own),
        (Some(own), _, Some(paid)) if own == paid => Ok(own),
        (None, _, None) => begin(store, new_id(), Revision::Absent).await,
        // Those of the time before ledgers, as a backup may have them. Nobody else has orders in this process.
        (None, _, Some(paid)) if store.head() > Position::START => {
            tracing::warn!(ledger = %paid, "the payments have no ledger yet: they are what the orders were paid in");
            begin(store, paid, Revision::Absent).await
        }
        (_, _, Some(paid)) => Err(format!(
            "the orders here were paid with other payments, which know of the money that was taken: these do not. Say where \
             those are (--peer payments=..), or give these the data of those; if they are lost, say --payments-ledger {paid}, \
             and see docs/problems/other-ledger.md"
        )
        .into()),
    }
}

async fn begin(store: &Store, id: Uuid, before: Revision) -> Result<Uuid, Cause> {
    match store.commit(Commit::new().put_expecting(KEY, &Ledger { id }, before, None)).await {
        Ok(_) => Ok(id),
        Err(CommitError::Conflict(_)) => Err("another process has the same payments".into()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paid_in(ledger: Uuid) -> Known {
        Known { paid_in: Some(ledger), said: None }
    }

    #[tokio::test]
    async fn a_ledger_stays_the_same_and_is_not_made_where_another_one_is_known() {
        let store = Store::memory();
        assert!(of(&store, paid_in(new_id())).await.is_err(), "these know nothing");
        let own = of(&store, Known::default()).await.unwrap();
        assert_eq!(of(&store, Known::default()).await.unwrap(), own);
        assert_eq!(of(&store, paid_in(own)).await.unwrap(), own);
        assert!(of(&store, paid_in(new_id())).await.is_err());
    }

    #[tokio::test]
    async fn an_operator_says_which_ledger_it_is_but_not_against_the_orders() {
        let (store, paid) = (Store::memory(), new_id());
        let error = of(&store, paid_in(paid)).await.unwrap_err().to_string();
        assert!(error.contains(&format!("--payments-ledger {paid}")), "{error}");
        let said = |ledger| Known { said: Some(ledger), ..paid_in(paid) };
        assert!(of(&store, said(new_id())).await.is_err());
        assert_eq!(of(&store, said(paid)).await.unwrap(), paid);
        assert_eq!(of(&store, paid_in(paid)).await.unwrap(), paid, "and so it stays");
        let apart = Known { said: Some(new_id()), paid_in: None };
        assert_eq!(of(&store, apart).await.ok(), apart.said, "also where they had another");
    }
}
