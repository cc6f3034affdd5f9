//! Which payments these are.

use purlin::message::{Timestamp, Uuid, new_id};
use purlin::store::{Cause, Commit, CommitError, LogId, ReadError, Revision, Row, Store};
use serde::{Deserialize, Serialize};

use super::errand;

/// What tells these payments from all others, as long as their data lasts.
#[derive(Debug, Serialize, Deserialize)]
struct Ledger {
    id: Uuid,
    /// The life of the log that it was last known in: one that was restored from a backup has another, and knows nothing of
    /// what was paid since the backup. None: it was written by a program that did not say so.
    #[serde(default)]
    log: Option<LogId>,
    /// When the operator last said that these are the payments although they do not know of all.
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
    // Of several processes that begin one at one moment, all but the first find that there is one.
    loop {
        if let Some(ledger) = decide(store, known).await? {
            return Ok(ledger);
        }
    }
}

/// As [`of`]; none when another process was faster, and it is to be looked again.
async fn decide(store: &Store, known: Known) -> Result<Option<Uuid>, Cause> {
    let (own, here) = (store.get::<Ledger>(KEY).await?, store.log_id());
    let restored = own.as_ref().and_then(|own| own.log).is_some_and(|log| log != here);
    let unmarked = own.as_ref().is_some_and(|own| own.log.is_none());
    let said_before = own.as_ref().and_then(|own| own.said);
    let own = own.map(|ledger| ledger.id);
    match (own, known.said, known.paid_in) {
        (_, Some(said), Some(paid)) if said != paid => {
            Err(format!("--payments-ledger {said}: the orders here were paid in the ledger {paid}").into())
        }
        // Also of payments that bear that id, and do not look restored: not every backup can be told from what it is of.
        (own, Some(said), _) => {
            // Before it is written, so that a process that ends in between is told again, and does so again.
            let given_up = errand::give_up_charges(store).await?;
            tracing::warn!(
                ledger = %said,
                before = ?own,
                restored,
                given_up,
                "the payments are this ledger from now on, whatever they know of it, as the operator says: they take nothing \
                 for what choreographed orders have asked for until now"
            );
            // A clock that was set back makes nothing known again.
            let until = said_before.max(Some(store.now()));
            begin(store, Ledger { said: until, ..Ledger::of(store, said) }, Revision::Any).await
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
        (Some(own), ..) if unmarked => {
            // The first life of a log has no backup behind it, as far as the log knows.
            if here.incarnation > 1 {
                tracing::warn!(
                    ledger = %own,
                    "these payments were restored from a backup once, by this start or long ago: it cannot be told. If they \
                     were restored just now, they do not know of the money that was taken since the backup was made: stop \
                     this process, say --payments-ledger {own}, and see docs/problems/other-ledger.md"
                );
            }
            begin(store, Ledger { said: said_before, ..Ledger::of(store, own) }, Revision::Any).await
        }
        (Some(own), ..) => Ok(Some(own)),
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

async fn begin(store: &Store, ledger: Ledger, before: Revision) -> Result<Option<Uuid>, Cause> {
    match store.commit(Commit::new().put_expecting(KEY, &ledger, before, None)).await {
        Ok(_) => Ok(Some(ledger.id)),
        Err(CommitError::Conflict(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::try_join_all;
    use purlin::message::Envelope;
    use purlin::store::{Expected, Query, StreamId};
    use purlin_sqlite::{Options, Sqlite};

    use super::*;
    use crate::payments::errand::{Errand, Kind};

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
    async fn those_who_begin_one_at_one_moment_have_the_same() {
        let folder = std::env::temp_dir().join(format!("shop-ledger-{}", new_id()));
        std::fs::create_dir_all(&folder).unwrap();
        for n in 0..20 {
            let file = folder.join(format!("{n}.db"));
            let store = Store::new(Sqlite::open(Options::new(file)).await.unwrap());
            store.define::<Ledger>().await.unwrap();
            let own = try_join_all((0..4).map(|_| of(&store, Known::default()))).await.unwrap();
            assert!(own.iter().all(|one| *one == own[0]), "{own:?}");
            store.close().await;
        }
        std::fs::remove_dir_all(folder).unwrap();
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

    /// Says of payments that seem to be what they always were that they are not, and makes sure that it counts.
    async fn is_heeded(store: &Store, own: Uuid) {
        let begun = store.now();
        assert_eq!(of(store, Known { said: Some(own), paid_in: Some(own) }).await.unwrap(), own);
        let said = unknown_until(store).await.unwrap();
        assert!(said.is_some_and(|said| said >= begun), "{said:?}");
        assert_eq!(of(store, paid_in(own)).await.unwrap(), own);
        assert_eq!(unknown_until(store).await.unwrap(), said, "and so it stays");
    }

    #[tokio::test]
    async fn what_the_operator_says_counts_also_of_payments_that_do_not_look_restored() {
        let store = Store::memory();
        // Another start with the same log, as of a copy: nothing in it says so.
        let own = of(&store, Known::default()).await.unwrap();
        assert_eq!(unknown_until(&store).await.unwrap(), None);
        is_heeded(&store, own).await;
        is_heeded(&store, own).await;

        // A backup that an earlier program made.
        let (store, own) = (Store::memory(), new_id());
        store.define::<Ledger>().await.unwrap();
        let earlier: Ledger = serde_json::from_value(serde_json::json!({ "id": own })).unwrap();
        store.commit(Commit::new().put(KEY, &earlier)).await.unwrap();
        is_heeded(&store, own).await;
    }

    #[tokio::test]
    async fn what_was_unknown_stays_so_when_the_clock_was_set_back() {
        let store = Store::memory();
        let own = of(&store, Known::default()).await.unwrap();
        let later = store.now().checked_add(std::time::Duration::from_secs(3600)).unwrap();
        let said = Ledger { said: Some(later), ..Ledger::of(&store, own) };
        store.commit(Commit::new().put(KEY, &said)).await.unwrap();
        of(&store, Known { said: Some(own), paid_in: None }).await.unwrap();
        assert_eq!(unknown_until(&store).await.unwrap(), Some(later));
    }

    #[tokio::test]
    async fn the_operators_word_gives_up_the_charges_that_waited_in_a_backup_but_not_the_refunds() {
        let store = Store::memory();
        let own = of(&store, Known::default()).await.unwrap();
        store.define::<Errand>().await.unwrap();
        // More than are read at once.
        let kinds = [Kind::Refund].into_iter().chain(std::iter::repeat_n(Kind::Charge, 1_001));
        let mut waiting = Vec::new();
        for kind in kinds {
            let order = new_id();
            store.commit(Errand::new(order, kind).begin(Commit::new(), store.now())).await.unwrap();
            waiting.push(order.to_string());
        }
        let left = async || {
            let page = store.list::<Errand>(Query::all().limit(2_000)).await.unwrap();
            page.records.into_iter().map(|record| record.key).collect::<Vec<_>>()
        };
        of(&store, paid_in(own)).await.unwrap();
        assert_eq!(left().await.len(), waiting.len(), "a mere start gives nothing up");
        of(&store, Known { said: Some(own), paid_in: None }).await.unwrap();
        assert_eq!(left().await, waiting[..1]);
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
