//! Aggregates on a store in memory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use purlin::aggregate::{Aggregate, Repository, Root, SnapshotPolicy, UpdateError};
use purlin::message::{Envelope, Event, Fault, FaultKind};
use purlin::store::{Commit, CommitError, Store};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Order {
    items: Vec<String>,
    submitted: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OrderEvent {
    ItemAdded { name: String },
    Submitted,
}

impl Event for OrderEvent {}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("cannot submit an empty order")]
struct EmptyOrder;

impl Fault for EmptyOrder {
    fn kind(&self) -> FaultKind {
        FaultKind::Conflict
    }
}

impl Aggregate for Order {
    const KIND: &'static str = "order";
    const SNAPSHOTS: SnapshotPolicy = SnapshotPolicy::every(10);
    type Event = OrderEvent;

    fn apply(&mut self, event: &OrderEvent) {
        match event {
            OrderEvent::ItemAdded { name } => self.items.push(name.clone()),
            OrderEvent::Submitted => self.submitted = true,
        }
    }
}

impl Order {
    fn add(&self, name: &str) -> Result<OrderEvent, EmptyOrder> {
        Ok(OrderEvent::ItemAdded { name: name.to_owned() })
    }

    fn submit(&self) -> Result<Option<OrderEvent>, EmptyOrder> {
        match (self.items.is_empty(), self.submitted) {
            (true, _) => Err(EmptyOrder),
            (false, true) => Ok(None),
            (false, false) => Ok(Some(OrderEvent::Submitted)),
        }
    }
}

#[tokio::test]
async fn an_order_without_items_cannot_be_submitted_and_says_so() {
    let orders = Repository::<Order>::new(&Store::memory());
    let refused = orders.update("1", Order::submit).await.unwrap_err();
    assert!(matches!(refused, UpdateError::Refused(EmptyOrder)));
    assert_eq!(
        (refused.to_string().as_str(), refused.kind()),
        ("cannot submit an empty order", FaultKind::Conflict)
    );
    assert!(!orders.load("1").await.unwrap().exists());
}

#[tokio::test]
async fn what_was_decided_is_there_when_it_is_loaded_again() {
    let store = Store::memory();
    let orders = Repository::<Order>::new(&store);
    orders.update("1", |order| order.add("tea")).await.unwrap();
    let submitted = orders.update("1", Order::submit).await.unwrap();
    assert_eq!((submitted.version(), submitted.uncommitted().len()), (2, 0));
    let loaded = Repository::<Order>::new(&store).load("1").await.unwrap();
    assert_eq!(loaded.state(), submitted.state());
    assert_eq!(
        orders.update("1", Order::submit).await.unwrap().version(),
        2,
        "nothing decided, nothing appended"
    );
    let history = orders.history("1", 2, 10).await.unwrap();
    assert_eq!(history[0].1, OrderEvent::Submitted);
    assert_eq!(&*history[0].0.envelope.kind, "order.submitted");
}

