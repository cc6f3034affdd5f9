//! Snapshots: what they save, when they are written, and that nothing depends on them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;
use std::time::Duration;

use purlin::aggregate::{Aggregate, Pruned, Repository, SnapshotPolicy, drop_snapshots};
use purlin::message::{Envelope, Event, Fault};
use purlin::store::memory::Memory;
use purlin::store::{Collection, Commit, Engine, Expected, Revision, Store, StreamId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::faulty::{Fates, Reads};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Counted {
    Raised(u64),
}

impl Event for Counted {}

/// Writes a snapshot every `EVERY` events, or when loading took 20 ms, in version `VERSION`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Counter<const EVERY: u64, const VERSION: u32> {
    sum: u64,
}

impl<const EVERY: u64, const VERSION: u32> Aggregate for Counter<EVERY, VERSION> {
    const KIND: &'static str = "counter";
    const SNAPSHOTS: SnapshotPolicy =
        SnapshotPolicy { every: Some(EVERY), after: Some(Duration::from_millis(20)) };
    const SNAPSHOT_VERSION: u32 = VERSION;
    type Event = Counted;

    fn apply(&mut self, Counted::Raised(by): &Counted) {
        self.sum += by;
    }
}

type Counters<const EVERY: u64, const VERSION: u32 = 1> = Repository<Counter<EVERY, VERSION>>;

async fn raise<const EVERY: u64, const VERSION: u32>(counters: &Counters<EVERY, VERSION>, id: &str) {
    counters.update(id, |_| Ok::<_, std::convert::Infallible>(Counted::Raised(1))).await.unwrap();
}

/// So many events that no repository has made.
async fn append(store: &Store, id: &str, many: usize) {
    let stream = StreamId::new("counter", id).unwrap();
    let mut left = many;
    while left > 0 {
        let some = left.min(4000);
        let events = (0..some).map(|_| Envelope::new("counter", &Counted::Raised(1)).unwrap());
        store.commit(Commit::new().append(stream.clone(), Expected::Any, events)).await.unwrap();
        left -= some;
    }
}

/// The version of the snapshot that is there.
async fn snapshot(store: &Store, id: &str) -> Option<u64> {
    let record = store.get_record("purlin_snapshots", &format!("counter-{id}")).await.unwrap()?;
    Some(record.decode::<Value>().unwrap()["version"].as_u64().unwrap())
}

/// Puts this in place of a snapshot.
async fn put(store: &Store, id: &str, value: &Value) {
    let collection = Collection { name: "purlin_snapshots".into(), fields: [].as_slice().into() };
    let commit = Commit::new().put_in(&collection, format!("counter-{id}"), value, Revision::Any, None);
    store.commit(commit).await.unwrap();
}

/// A store whose reads are counted.
fn counted() -> (Fates, Store) {
    let fates = Fates::new([]);
    let store = fates.store(&(Arc::new(Memory::new()) as Arc<dyn Engine>));
    (fates, store)
}

/// What is read when a counter is loaded that has come so far since its snapshot.
async fn cost(many: usize) -> Reads {
    let (fates, store) = counted();
    let counters = Counters::<1000>::new(&store);
    append(&store, "1", many - 10).await;
    counters.load("1").await.unwrap();
    for _ in 0..10 {
        raise(&counters, "1").await;
    }
    assert_eq!(snapshot(&store, "1").await, (many > 10).then_some(many as u64 - 10));
    fates.take_reads();
    let loaded = counters.load("1").await.unwrap();
    assert_eq!((loaded.version(), loaded.sum), (many as u64, many as u64));
    fates.take_reads()
}

