//! What a handler brings about, and what becomes of one that fails, hangs or loses a race.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use purlin::bus::{Failure, Message};
use purlin::message::{Envelope, FaultKind, Timestamp, TraceContext};
use purlin::resilience::Retry;
use purlin::store::{Commit, Expected, Store};

use super::{MS, Open, RETRY, World, effect, effect_stream, handle, memory, relay};

on_memory! {
    an_effect_bears_the_trace_and_the_cause_of_its_message,
    a_panic_is_a_bug_and_harms_nothing_else,
    a_handler_that_hangs_is_cut_off,
    a_handler_runs_within_its_messages_deadline_and_a_late_one_is_told,
    what_a_message_brings_about_is_of_use_no_longer_than_the_message,
    a_lost_race_runs_the_handler_again_and_is_no_failure,
    a_handling_that_loses_every_race_is_parked,
    effects_that_can_never_be_applied_are_parked,
    effects_that_happened_before_under_their_id_only_move_the_mark,
}

async fn an_effect_bears_the_trace_and_the_cause_of_its_message(open: Open) {
    let world = World::new(open).await;
    let mut event = Envelope::raw("order.created", "1").public();
    let (trace, first) = (TraceContext::root(), purlin::message::new_id());
    (event.meta.trace, event.meta.correlation) = (Some(trace), Some(first));
    world.append("1", event.clone()).await;
    let traced = async |message: Message| {
        let within = purlin::telemetry::current().unwrap();
        assert_eq!(within.trace_id, message.meta().trace.unwrap().trace_id);
        assert_ne!(within.span_id, message.meta().trace.unwrap().span_id);
        Ok::<_, Failure>(effect(&message))
    };
    world.until_effects(|| world.group("g").on("order.created", traced), 1).await;
    let effect = world.shop.read_stream(&effect_stream("1"), 1, 1).await.unwrap().remove(0);
    let meta = effect.envelope.meta;
    assert_eq!(meta.trace.unwrap().trace_id, trace.trace_id);
    assert_eq!((meta.causation, meta.correlation), (Some(event.id), Some(first)));
}

async fn a_panic_is_a_bug_and_harms_nothing_else(open: Open) {
    let world = World::new(open).await;
    world.publish("a", 0).await;
    world.publish("b", 0).await;
    let panics = async |message: Message| match message.key() {
        "a" => panic!("cannot {}", "happen"),
        _ => handle(message).await,
    };
    let group = || world.group("g").lanes(1).on("order.created", panics);
    let dead = async || world.group("g").status().await.unwrap().dead_keys == 1;
    world.until(group, dead).await;
    world.until_effects(group, 1).await;
    let letter = world.dead_letters().list(None, None, 9).await.unwrap().items.remove(0);
    assert_eq!((letter.kind, letter.attempts), (Some(FaultKind::Bug), 3));
    assert_eq!(letter.reason.as_deref(), Some("the handler panicked: cannot happen"));
}

async fn a_handler_that_hangs_is_cut_off(open: Open) {
    let world = World::new(open).await;
    world.publish("a", 0).await;
    let hangs = async |_| std::future::pending::<Result<Commit, Failure>>().await;
    let group = || world.group("g").timeout(50 * MS).on("order.created", hangs);
    let dead = async || world.group("g").status().await.unwrap().dead_keys == 1;
    world.until(group, dead).await;
    let letter = world.dead_letters().list(None, None, 9).await.unwrap().items.remove(0);
    assert_eq!((letter.kind, letter.attempts), (Some(FaultKind::Timeout), 3));
}

async fn a_handler_runs_within_its_messages_deadline_and_a_late_one_is_told(open: Open) {
    let world = World::new(open).await;
    let until = world.clock.now().checked_add(50 * MS).unwrap();
    world.append("a", Envelope::raw("order.created", "7").public().until(until)).await;
    let start = tokio::time::Instant::now();
    let patient = async |message: Message| {
        let left = purlin::resilience::deadline::current().unwrap().remaining();
        assert!(left <= 50 * MS, "{left:?}");
        if !left.is_zero() {
            std::future::pending::<()>().await;
        }
        Ok::<_, Failure>(effect(&message))
    };
    let group = || world.group("g").timeout(Duration::from_secs(60)).on("order.created", patient);
    world.until_effects(group, 1).await;
    assert!(start.elapsed() < Duration::from_secs(1), "cut off after {:?}", start.elapsed());
}