#[tokio::test]
async fn a_root_is_the_sum_of_its_events_and_keeps_what_is_uncommitted() {
    let added = OrderEvent::ItemAdded { name: "tea".into() };
    let mut root = Root::<Order>::rebuild("1", [added.clone()]);
    root.record(OrderEvent::Submitted);
    assert_eq!((root.version(), root.uncommitted()), (1, &[OrderEvent::Submitted][..]));
    assert!(root.submitted && root.items == ["tea"]);

    let orders = Repository::<Order>::new(&Store::memory());
    let mut fresh = Root::<Order>::new("1");
    fresh.record(added);
    let mut rival = fresh.clone();
    orders.save(&mut fresh).await.unwrap();
    assert_eq!((fresh.version(), fresh.uncommitted().len()), (1, 0));
    let late = orders.save(&mut rival).await.unwrap_err();
    assert!(matches!(late, UpdateError::Commit(CommitError::Conflict(_))));
    assert_eq!(rival.uncommitted().len(), 1, "a conflict loses no event");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_is_decided_anew_on_the_new_state() {
    let orders = Repository::<Order>::new(&Store::memory());
    let decided = AtomicUsize::new(0);
    let add = |name: usize| {
        let (orders, decided) = (&orders, &decided);
        async move {
            let decide = |order: &Order| {
                decided.fetch_add(1, Ordering::Relaxed);
                order.add(&name.to_string())
            };
            orders.update("1", decide).await.unwrap();
        }
    };
    futures_util::future::join_all((0..20).map(add)).await;
    let mut items = orders.load("1").await.unwrap().items.clone();
    items.sort_by_key(|item| item.parse::<usize>().unwrap());
    assert_eq!(items, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(decided.load(Ordering::Relaxed) >= 20);
}

#[tokio::test]
async fn a_decision_can_be_committed_together_with_something_else() {
    let store = Store::memory();
    let orders = Repository::<Order>::new(&store);
    let change = orders.change("1", |order| order.add("tea")).await.unwrap();
    assert!(!orders.load("1").await.unwrap().exists(), "not before it is committed");
    let other = Repository::<Order>::new(&store).change("2", |order| order.add("milk")).await.unwrap();
    store.commit(Commit::new().append_all(change.append).append_all(other.append)).await.unwrap();
    assert!(orders.load("1").await.unwrap().exists() && orders.load("2").await.unwrap().exists());
}

#[tokio::test]
async fn a_snapshot_stands_for_the_events_it_was_made_from() {
    let store = Store::memory();
    let orders = Repository::<Order>::new(&store);
    for n in 0..25 {
        orders.update("1", |order| order.add(&n.to_string())).await.unwrap();
    }
    let snapshot =
        store.get_record("purlin_snapshots", "order-1").await.unwrap().expect("a snapshot was taken");
    let mut altered: serde_json::Value = snapshot.decode().unwrap();
    assert_eq!(altered["version"], 20, "every tenth update writes one");
    altered["state"]["items"][0] = "from the snapshot".into();
    let collection =
        purlin::store::Collection { name: "purlin_snapshots".into(), fields: [].as_slice().into() };
    let any = purlin::store::Revision::Any;
    store.commit(Commit::new().put_in(&collection, "order-1", &altered, any, None)).await.unwrap();
    let loaded = orders.load("1").await.unwrap();
    assert_eq!(
        (loaded.version(), loaded.items.len(), loaded.items[0].as_str()),
        (25, 25, "from the snapshot")
    );

    altered["format"] = 99.into();
    store.commit(Commit::new().put_in(&collection, "order-1", &altered, any, None)).await.unwrap();
    assert_eq!(orders.load("1").await.unwrap().items[0], "0", "a snapshot of another format is ignored");
}

/// So that the store is asked once before any of the callers goes on: all of them load the same version.
fn slow_store() -> Store {
    let memory = purlin::store::memory::Memory::new();
    memory
        .set_faults(purlin::store::memory::Faults { delay: Duration::from_millis(5), ..Default::default() });
    Store::new(memory)
}

#[tokio::test(start_paused = true)]
async fn hundreds_who_want_the_same_aggregate_take_turns() {
    let orders = Repository::<Order>::new(&slow_store());
    let decided = AtomicUsize::new(0);
    let add = |n: usize| {
        let (orders, decided) = (orders.clone(), &decided);
        async move {
            let decide = |order: &Order| {
                decided.fetch_add(1, Ordering::Relaxed);
                order.add(&n.to_string())
            };
            orders.update("1", decide).await
        }
    };
    let updated = futures_util::future::join_all((0..300).map(add)).await;
    assert_eq!(updated.iter().filter(|outcome| outcome.is_ok()).count(), 300);
    assert_eq!(orders.load("1").await.unwrap().version(), 300);
    assert_eq!(decided.load(Ordering::Relaxed), 599, "each of the 299 who lost at first decided once more");
}

#[tokio::test(start_paused = true)]
async fn rivals_of_other_processes_are_met_with_pauses() {
    let store = slow_store();
    // A repository of its own knows nothing of the others' turns.
    let update = |n: usize| {
        let orders = Repository::<Order>::new(&store);
        async move { orders.update("1", |order| order.add(&n.to_string())).await.map(drop) }
    };
    let updated = futures_util::future::join_all((0..50).map(update)).await;
    assert!(updated.iter().all(Result::is_ok), "{updated:?}");
}

#[tokio::test]
async fn loading_writes_nothing_unless_no_update_writes_snapshots() {
    let store = Store::memory();
    let orders = Repository::<Order>::new(&store);
    let version = async |store: &Store| {
        let snapshot = store.get_record("purlin_snapshots", "order-1").await.unwrap();
        snapshot.map(|record| record.decode::<serde_json::Value>().unwrap()["version"].as_u64().unwrap())
    };
    for n in 1..=25 {
        let change = orders.change("1", |order| order.add("tea")).await.unwrap();
        store.commit(change.into()).await.unwrap();
        let expected = if n > 20 { Some(20) } else { None };
        assert_eq!(version(&store).await, expected, "after {n} commits that the repository did not make");
    }
    orders.update("1", |order| order.add("tea")).await.unwrap();
    assert_eq!(version(&store).await, Some(20));
    let many = |_: &Order| Ok::<_, EmptyOrder>(vec![OrderEvent::ItemAdded { name: "tea".into() }; 9]);
    orders.update("1", many).await.unwrap();
    assert_eq!(version(&store).await, Some(35), "with the update that came past the tenth");
    assert_eq!(orders.load("1").await.unwrap().items.len(), 35);
}

#[tokio::test]
async fn a_state_that_no_snapshot_can_hold_is_updated_all_the_same() {
    let store = Store::memory();
    let orders = Repository::<Order>::new(&store);
    for n in 0..22 {
        let name = "x".repeat(if n < 8 { 200_000 } else { 1 });
        orders.update("1", |order| order.add(&name)).await.unwrap();
    }
    assert_eq!(store.get_record("purlin_snapshots", "order-1").await.unwrap(), None);
    assert_eq!(orders.load("1").await.unwrap().version(), 22);
}

#[tokio::test]
async fn a_kind_that_cannot_name_streams_is_a_bug_and_an_identity_is_not_found() {
    #[derive(Clone, Default, Serialize, Deserialize)]
    struct CartItem;
    impl Aggregate for CartItem {
        const KIND: &'static str = "cart-item";
        type Event = OrderEvent;
        fn apply(&mut self, _: &OrderEvent) {}
    }
    let store = Store::memory();
    assert_eq!(
        Repository::<CartItem>::new(&store).load("1").await.map(drop).unwrap_err().kind(),
        FaultKind::Bug
    );
    assert_eq!(Repository::<Order>::new(&store).load("").await.unwrap_err().kind(), FaultKind::NotFound);
}

#[tokio::test]
async fn an_event_that_does_not_fit_is_an_error_that_names_it() {
    let store = Store::memory();
    let stream = purlin::store::StreamId::new("order", "1").unwrap();
    let strange = Envelope::raw("order.exploded", "{}");
    store.commit(Commit::new().append(stream, purlin::store::Expected::Any, [strange])).await.unwrap();
    let error = Repository::<Order>::new(&store).load("1").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the event at 1, version 1 of `order-1`, a `order.exploded` written in its version 1, cannot be read"
    );
    assert_eq!(error.kind(), FaultKind::Bug);
}

/// The version that the snapshot of an order is of.
async fn snapshot_of(store: &Store, id: &str) -> Option<u64> {
    let snapshot = store.get_record("purlin_snapshots", &format!("order-{id}")).await.unwrap();
    snapshot.map(|record| record.decode::<serde_json::Value>().unwrap()["version"].as_u64().unwrap())
}

/// So many events that no update of a repository has made.
async fn appended_elsewhere(store: &Store, id: &str, name: &str, many: usize) {
    let stream = purlin::store::StreamId::new("order", id).unwrap();
    let added = || Envelope::new("order", &OrderEvent::ItemAdded { name: name.to_owned() }).unwrap();
    let events: Vec<_> = (0..many).map(|_| added()).collect();
    store.commit(Commit::new().append(stream, purlin::store::Expected::Any, events)).await.unwrap();
}

#[tokio::test]
async fn a_snapshot_is_written_once_however_it_came_to_be_due() {
    let store = Store::memory();
    let orders = Repository::<Order>::new(&store);
    let mut kept = orders.load("kept").await.unwrap();
    for n in 1..=25 {
        kept.record(OrderEvent::ItemAdded { name: "tea".to_owned() });
        orders.save(&mut kept).await.unwrap();
        let last = n / 10 * 10;
        assert_eq!(
            snapshot_of(&store, "kept").await,
            (last > 0).then_some(last),
            "after {n} saves of one root"
        );
    }
    appended_elsewhere(&store, "made-up", "tea", 25).await;
    orders.update("made-up", |order| order.add("tea")).await.unwrap();
    assert_eq!(snapshot_of(&store, "made-up").await, Some(25), "loading has just written one");
}

#[tokio::test]
async fn a_state_that_is_too_large_keeps_no_other_from_its_snapshot() {
    let store = Store::memory();
    let orders = Repository::<Order>::new(&store);
    for _ in 0..2 {
        appended_elsewhere(&store, "large", &"x".repeat(100_000), 12).await;
    }
    appended_elsewhere(&store, "small", "tea", 25).await;
    for id in ["large", "small"] {
        assert!(orders.load(id).await.unwrap().exists());
    }
    assert_eq!((snapshot_of(&store, "large").await, snapshot_of(&store, "small").await), (None, Some(25)));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_turn_keeps_nobody_from_another_aggregate() {
    let orders = Repository::<Order>::new(&slow_store());
    let timed = |id: String| {
        let orders = orders.clone();
        async move {
            let began = tokio::time::Instant::now();
            orders.update(id, |order| order.add("tea")).await.unwrap();
            began.elapsed()
        }
    };
    let alone = timed("alone".to_owned()).await;
    let crowd = futures_util::future::join_all((0..50).map(|_| timed("hot".to_owned())));
    let others = async {
        // By now the crowd has met, and all but one of it wait.
        tokio::time::advance(2 * alone).await;
        futures_util::future::join_all((0..1000).map(|n| timed(format!("other-{n}")))).await
    };
    let (crowd, others) = futures_util::future::join(crowd, others).await;
    assert!(crowd.iter().any(|took| *took > 20 * alone), "the crowd takes turns");
    assert!(others.iter().all(|took| *took <= alone), "the others wait for none of it");
}

#[tokio::test]
async fn a_decision_over_many_streams_is_made_anew_when_an_event_comes_that_it_looks_at() {
    use purlin::aggregate::{Boundary, DecideError};
    use purlin::message::Envelope;
    use purlin::store::{Commit, CommitError, EventQuery, Expected, StreamId};

    let store = Store::memory();
    let take = |who: u32| {
        let store = store.clone();
        async move {
            let seats = EventQuery::tagged(["course:1"]).kinds(["seat.taken"]);
            let boundary = Boundary::new(&store, seats, |taken: &mut u32, _| *taken += 1);
            let decided = boundary.decide(|taken| {
                let stream = StreamId::new("student", who).unwrap();
                let seat = Envelope::raw("seat.taken", "{}").tagged(["course:1"]);
                if *taken < 5 { Ok(Commit::new().append(stream, Expected::Any, [seat])) } else { Err("full") }
            });
            decided.await
        }
    };
    let all = futures_util::future::join_all((0..30).map(take)).await;
    assert_eq!(all.iter().filter(|one| one.is_ok()).count(), 5);
    assert!(all.iter().all(|one| matches!(one, Ok(_) | Err(DecideError::Refused("full")))));
    let conflict = Boundary::new(&store, EventQuery::tagged(["course:1"]), |_: &mut (), _| ()).decide(|()| {
        let stream = StreamId::new("student", 0).unwrap();
        Ok::<_, &str>(Commit::new().append(stream, Expected::Version(99), [Envelope::raw("seat.left", "{}")]))
    });
    let conflict = conflict.await;
    assert!(
        matches!(conflict, Err(DecideError::Commit(CommitError::Conflict(_)))),
        "its own expectation is no matter of the boundary: {conflict:?}"
    );
}