#[tokio::test(start_paused = true)]
async fn loading_a_hundred_thousand_events_with_a_snapshot_costs_what_loading_ten_costs() {
    let (few, many) = (cost(10).await, cost(100_000).await);
    assert_eq!(few, Reads { pages: 1, events: 10, records: 1 });
    assert_eq!(many, Reads { events: 11, ..few }, "the last event of the snapshot is looked at once more");
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_read_is_ignored_and_written_anew() {
    let store = Store::memory();
    let counters = Counters::<10>::new(&store);
    append(&store, "1", 25).await;
    assert_eq!(counters.load("1").await.unwrap().sum, 25);
    let good: Value =
        store.get_record("purlin_snapshots", "counter-1").await.unwrap().unwrap().decode().unwrap();
    assert_eq!(good["version"], 25);
    for (part, damaged) in [
        ("", json!("nonsense")),
        ("", json!({})),
        ("", json!({ "format": 1, "version": -1, "state": {} })),
        ("state", json!({ "sum": "many" })),
        ("state", json!(null)),
        // Of events that are not there: of another log.
        ("version", json!(26)),
        ("version", json!(u64::MAX)),
        ("format", json!(2)),
    ] {
        let mut wrong = if part.is_empty() { damaged.clone() } else { good.clone() };
        if !part.is_empty() {
            wrong[part] = damaged;
        }
        put(&store, "1", &wrong).await;
        let loaded = counters.load("1").await.unwrap();
        assert_eq!((loaded.version(), loaded.sum), (25, 25), "{wrong}");
        assert_eq!(snapshot(&store, "1").await, Some(25), "{wrong}");
    }
    put(&store, "1", &json!({ "format": 1, "version": 99, "state": { "sum": 99 } })).await;
    raise(&counters, "1").await;
    assert_eq!(counters.load("1").await.unwrap().sum, 26);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_took_long_is_reason_enough_for_a_snapshot() {
    let (fates, store) = counted();
    fates.slow_down(Duration::from_millis(25));
    let counters = Counters::<1000>::new(&store);
    append(&store, "1", 9).await;
    raise(&counters, "1").await;
    assert_eq!(snapshot(&store, "1").await, Some(10), "with the update that comes to ten");
    raise(&counters, "1").await;
    assert_eq!(snapshot(&store, "1").await, Some(10), "to fold one event is not slow because of them");
    append(&store, "2", 20).await;
    counters.load("2").await.unwrap();
    assert_eq!(snapshot(&store, "2").await, Some(20), "nobody updates it");

    let fast = Store::memory();
    append(&fast, "1", 100).await;
    raise(&Counters::<1000>::new(&fast), "1").await;
    assert!(fast.get_record("purlin_snapshots", "counter-1").await.unwrap().is_none());
}

#[tokio::test]
async fn an_update_does_not_fail_for_a_snapshots_sake() {
    let store = Store::memory();
    let counters = Counters::<5>::new(&store);
    for n in 1..=20 {
        raise(&counters, "1").await;
        if n == 7 {
            store.drop_collection("purlin_snapshots").await.unwrap();
        }
    }
    assert_eq!(counters.load("1").await.unwrap().sum, 20);
    assert!(snapshot(&store, "1").await.is_some(), "the collection was made anew");
}

#[tokio::test]
async fn a_collection_that_goes_between_load_and_commit_costs_the_snapshot_alone() {
    let store = Store::memory();
    let counters = Counters::<5>::new(&store);
    append(&store, "1", 4).await;
    let mut root = counters.load("1").await.unwrap();
    root.record(Counted::Raised(1));
    store.drop_collection("purlin_snapshots").await.unwrap();
    counters.save(&mut root).await.unwrap();
    assert_eq!((root.version(), counters.load("1").await.unwrap().sum), (5, 5));
}

#[tokio::test]
async fn pruning_removes_what_no_program_of_today_reads_and_counts_it() {
    let store = Store::memory();
    let (old, new) = (Counters::<5, 1>::new(&store), Counters::<5, 2>::new(&store));
    for n in 0..70 {
        append(&store, &format!("old-{n}"), 4).await;
        raise(&old, &format!("old-{n}")).await;
    }
    for n in 0..3 {
        append(&store, &format!("new-{n}"), 4).await;
        raise(&new, &format!("new-{n}")).await;
    }
    put(&store, "damaged", &json!(7)).await;
    let collection = Collection { name: "purlin_snapshots".into(), fields: [].as_slice().into() };
    let others = Commit::new().put_in(&collection, "counters-1", &json!(7), Revision::Any, None);
    store.commit(others).await.unwrap();

    assert_eq!(new.prune_snapshots().await.unwrap(), Pruned { removed: 71, kept: 3 });
    assert_eq!(new.prune_snapshots().await.unwrap(), Pruned { removed: 0, kept: 3 });
    assert_eq!((snapshot(&store, "new-0").await, snapshot(&store, "old-0").await), (Some(5), None));
    assert_eq!(drop_snapshots(&store, Some("counter")).await.unwrap(), Pruned { removed: 3, kept: 0 });
    assert_eq!(drop_snapshots(&store, None).await.unwrap(), Pruned { removed: 1, kept: 0 });
    for id in ["new-0", "old-69"] {
        assert_eq!(new.load(id).await.unwrap().sum, 5);
    }
}

#[tokio::test]
async fn the_store_itself_removes_the_snapshots_of_all_tenants_and_a_tenant_his_own() {
    let store = Store::memory();
    let acme = store.tenant("acme").unwrap();
    let tenants =
        [acme.clone(), store.tenant("other").unwrap(), acme.tenant("inner").unwrap(), store.clone()];
    for of in &tenants {
        append(of, "1", 5).await;
        raise(&Counters::<5, 1>::new(of), "1").await;
        put(of, "2", &json!(7)).await;
        assert_eq!(snapshot(of, "1").await, Some(6));
    }
    let new = |of: &Store| Counters::<5, 1>::new(of);
    assert_eq!(new(&tenants[1]).prune_snapshots().await.unwrap(), Pruned { removed: 1, kept: 1 });
    assert_eq!(new(&acme).prune_snapshots().await.unwrap(), Pruned { removed: 2, kept: 2 });
    assert_eq!(new(&store).prune_snapshots().await.unwrap(), Pruned { removed: 1, kept: 4 });
    assert_eq!(drop_snapshots(&store, Some("count")).await.unwrap().removed, 0);
    assert_eq!(drop_snapshots(&acme, Some("counter")).await.unwrap(), Pruned { removed: 2, kept: 0 });
    assert_eq!(drop_snapshots(&store, Some("counter")).await.unwrap(), Pruned { removed: 2, kept: 0 });
}

#[tokio::test]
async fn removing_those_of_a_category_passes_over_those_of_the_others() {
    const EACH: usize = 400;
    const KINDS: [&str; 5] = ["acme", "order", "order.x", "order0", "zebra"];
    let (fates, store) = counted();
    let acme = store.tenant("acme").unwrap();
    let stores = [acme.tenant("inner").unwrap(), acme, store.clone()];
    let collection = Collection { name: "purlin_snapshots".into(), fields: [].as_slice().into() };
    store.define_collection(collection.clone()).await.unwrap();
    for of in &stores {
        let mut commit = Commit::new();
        for key in KINDS.iter().flat_map(|kind| (0..EACH).map(move |n| format!("{kind}-{n}"))) {
            commit = commit.put_in(&collection, key, &json!(7), Revision::Any, None);
        }
        of.commit(commit).await.unwrap();
    }
    let removed = (stores.len() * EACH) as u64;
    for kind in KINDS {
        fates.take_reads();
        assert_eq!(drop_snapshots(&store, Some(kind)).await.unwrap(), Pruned { removed, kept: 0 }, "{kind}");
        // All of its own, and of each other one of each tenant some.
        let read = fates.take_reads().records as u64;
        assert!(read < removed + removed / 10 + 4 * 3 * 50, "{kind}: {read}");
    }
}

#[tokio::test]
async fn on_a_store_that_takes_no_writes_aggregates_are_loaded_all_the_same() {
    let (fates, store) = counted();
    append(&store, "1", 25).await;
    fates.make_read_only();
    let loaded = Counters::<10>::new(&store).load("1").await.unwrap();
    assert_eq!(loaded.sum, 25);
    let error = Counters::<10>::new(&store)
        .update("1", |_| Ok::<_, std::convert::Infallible>(Counted::Raised(1)))
        .await
        .unwrap_err();
    assert!(error.kind().is_transient(), "{error:?}");
}
