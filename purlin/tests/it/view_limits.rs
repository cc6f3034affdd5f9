//! What a view is given that it cannot take as it is.

use std::time::Duration;

use purlin::message::{Envelope, Fault, FaultKind};
use purlin::projection::{Fold, RowSet, Unfit, View, ViewError, Views};
use purlin::store::{Collection, Commit, Expected, Position, Recorded, Row, Store, StreamId};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    events: u64,
}

impl Row for Seen {
    const COLLECTION: &'static str = "limits_seen";
}

/// Folds in the order of keys of 600 bytes and more; a forgiving one takes what is broken.
struct Wordy {
    forgiving: bool,
}

impl Fold for Wordy {
    const NAME: &'static str = "limits";
    const CATEGORIES: &'static [&'static str] = &["word"];

    fn collections() -> Vec<Collection> {
        vec![Seen::collection()]
    }

    fn key(&self, event: &Recorded) -> String {
        format!("{}{}", "ä".repeat(300), event.stream.key())
    }

    fn apply(&self, event: &Recorded, rows: &mut RowSet<'_>) -> Result<(), Unfit> {
        if &*event.envelope.kind == "word.broken" && !self.forgiving {
            return Err(Unfit::new("broken"));
        }
        rows.change::<Seen>(event.stream.key(), |row| row.events += 1)
    }
}

async fn append(store: &Store, key: &str, kind: &'static str) -> Position {
    let stream = StreamId::new("word", key).expect("a name");
    let commit = Commit::new().append(stream, Expected::Any, [Envelope::raw(kind, "null")]);
    store.commit(commit).await.expect("an append").position
}

async fn run(view: &View<Wordy>) {
    tokio::select! {
        end = view.run(CancellationToken::new()) => panic!("the view ended: {end:?}"),
        () = tokio::time::sleep(Duration::from_secs(10)) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_too_long_for_a_record_is_parked_as_any_other() {
    let store = Store::memory();
    for key in ["a", "b"] {
        append(&store, key, "word.broken").await;
        append(&store, key, "word.said").await;
    }
    let view = View::new(Wordy { forgiving: false }, &store);
    run(&view).await;
    let status = view.status().await.expect("a status");
    assert_eq!((status.parked, status.stale_keys), (4, 2), "the keys are told apart");
    Views::new(&store).drop("limits", Position(1)).await.expect("it is parked");
    run(&view).await;
    assert_eq!(view.row::<Seen>("a").await.expect("readable"), Some(Seen { events: 1 }));
    let corrected = View::new(Wordy { forgiving: true }, &store);
    run(&corrected).await;
    assert_eq!(corrected.row::<Seen>("b").await.expect("readable"), Some(Seen { events: 2 }));
    assert_eq!(corrected.status().await.expect("a status").parked, 0);
}

#[tokio::test(start_paused = true)]
async fn a_view_on_a_tenants_store_is_refused() {
    let store = Store::memory().tenant("acme").expect("a name");
    let view = View::new(Wordy { forgiving: false }, &store);
    let end = view.run(CancellationToken::new()).await.expect_err("its collections are those of all");
    assert_eq!(end.kind(), FaultKind::Bug);
    assert!(matches!(&end, ViewError::Tenant { tenant, .. } if tenant == "acme"), "{end}");
    assert_eq!(
        end.to_string(),
        "the view `limits` cannot be run on the store of the tenant `acme`, whose collections are those of all: \
         run it on the store itself"
    );
}
