//! Which payments these are.

use purlin::message::{Timestamp, Uuid, new_id};
use purlin::store::{Cause, Commit, CommitError, LogId, ReadError, Revision, Row, Store};
use serde::{Deserialize, Serialize};

/// What tells these payments from all others, as long as their data lasts.
#[derive(Debug, Serialize, Deserialize)]
struct Ledger {
    id: Uuid,
    /// The life of the log that it was last known in: one that was restored from a backup has another, and knows nothing of
    /// what was paid since the backup. None: it was written by a program that did not say so.
    #[serde(default)]
    log: Option<LogId>,
    /// When the operator said that these are the payments although they do not know of all.
    #[serde(default)]
    said: Option<Timestamp>,
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
/// nothing, or not all.
pub async fn of(store: &Store, known: Known) -> Result<Uuid, Cause> {
    store.define::<Ledger>().await?;
    let (own, here) = (store.get::<Ledger>(KEY).await?, store.log_id());
    let restored = own.as_ref().and_then(|own| own.log).is_some_and(|log| log != here);
    let unmarked = own.as_ref().is_some_and(|own| own.log.is_none());
    let own = own.map(|ledger| ledger.id);
    match (own, known.said, known.paid_in) {
        (_, Some(said), Some(paid)) if said != paid => {
            Err(format!("--payments-ledger {said}: the orders here were paid in the ledger {paid}").into())
        }
        (own, Some(said), _) if own != Some(said) || restored => {
            tracing::warn!(
                ledger = %said,
                before = ?own,
                restored,
                "the payments are this ledger from now on, whatever they know of it, as the operator says"
            );
            begin(store, Ledger { said: Some(store.now()), ..Ledger::of(store, said) }, Revision::Any).await
        }
        // Nothing at all, or a backup of the time before ledgers.
        (own, _, Some(paid)) if own != Some(paid) => Err(format!(
            "the orders here were paid with other payments, which know of the money that was taken: these do not. Say where \
             those are (--peer payments=..), or give these the data of those; if they are lost, say --payments-ledger {paid}, \
             and see docs/problems/other-ledger.md"
        )
        .into()),
        (Some(own), ..) if restored => Err(format!(
            "the payments were restored from a backup, and do not know of the money that was taken, or given back, since it \
             was made: give them the data that know of it; if there are none, say --payments-ledger {own}, and see \
             docs/problems/other-ledger.md"
        )
        .into()),
        (Some(own), ..) if unmarked => begin(store, Ledger::of(store, own), Revision::Any).await,
        (Some(own), ..) => Ok(own),
        (None, ..) => begin(store, Ledger::of(store, new_id()), Revision::Absent).await,
    }
}

/// Until when payments that did not know of all may have taken money of which these know nothing, if that may be.
pub async fn unknown_until(store: &Store) -> Result<Option<Timestamp>, ReadError> {
    Ok(store.get::<Ledger>(KEY).await?.and_then(|ledger| ledger.said))
}

impl Ledger {
    /// One that is kept in a store.
    fn of(store: &Store, id: Uuid) -> Self {
        Self { id, log: Some(store.log_id()), said: None }
    }
}

async fn begin(store: &Store, ledger: Ledger, before: Revision) -> Result<Uuid, Cause> {
    match store.commit(Commit::new().put_expecting(KEY, &ledger, before, None)).await {
        Ok(_) => Ok(ledger.id),
        Err(CommitError::Conflict(_)) => Err("another process has the same payments".into()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use purlin::message::Envelope;
    use purlin::store::{Expected, StreamId};
    use purlin_sqlite::{Options, Sqlite};

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

    #[tokio::test]
    async fn payments_that_were_restored_do_not_know_of_all_and_are_taken_only_if_the_operator_says_so() {
        let folder = std::env::temp_dir().join(format!("shop-ledger-{}", new_id()));
        std::fs::create_dir_all(&folder).unwrap();
        let open =
            async |name: &str| Store::new(Sqlite::open(Options::new(folder.join(name))).await.unwrap());
        let store = open("payments.db").await;
        let own = of(&store, Known::default()).await.unwrap();
        store.backup(&folder.join("backup.db")).await.unwrap();
        store.close().await;
        let again = open("payments.db").await;
        assert_eq!(of(&again, Known::default()).await.unwrap(), own, "the same one goes on");
        again.close().await;

        let restored = open("backup.db").await;
        for known in [Known::default(), paid_in(own)] {
            let error = of(&restored, known).await.unwrap_err().to_string();
            assert!(
                error.contains("restored") && error.contains(&format!("--payments-ledger {own}")),
                "{error}"
            );
        }
        let other = of(&restored, paid_in(new_id())).await.unwrap_err().to_string();
        assert!(other.contains("paid with other payments"), "{other}");
        let said = Known { said: Some(own), paid_in: None };
        assert_eq!(of(&restored, said).await.unwrap(), own);
        assert_eq!(of(&restored, paid_in(own)).await.unwrap(), own, "and so it stays");
        restored.close().await;
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn a_ledger_of_an_earlier_program_is_taken_as_it_is_and_known_by_its_log_from_then_on() {
        let (store, id) = (Store::memory(), new_id());
        store.define::<Ledger>().await.unwrap();
        let earlier: Ledger = serde_json::from_value(serde_json::json!({ "id": id })).unwrap();
        store.commit(Commit::new().put(KEY, &earlier)).await.unwrap();
        assert_eq!(of(&store, paid_in(id)).await.unwrap(), id);
        let kept = store.get::<Ledger>(KEY).await.unwrap().unwrap();
        assert_eq!((kept.id, kept.log), (id, Some(store.log_id())));
    }

    #[tokio::test]
    async fn payments_without_a_ledger_are_no_others_however_much_they_know() {
        let (store, paid) = (Store::memory(), new_id());
        let stream = StreamId::new("payment", "p").unwrap();
        let event = Envelope::raw("payment.requested", "1");
        store.commit(Commit::new().append(stream, Expected::Any, [event])).await.unwrap();
        assert!(of(&store, paid_in(paid)).await.is_err());
        let said = Known { said: Some(paid), ..paid_in(paid) };
        assert_eq!(of(&store, said).await.unwrap(), paid);
    }
}
