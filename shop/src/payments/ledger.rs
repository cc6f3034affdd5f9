//! Which payments these are.

use purlin::message::{Uuid, new_id};
use purlin::store::{Cause, Commit, CommitError, Revision, Row, Store};
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

/// The ledger of a store, a new one if it has none; not if it is to be one that was paid in before.
pub async fn of(store: &Store, paid_in: Option<Uuid>) -> Result<Uuid, Cause> {
    store.define::<Ledger>().await?;
    let own = store.get::<Ledger>(KEY).await?.map(|ledger| ledger.id);
    match (own, paid_in) {
        (Some(own), None) => Ok(own),
        (own, Some(paid)) if own == Some(paid) => Ok(paid),
        (None, None) => {
            let made = Ledger { id: new_id() };
            let commit = Commit::new().put_expecting(KEY, &made, Revision::Absent, None);
            match store.commit(commit).await {
                Ok(_) => Ok(made.id),
                Err(CommitError::Conflict(_)) => Err("another process has the same payments".into()),
                Err(error) => Err(error.into()),
            }
        }
        (_, Some(_)) => Err("the orders here were paid with other payments, which know of the money that was taken: \
                             these do not. Say where those are (--peer payments=..), or give these the data of those"
            .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_ledger_stays_the_same_and_is_not_made_where_another_one_is_known() {
        let store = Store::memory();
        assert!(of(&store, Some(new_id())).await.is_err(), "these know nothing");
        let own = of(&store, None).await.unwrap();
        assert_eq!(of(&store, None).await.unwrap(), own);
        assert_eq!(of(&store, Some(own)).await.unwrap(), own);
        assert!(of(&store, Some(new_id())).await.is_err());
    }
}
