//! Places to crash at, without a process that dies: what would end it writes down what it finds instead.

use std::sync::{Arc, Mutex};

use purlin::chaos::{Counted, CrashAt, CrashPoints, PlanError, Side};
use purlin::message::Envelope;
use purlin::store::archive::Selection;
use purlin::store::memory::Memory;
use purlin::store::{Commit, CommitError, Expected, Store, StreamId};
use purlin::telemetry::Metrics;
use purlin::testing::store::{Harness, conformance};

fn stream() -> StreamId {
    StreamId::new("order", "1").unwrap()
}

/// An append that fits only a stream with so many events.
fn append(version: u64) -> Commit {
    Commit::new().append(stream(), Expected::Version(version), [Envelope::raw("order.changed", "{}")])
}

/// A store and a sister that count together, and which events the first had at each crash.
struct World {
    points: CrashPoints,
    store: Store,
    sister: Store,
    crashes: Arc<Mutex<Vec<(CrashAt, u64)>>>,
}

fn world(plan: &str) -> World {
    let (memory, crashes) = (Memory::new(), Arc::new(Mutex::new(Vec::new())));
    let (seen, written) = (memory.clone(), Arc::clone(&crashes));
    let points = CrashPoints::calling(plan.parse().unwrap(), move |at| {
        let durable = Store::new(seen.clone()).head().0;
        written.lock().unwrap().push((at, durable));
    });
    let (store, sister) = (Store::new(points.wrap(memory)), Store::new(points.wrap(Memory::new())));
    World { points, store, sister, crashes }
}

#[tokio::test]
async fn before_a_commit_nothing_of_it_is_there() {
    let world = world("before:2");
    for version in 0..3 {
        world.store.commit(append(version)).await.unwrap();
    }
    let at = CrashAt { side: Side::Before, commit: 2 };
    assert_eq!(*world.crashes.lock().unwrap(), [(at, 1)], "once, with only the first commit durable");
}

#[tokio::test]
async fn after_a_commit_it_is_there() {
    let world = world("after:2");
    for version in 0..3 {
        world.store.commit(append(version)).await.unwrap();
    }
    let at = CrashAt { side: Side::After, commit: 2 };
    assert_eq!(*world.crashes.lock().unwrap(), [(at, 2)], "once, with both commits durable");
}

#[tokio::test]
async fn the_commits_of_all_stores_are_counted_together() {
    let world = world("after:3");
    world.store.commit(append(0)).await.unwrap();
    world.sister.commit(append(0)).await.unwrap();
    assert!(world.crashes.lock().unwrap().is_empty());
    world.store.commit(append(1)).await.unwrap();
    assert_eq!(world.crashes.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_refused_commit_begins_and_is_not_applied() {
    let world = world("after:2");
    world.store.commit(append(0)).await.unwrap();
    let refused = world.store.commit(append(0)).await;
    assert!(matches!(refused, Err(CommitError::Conflict(_))), "{refused:?}");
    assert_eq!(world.points.counted(), Counted { begun: 2, applied: 1 });
    assert!(world.crashes.lock().unwrap().is_empty(), "there is nothing durable to crash after");
    world.store.commit(append(1)).await.unwrap();
    assert_eq!(world.crashes.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_archiving_is_a_place_to_crash_at() {
    let world = world("after:3");
    for version in 0..2 {
        world.store.commit(append(version)).await.unwrap();
    }
    let done = world.store.archive(&Selection::category(stream().category()), |_| ()).await.unwrap();
    assert_eq!(done.events, 1);
    assert_eq!(world.points.counted(), Counted { begun: 3, applied: 3 });
    assert_eq!(world.crashes.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn reading_is_no_place_to_crash_at() {
    let world = world("before:1");
    world.store.read_stream(&stream(), 1, 10).await.unwrap();
    assert_eq!(world.points.counted(), Counted { begun: 0, applied: 0 });
    assert!(world.crashes.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_counts_are_shown_in_metrics() {
    let (points, metrics) = (CrashPoints::counting(), Metrics::new());
    points.observe(&metrics);
    let store = Store::new(points.wrap(Memory::new()));
    store.commit(append(0)).await.unwrap();
    store.commit(append(0)).await.unwrap_err();
    let shown = metrics.render();
    assert!(shown.contains(r#"purlin_chaos_commits{state="begun"} 2"#), "{shown}");
    assert!(shown.contains(r#"purlin_chaos_commits{state="applied"} 1"#), "{shown}");
}

#[test]
fn a_plan_is_read_as_it_is_written() {
    for text in ["before:1", "after:17"] {
        assert_eq!(text.parse::<CrashAt>().unwrap().to_string(), text);
    }
    assert_eq!("before:0".parse::<CrashAt>(), Err(PlanError::Zero));
    for text in ["", "17", "before", "before:", "before:x", "before:-1", "during:3", "before:1:2"] {
        assert_eq!(text.parse::<CrashAt>(), Err(PlanError::Form(text.into())));
    }
}

struct Wrapped;

impl Harness for Wrapped {
    const DURABLE: bool = false;

    async fn open(&self, _name: &str) -> Store {
        Store::new(CrashPoints::counting().wrap(Memory::new()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrapped_engine_conforms_as_the_bare_one_does() {
    conformance(&Wrapped).await;
}