async fn what_a_message_brings_about_is_of_use_no_longer_than_the_message(open: Open) {
    let world = World::new(open).await;
    let later = |seconds| world.clock.now().checked_add(Duration::from_secs(seconds)).unwrap();
    let (hour, day) = (later(3600), later(86_400));
    world.append("a", Envelope::raw("order.created", "1").public().until(hour)).await;
    let with = [hour, day];
    let handle = async |[hour, day]: [Timestamp; 2], message: Message| {
        assert_eq!(message.deadline(), Some(hour));
        let effects = [Some(day), None].map(|until| {
            let made = Envelope::raw("effect.made", "1");
            until.map_or(made.clone(), |until| made.until(until))
        });
        Ok::<_, Failure>(Commit::new().append(effect_stream("a"), Expected::Any, effects))
    };
    world.until_effects(|| world.group("g").on_with("order.created", &with, handle), 2).await;
    let events = world.shop.read_stream(&effect_stream("a"), 1, 2).await.unwrap();
    let deadlines: Vec<_> = events.iter().map(|event| event.envelope.meta.deadline).collect();
    assert_eq!(deadlines, [Some(hour), None]);
}

/// Somebody else appends to the stream of the effects between the handler's look at it and its commit.
async fn race(world: &World, races: u64) -> Arc<AtomicUsize> {
    let runs = Arc::new(AtomicUsize::new(0));
    let raced = async |(shop, runs, races): (Store, Arc<AtomicUsize>, u64), message: Message| {
        let stream = effect_stream(message.key());
        let version = shop.read_stream(&stream, 1, 100).await?.len() as u64;
        runs.fetch_add(1, Ordering::Relaxed);
        if version < races {
            let other = Envelope::raw("effect.other", "99");
            shop.commit(Commit::new().append(stream.clone(), Expected::Any, [other])).await?;
        }
        let made = Envelope::raw("effect.made", message.event.envelope.data.clone());
        Ok::<_, Failure>(Commit::new().append(stream, Expected::Version(version), [made]))
    };
    let with = (world.shop.clone(), Arc::clone(&runs), races);
    let group =
        || world.group("g").retry(Retry { max_attempts: 1, ..RETRY }).on_with("order.created", &with, raced);
    let over = async || {
        let dead = world.group("g").status().await.unwrap().dead_keys == 1;
        dead || world.effects("a").await.contains(&0)
    };
    world.until(group, over).await;
    runs
}

async fn a_lost_race_runs_the_handler_again_and_is_no_failure(open: Open) {
    let world = World::new(open).await;
    world.publish("a", 0).await;
    let runs = race(&world, 5).await;
    assert_eq!(runs.load(Ordering::Relaxed), 6);
    assert_eq!(world.effects("a").await, [99, 99, 99, 99, 99, 0]);
    assert_eq!(world.group("g").status().await.unwrap().parked, 0);
}

async fn a_handling_that_loses_every_race_is_parked(open: Open) {
    let world = World::new(open).await;
    world.publish("a", 0).await;
    race(&world, u64::MAX).await;
    let letter = world.dead_letters().list(None, None, 9).await.unwrap().items.remove(0);
    assert_eq!(letter.kind, Some(FaultKind::Conflict));
}

async fn effects_that_can_never_be_applied_are_parked(open: Open) {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Nowhere {}
    impl purlin::store::Row for Nowhere {
        const COLLECTION: &'static str = "never_defined";
    }
    let world = World::new(open).await;
    world.publish("a", 0).await;
    let invalid = async |_| Ok::<_, Failure>(Commit::new().put("key", &Nowhere {}));
    let dead = async || world.group("g").status().await.unwrap().dead_keys == 1;
    world.until(|| world.group("g").on("order.created", invalid), dead).await;
    let letter = world.dead_letters().list(None, None, 9).await.unwrap().items.remove(0);
    assert_eq!(letter.kind, Some(FaultKind::Bug));
}

async fn effects_that_happened_before_under_their_id_only_move_the_mark(open: Open) {
    let world = World::new(open).await;
    let id = purlin::message::new_id();
    let once = move |message: Message| {
        let commit = effect(&message).with_id(id, Duration::from_secs(60));
        std::future::ready(Ok::<_, Failure>(commit))
    };
    for key in ["a", "a", "b"] {
        world.publish(key, 0).await;
    }
    relay(&world, 3).await;
    let group = || world.group("g").lanes(1).on("order.created", once);
    let over = async || world.group("g").status().await.unwrap().lag == 0;
    world.until(group, over).await;
    assert_eq!(world.effect_count().await, 1);
}
