//! The bus, on whatever engine keeps its stores: relay, groups, parking, and what an operator can do.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use purlin::bus::{
    Bus, DeadLetterError, DeadLetterState, DeadLetters, Failure, Group, GroupError, Message, RelayError,
};
use purlin::message::{Clock, Envelope, FaultKind, ManualClock, Timestamp, TraceContext, Uuid};
use purlin::resilience::Retry;
use purlin::store::memory::Memory;
use purlin::store::{BoxFuture, Commit, CommitError, Engine, Expected, Position, Recorded, Store, StreamId};
use purlin::telemetry::Metrics;
use tokio_util::sync::CancellationToken;

use crate::faulty::{Fate, Fates};

const MS: Duration = Duration::from_millis(1);
const RETRY: Retry = Retry {
    max_attempts: 3,
    first_delay: Duration::from_millis(10),
    max_delay: Duration::from_millis(40),
    jitter: 0.5,
};

/// Opens a new engine.
pub(crate) type Open = fn() -> BoxFuture<'static, Arc<dyn Engine>>;

fn memory() -> BoxFuture<'static, Arc<dyn Engine>> {
    Box::pin(async { Arc::new(Memory::new()) as Arc<dyn Engine> })
}

/// An engine that gives short pages long before the end of the log.
fn short_pages() -> BoxFuture<'static, Arc<dyn Engine>> {
    Box::pin(async { Arc::new(Memory::new().short_pages(3)) as Arc<dyn Engine> })
}

/// Runs bodies that any engine must pass on the one in memory.
macro_rules! on_memory {
    ($($test:ident),* $(,)?) => {
        mod on_memory {
            $(#[tokio::test(start_paused = true)]
            async fn $test() {
                let test = super::$test(super::memory);
                tokio::time::timeout(std::time::Duration::from_secs(3600), test).await.unwrap();
            })*
        }
    };
}

on_memory! {
    public_events_are_copied_in_order_and_keep_all_they_had,
    a_relay_that_dies_at_any_commit_copies_each_event_once,
    a_relay_refuses_a_source_that_is_not_the_log_it_knows,
    an_effect_bears_the_trace_and_the_cause_of_its_message,
    whatever_commit_the_process_dies_at_every_effect_is_there_once,
    a_key_waits_for_its_failed_message_and_other_keys_flow,
    a_message_that_keeps_failing_is_dead_until_it_is_replayed,
    dropping_the_first_message_of_a_key_lets_the_later_ones_flow,
    dropping_a_waiting_message_leaves_the_others_in_order,
    a_replay_while_nobody_runs_is_noticed_at_the_next_start,
    a_panic_is_a_bug_and_harms_nothing_else,
    a_handler_that_hangs_is_cut_off,
    a_handler_runs_within_its_messages_deadline_and_a_late_one_is_told,
    what_a_message_brings_about_is_of_use_no_longer_than_the_message,
    a_lost_race_runs_the_handler_again_and_is_no_failure,
    a_handling_that_loses_every_race_is_parked,
    effects_that_can_never_be_applied_are_parked,
    effects_that_happened_before_under_their_id_only_move_the_mark,
    a_lane_that_hangs_holds_up_no_other,
    a_group_keeps_its_lanes_and_its_bus,
    the_marks_move_past_messages_of_other_subjects,
    a_shutdown_finishes_what_is_in_hand,
    the_largest_public_event_can_be_copied_and_parked,
    many_parked_keys_of_another_group_hide_none_of_a_groups_own,
    data_of_any_depth_and_size_of_numbers_can_be_parked,
    a_public_event_that_is_no_json_is_refused,
    a_group_tells_the_metrics_what_it_does,
}

/// A service that publishes, a bus, a service that consumes, and the process in which they run.
struct World {
    fates: Fates,
    engines: [Arc<dyn Engine>; 3],
    clock: Clock,
    hand: ManualClock,
    /// The same stores, spared all fates.
    orders: Store,
    shop: Store,
}

impl World {
    async fn new(open: Open) -> Self {
        Self::with_fates(open, Fates::new([])).await
    }

    async fn with_fates(open: Open, fates: Fates) -> Self {
        let engines = [open().await, open().await, open().await];
        let spared = Fates::new([]);
        let (orders, shop) = (spared.store(&engines[0]), spared.store(&engines[2]));
        let (clock, hand) = Clock::manual("2026-11-22T10:00:00Z".parse::<Timestamp>().unwrap());
        Self { fates, engines, clock, hand, orders, shop }
    }

    fn bus(&self) -> Bus {
        Bus::embedded(self.fates.store(&self.engines[1]))
    }

    fn group(&self, name: &str) -> Group {
        let shop = self.fates.store(&self.engines[2]);
        self.bus().group(name, &shop).retry(RETRY).clock(self.clock.clone())
    }

    fn dead_letters(&self) -> DeadLetters {
        DeadLetters::new(&self.fates.store(&self.engines[2])).with_clock(self.clock.clone())
    }

    async fn publish(&self, key: &str, number: u64) {
        let event = Envelope::raw("order.created", number.to_string()).public();
        self.append(key, event).await;
    }

    async fn append(&self, key: &str, event: Envelope) {
        let commit = Commit::new().append(StreamId::new("order", key).unwrap(), Expected::Any, [event]);
        self.orders.commit(commit).await.unwrap();
    }

    /// Which messages of a key have had their effect, in the order of the effects.
    async fn effects(&self, key: &str) -> Vec<u64> {
        let events = self.shop.read_stream(&effect_stream(key), 1, 10_000).await.unwrap();
        events.iter().map(|event| serde_json::from_slice(&event.envelope.data).unwrap()).collect()
    }

    async fn effect_count(&self) -> usize {
        self.shop.head().0 as usize
    }

    /// Runs the process, life after life, until there are so many effects.
    async fn until_effects(&self, group: impl Fn() -> Group, count: usize) {
        self.until(group, async || self.effect_count().await >= count).await;
    }

    /// Runs the process, life after life, until the consumer's store is as wanted.
    async fn until(&self, group: impl Fn() -> Group, wanted: impl AsyncFn() -> bool) {
        self.fates.live(async || self.life(&group, &wanted).await).await;
    }

    async fn life(&self, group: &impl Fn() -> Group, wanted: &impl AsyncFn() -> bool) {
        let orders = self.fates.store(&self.engines[0]);
        tokio::select! {
            end = self.bus().relay("orders", &orders) => panic!("the relay ended: {end:?}"),
            end = group().run(CancellationToken::new()) => panic!("the group ended: {end:?}"),
            () = self.tick() => {}
            () = self.wait(wanted) => {}
        }
    }

    async fn wait(&self, wanted: &impl AsyncFn() -> bool) {
        let mut watch = self.shop.watch();
        while !wanted().await {
            watch.borrow_and_update();
            if wanted().await {
                return;
            }
            watch.changed().await.unwrap();
        }
    }

    /// Lets the clock of the day go with the clock of the timers.
    async fn tick(&self) {
        loop {
            tokio::time::sleep(MS).await;
            self.hand.advance(MS);
        }
    }
}

fn effect_stream(key: &str) -> StreamId {
    StreamId::new("effect", key).unwrap()
}

fn effect(message: &Message) -> Commit {
    let data = message.event.envelope.data.clone();
    Commit::new().append(effect_stream(message.key()), Expected::Any, [Envelope::raw("effect.made", data)])
}

fn number(message: &Message) -> u64 {
    message.data().unwrap()
}

async fn handle(message: Message) -> Result<Commit, Failure> {
    Ok(effect(&message))
}

fn refused() -> Failure {
    Failure::new(FaultKind::Rejected, "not today")
}

/// All that is in a bus's log.
async fn messages(world: &World) -> Vec<Recorded> {
    let store = Fates::new([]).store(&world.engines[1]);
    store.read_log(Position::START, &purlin::store::LogFilter::all(), 100_000).await.unwrap().events
}

/// Runs the relay until the bus has so many messages.
async fn relay(world: &World, count: u64) {
    let bus = Fates::new([]).store(&world.engines[1]);
    let life = async || {
        let orders = world.fates.store(&world.engines[0]);
        let mut head = bus.watch();
        tokio::select! {
            end = world.bus().relay("orders", &orders) => panic!("{end:?}"),
            _ = head.wait_for(|head| head.0 >= count) => {}
        }
    };
    world.fates.live(life).await;
}

pub(crate) async fn public_events_are_copied_in_order_and_keep_all_they_had(open: Open) {
    let world = World::new(open).await;
    let mut public = Envelope::raw("order.created", r#"{"total":5}"#).public();
    public.meta.trace = Some(TraceContext::root());
    world.append("1", public.clone()).await;
    world.append("1", Envelope::raw("order.noted", "null")).await;
    world.append("2", Envelope::raw("order.created", "7").public()).await;
    world.append("1", Envelope::raw("order.submitted", "null").public()).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = async |seen: Arc<Mutex<Vec<Message>>>, message: Message| {
        seen.lock().unwrap().push(message.clone());
        Ok::<_, Failure>(effect(&message))
    };
    let group = || {
        let group = world.group("g").lanes(1);
        group.on_with("order.created", &seen, record).on_with("order.submitted", &seen, record)
    };
    world.until_effects(group, 3).await;

    let log = world.orders.read_log(Position::START, &purlin::store::LogFilter::public(), 10).await.unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.iter().map(|message| message.event.clone()).collect::<Vec<_>>(), log.events);
    assert!(seen.iter().all(|message| &*message.source == "orders"));
    assert_eq!((seen[0].id(), seen[0].subject(), seen[0].key()), (public.id, "order.created", "1"));
    assert_eq!(seen.iter().map(|message| message.position.0).collect::<Vec<_>>(), [1, 2, 3]);
}

pub(crate) async fn a_relay_that_dies_at_any_commit_copies_each_event_once(open: Open) {
    for (at, fate) in (1..=3).flat_map(|at| FATES.map(|fate| (at, fate))) {
        let world = World::with_fates(open, Fates::new([(at, fate)])).await;
        for number in 0..600 {
            world.publish(&(number % 7).to_string(), number).await;
        }
        relay(&world, 600).await;
        let copied: Vec<Uuid> = messages(&world).await.iter().map(|event| event.envelope.id).collect();
        let log =
            world.orders.read_log(Position::START, &purlin::store::LogFilter::all(), 1000).await.unwrap();
        let published: Vec<Uuid> = log.events.iter().map(|event| event.envelope.id).collect();
        assert_eq!(copied, published, "{fate:?} at commit {at}");
    }
}

const FATES: [Fate; 5] = [Fate::Refused, Fate::DeadBefore, Fate::DeadBehind, Fate::Late, Fate::LateRead];

pub(crate) async fn a_relay_refuses_a_source_that_is_not_the_log_it_knows(open: Open) {
    let world = World::new(open).await;
    world.publish("1", 1).await;
    relay(&world, 1).await;
    let other = Store::memory();
    let end = world.bus().relay("orders", &other).await;
    assert!(matches!(end, Err(RelayError::OtherLog { found, .. }) if found == other.log_id()), "{end:?}");
}

pub(crate) async fn an_effect_bears_the_trace_and_the_cause_of_its_message(open: Open) {
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

pub(crate) async fn whatever_commit_the_process_dies_at_every_effect_is_there_once(open: Open) {
    let mut at = 1;
    loop {
        let mut commits = 0;
        for fate in FATES {
            let world = World::with_fates(open, Fates::new([(at, fate)])).await;
            for number in 0..4 {
                world.publish("a", number).await;
                world.publish("b", number).await;
            }
            // One of each key fails once, so that parking, joining and retrying are among the commits.
            let failed = Arc::new(Mutex::new(Vec::new()));
            let stumble = async |failed: Arc<Mutex<Vec<Uuid>>>, message: Message| {
                let mut failed = failed.lock().unwrap();
                if number(&message) == 1 && !failed.contains(&message.id()) {
                    failed.push(message.id());
                    return Err(refused());
                }
                Ok(effect(&message))
            };
            let group = || world.group("g").lanes(2).on_with("order.created", &failed, stumble);
            world.until_effects(group, 8).await;
            for key in ["a", "b"] {
                assert_eq!(world.effects(key).await, [0, 1, 2, 3], "{fate:?} at commit {at}, key {key}");
            }
            commits = commits.max(world.fates.commits());
        }
        if at > commits {
            return assert!(at > 10, "there are more commits than that");
        }
        at += 1;
    }
}

pub(crate) async fn a_key_waits_for_its_failed_message_and_other_keys_flow(open: Open) {
    let world = World::new(open).await;
    for number in 0..3 {
        world.publish("bad", number).await;
        world.publish("good", number).await;
    }
    let stuck = async |message: Message| match message.key() {
        "bad" => Err(refused()),
        _ => Ok(effect(&message)),
    };
    // One lane for both: the failed message must leave it.
    let group =
        || world.group("g").lanes(1).retry(Retry { max_attempts: 1000, ..RETRY }).on("order.created", stuck);
    world.until(group, async || world.effects("good").await.len() == 3).await;
    assert_eq!(world.effects("good").await, [0, 1, 2]);
    assert!(world.effects("bad").await.is_empty());

    let cured = || world.group("g").on("order.created", handle);
    world.until_effects(cured, 6).await;
    assert_eq!(world.effects("bad").await, [0, 1, 2]);
}

/// A group whose handler refuses everything, run until a message of each key is dead.
async fn kill(world: &World, keys: u64) {
    let group = || world.group("g").on("order.created", async |_| Err(refused()));
    let dead = async || world.group("g").status().await.unwrap().dead_keys == keys;
    world.until(group, dead).await;
}

pub(crate) async fn a_message_that_keeps_failing_is_dead_until_it_is_replayed(open: Open) {
    let world = World::new(open).await;
    for number in 0..3 {
        world.publish("a", number).await;
    }
    kill(&world, 1).await;
    let letters = world.dead_letters();
    let group = world.group("g");
    let all_parked = async || group.status().await.unwrap().parked == 3;
    world.until(|| world.group("g").on("order.created", handle), all_parked).await;
    let list = letters.list(Some("g"), None, 2).await.unwrap();
    let rest = letters.list(Some("g"), list.next.as_deref(), 2).await.unwrap();
    let states: Vec<_> = list.items.iter().chain(&rest.items).map(|letter| letter.state).collect();
    assert_eq!(states, [DeadLetterState::Dead, DeadLetterState::Waiting, DeadLetterState::Waiting]);
    assert_eq!(rest.next, None);
    let first = letters.show(&list.items[0].id).await.unwrap();
    assert_eq!((first.letter.attempts, first.letter.kind), (3, Some(FaultKind::Rejected)));
    assert_eq!((first.letter.reason.as_deref(), &*first.letter.key), (Some("not today"), "a"));
    assert!(first.letter.last_failure > first.letter.first_failure && first.letter.next_attempt.is_none());
    assert_eq!((&first.message["data"], &first.message["source"]), (&0.into(), &"orders".into()));
    assert_eq!(letters.list(Some("other"), None, 10).await.unwrap().items, []);

    // While it is dead nothing of its key is tried, however long the group runs.
    let tried = Arc::new(AtomicUsize::new(0));
    let count = async |tried: Arc<AtomicUsize>, message: Message| {
        tried.fetch_add(1, Ordering::Relaxed);
        Ok::<_, Failure>(effect(&message))
    };
    world.publish("b", 0).await;
    let group = || world.group("g").on_with("order.created", &tried, count);
    world.until_effects(group, 1).await;
    assert_eq!(tried.load(Ordering::Relaxed), 1);
    // The last message of the key is named; the first is tried first all the same.
    let replay = async || {
        letters.replay(&rest.items[0].id).await.unwrap();
        world.wait(&async || world.effect_count().await == 4).await;
        true
    };
    world.until(group, replay).await;
    assert_eq!(world.effects("a").await, [0, 1, 2]);
    assert_eq!(letters.list(None, None, 10).await.unwrap().items, []);
    assert!(matches!(letters.show(&list.items[0].id).await, Err(DeadLetterError::NotFound(_))));
    assert!(matches!(letters.replay("g-99").await, Err(DeadLetterError::NotFound(_))));
    assert!(matches!(letters.drop("nonsense").await, Err(DeadLetterError::NotFound(_))));
}

pub(crate) async fn dropping_the_first_message_of_a_key_lets_the_later_ones_flow(open: Open) {
    let world = World::new(open).await;
    for number in 0..3 {
        world.publish("a", number).await;
    }
    kill(&world, 1).await;
    let group = || world.group("g").on("order.created", handle);
    let drop_first = async || {
        let first = world.dead_letters().list(None, None, 1).await.unwrap().items.remove(0);
        world.dead_letters().drop(&first.id).await.unwrap();
        world.wait(&async || world.effect_count().await == 2).await;
        true
    };
    world.until(group, drop_first).await;
    assert_eq!(world.effects("a").await, [1, 2]);
    world.publish("a", 3).await;
    world.until_effects(group, 3).await;
    assert_eq!(world.effects("a").await, [1, 2, 3]);
}

pub(crate) async fn dropping_a_waiting_message_leaves_the_others_in_order(open: Open) {
    let world = World::new(open).await;
    for number in 0..4 {
        world.publish("a", number).await;
    }
    kill(&world, 1).await;
    let parked = async || world.group("g").status().await.unwrap().parked == 4;
    world.until(|| world.group("g").on("order.created", handle), parked).await;
    let letters = world.dead_letters();
    let ids: Vec<_> =
        letters.list(None, None, 9).await.unwrap().items.into_iter().map(|letter| letter.id).collect();
    letters.drop(&ids[1]).await.unwrap();
    assert_eq!(world.group("g").status().await.unwrap().parked, 3);
    letters.replay_key("g", "a").await.unwrap();
    world.until_effects(|| world.group("g").on("order.created", handle), 3).await;
    assert_eq!(world.effects("a").await, [0, 2, 3]);
}

pub(crate) async fn a_replay_while_nobody_runs_is_noticed_at_the_next_start(open: Open) {
    let world = World::new(open).await;
    world.publish("a", 0).await;
    kill(&world, 1).await;
    let first = world.dead_letters().list(None, None, 1).await.unwrap().items.remove(0);
    world.dead_letters().replay(&first.id).await.unwrap();
    world.until_effects(|| world.group("g").on("order.created", handle), 1).await;
    assert_eq!(world.effects("a").await, [0]);
}

pub(crate) async fn a_panic_is_a_bug_and_harms_nothing_else(open: Open) {
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

pub(crate) async fn a_handler_that_hangs_is_cut_off(open: Open) {
    let world = World::new(open).await;
    world.publish("a", 0).await;
    let hangs = async |_| std::future::pending::<Result<Commit, Failure>>().await;
    let group = || world.group("g").timeout(50 * MS).on("order.created", hangs);
    let dead = async || world.group("g").status().await.unwrap().dead_keys == 1;
    world.until(group, dead).await;
    let letter = world.dead_letters().list(None, None, 9).await.unwrap().items.remove(0);
    assert_eq!((letter.kind, letter.attempts), (Some(FaultKind::Timeout), 3));
}

pub(crate) async fn a_handler_runs_within_its_messages_deadline_and_a_late_one_is_told(open: Open) {
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

pub(crate) async fn what_a_message_brings_about_is_of_use_no_longer_than_the_message(open: Open) {
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

pub(crate) async fn a_lost_race_runs_the_handler_again_and_is_no_failure(open: Open) {
    let world = World::new(open).await;
    world.publish("a", 0).await;
    let runs = race(&world, 5).await;
    assert_eq!(runs.load(Ordering::Relaxed), 6);
    assert_eq!(world.effects("a").await, [99, 99, 99, 99, 99, 0]);
    assert_eq!(world.group("g").status().await.unwrap().parked, 0);
}

pub(crate) async fn a_handling_that_loses_every_race_is_parked(open: Open) {
    let world = World::new(open).await;
    world.publish("a", 0).await;
    race(&world, u64::MAX).await;
    let letter = world.dead_letters().list(None, None, 9).await.unwrap().items.remove(0);
    assert_eq!(letter.kind, Some(FaultKind::Conflict));
}

pub(crate) async fn effects_that_can_never_be_applied_are_parked(open: Open) {
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

pub(crate) async fn effects_that_happened_before_under_their_id_only_move_the_mark(open: Open) {
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

pub(crate) async fn a_lane_that_hangs_holds_up_no_other(open: Open) {
    let world = World::new(open).await;
    // Far more than a lane's queue holds stand behind the message that hangs, and among them those of others.
    for number in 0..3000 {
        world.publish("slow", number).await;
        if number % 100 == 0 {
            world.publish(&format!("quick-{number}"), number).await;
        }
    }
    let free = CancellationToken::new();
    let hangs = async |free: CancellationToken, message: Message| {
        if message.key() == "slow" {
            free.cancelled().await;
        }
        Ok::<_, Failure>(effect(&message))
    };
    let day = Duration::from_secs(86_400);
    let group = || world.group("g").lanes(8).timeout(day).on_with("order.created", &free, hangs);
    world.until_effects(group, 30 - quick_in_lane_of("slow")).await;
    free.cancel();
    world.until_effects(group, 3030).await;
    assert_eq!(world.effects("slow").await, (0..3000).collect::<Vec<_>>());
}

/// How many of the quick keys share the lane of another: those do wait for it.
fn quick_in_lane_of(key: &str) -> usize {
    let lane = |key: &str| {
        let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        (hash ^ (hash >> 32)) % 8
    };
    (0..3000).step_by(100).filter(|number| lane(&format!("quick-{number}")) == lane(key)).count()
}

pub(crate) async fn a_group_keeps_its_lanes_and_its_bus(open: Open) {
    let world = World::new(open).await;
    world.publish("a", 0).await;
    let group = || world.group("g").lanes(4).on("order.created", handle);
    world.until_effects(group, 1).await;
    let run = async |group: Group| group.run(CancellationToken::new()).await;
    let end = run(world.group("g").lanes(5)).await;
    assert!(matches!(end, Err(GroupError::Lanes { stored: 4, wanted: 5, .. })), "{end:?}");
    let end = run(Bus::embedded(Store::memory()).group("g", &world.shop)).await;
    assert!(matches!(end, Err(GroupError::OtherLog { .. })), "{end:?}");
    let end = run(world.group("No such name")).await;
    assert!(matches!(end, Err(GroupError::Name(_))), "{end:?}");
    let end = run(group().on("order.created", handle)).await;
    assert!(matches!(end, Err(GroupError::Doubled { .. })), "{end:?}");
    world.publish("a", 1).await;
    world.until_effects(|| world.group("g").on("order.created", handle), 2).await;
}

pub(crate) async fn the_marks_move_past_messages_of_other_subjects(open: Open) {
    let world = World::new(open).await;
    for _ in 0..5000 {
        world.append("a", Envelope::raw("order.noted", "null").public()).await;
    }
    relay(&world, 5000).await;
    assert!(world.group("g").status().await.unwrap().lag >= 5000);
    let marked = async || world.group("g").status().await.unwrap().lag < 1500;
    world.until(|| world.group("g").on("order.created", handle), marked).await;
    assert_eq!(world.effect_count().await, 0);
}

pub(crate) async fn a_shutdown_finishes_what_is_in_hand(open: Open) {
    let world = World::new(open).await;
    world.publish("a", 0).await;
    world.publish("a", 1).await;
    relay(&world, 2).await;
    let shutdown = CancellationToken::new();
    let last = async |shutdown: CancellationToken, message: Message| {
        shutdown.cancel();
        tokio::time::sleep(MS).await;
        Ok::<_, Failure>(effect(&message))
    };
    let group = world.group("g").on_with("order.created", &shutdown, last);
    group.run(shutdown.clone()).await.unwrap();
    assert_eq!(world.effects("a").await, [0]);
}

pub(crate) async fn the_largest_public_event_can_be_copied_and_parked(open: Open) {
    let world = World::new(open).await;
    let event =
        |bytes: usize| Envelope::raw("order.created", format!("\"{}\"", "x".repeat(bytes - 2))).public();
    let append = |event| Commit::new().append(StreamId::new("order", "a").unwrap(), Expected::Any, [event]);
    let largest = (1 << 20) - (64 << 10);
    assert!(world.orders.commit(append(event(largest + 1))).await.is_err());
    world.orders.commit(append(event(largest))).await.unwrap();
    let refuse = async |_| Err(Failure::new(FaultKind::Rejected, "\0".repeat(100_000)));
    let dead = async || world.group("g").status().await.unwrap().dead_keys == 1;
    world.until(|| world.group("g").on("order.created", refuse), dead).await;
    let letter = world.dead_letters().show("g-1").await.unwrap();
    assert_eq!(letter.message["data"].as_str().unwrap().len(), largest - 2);
}

pub(crate) async fn data_of_any_depth_and_size_of_numbers_can_be_parked(open: Open) {
    let world = World::new(open).await;
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    for (key, data) in [("deep", deep.clone()), ("large", "1e999".to_owned())] {
        world.append(key, Envelope::raw("order.created", data).public()).await;
    }
    world.publish("a", 1).await;
    let allowed = Arc::new(Mutex::new(false));
    let choosy = async |allowed: Arc<Mutex<bool>>, message: Message| match message.key() {
        "a" => Ok(effect(&message)),
        _ if *allowed.lock().unwrap() => Ok(effect(&message)),
        _ => Err(refused()),
    };
    let group = || world.group("g").lanes(1).on_with("order.created", &allowed, choosy);
    let dead = async || {
        let status = world.group("g").status().await.unwrap();
        (status.dead_keys, world.effects("a").await) == (2, vec![1])
    };
    world.until(group, dead).await;
    let letters = world.dead_letters();
    let shown = letters.show("g-1").await.unwrap().message;
    assert_eq!(shown["data"].as_str(), Some(&*deep));
    *allowed.lock().unwrap() = true;
    for id in ["g-1", "g-2"] {
        letters.replay(id).await.unwrap();
    }
    world.until_effects(group, 3).await;
    let effects = world.shop.read_stream(&effect_stream("deep"), 1, 10).await.unwrap();
    assert_eq!(effects[0].envelope.data, deep);
}

pub(crate) async fn many_parked_keys_of_another_group_hide_none_of_a_groups_own(open: Open) {
    let world = World::new(open).await;
    for number in 0..300 {
        world.publish(&format!("key-{number}"), 0).await;
    }
    let refuse = async |_| Err::<Commit, _>(refused());
    let patient = Retry { max_attempts: 1000, ..RETRY };
    let other = || world.group("other").retry(patient).on("order.created", refuse);
    let all = async || world.group("other").status().await.unwrap().retrying_keys == 300;
    world.until(other, all).await;
    let tried = Arc::new(AtomicUsize::new(0));
    let second = async |tried: Arc<AtomicUsize>, message: Message| match tried.fetch_add(1, Ordering::Relaxed)
    {
        0..300 => Err(refused()),
        _ => Ok(effect(&message)),
    };
    world.until_effects(|| world.group("own").on_with("order.created", &tried, second), 300).await;
    assert_eq!(world.group("own").status().await.unwrap().parked, 0);
}

pub(crate) async fn a_public_event_that_is_no_json_is_refused(open: Open) {
    let world = World::new(open).await;
    for data in [&b"no json"[..], b"", b"1 2", b"\"\xff\""] {
        let event = Envelope::raw("order.created", data.to_vec());
        let append = |event| {
            let stream = StreamId::new("order", "a").unwrap();
            world.orders.commit(Commit::new().append(stream, Expected::Any, [event]))
        };
        let refused = append(event.clone().public()).await;
        assert!(matches!(refused, Err(CommitError::Invalid(_))), "{refused:?}");
        append(event).await.unwrap();
    }
    world.publish("a", 1).await;
    world.until_effects(|| world.group("g").on("order.created", handle), 1).await;
}

pub(crate) async fn a_group_tells_the_metrics_what_it_does(open: Open) {
    let world = World::new(open).await;
    let metrics = Metrics::new();
    for key in ["a", "b", "bad", "bad"] {
        world.publish(key, 0).await;
    }
    let stuck = async |message: Message| match message.key() {
        "bad" => Err(refused()),
        _ => Ok(effect(&message)),
    };
    let group = || world.group("g").metrics(&metrics).on("order.created", stuck);
    let shown = async || {
        let text = metrics.render();
        [
            "purlin_bus_handled_total{group=\"g\"} 2",
            "purlin_bus_parked_messages{group=\"g\"} 2",
            "purlin_bus_dead_keys{group=\"g\"} 1",
            "purlin_bus_failures_total{group=\"g\",kind=\"rejected\"} 3",
        ]
        .iter()
        .all(|line| text.contains(line))
    };
    let touch = async || {
        while !shown().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        true
    };
    world.until(group, touch).await;
}

/// How a message behaves: how often its handling fails, and how.
#[derive(Debug, Clone)]
struct Behaviour {
    key: u8,
    failures: u32,
    how: How,
}

#[derive(Debug, Clone, Copy)]
enum How {
    Refuses,
    Panics,
    Hangs,
}

/// All messages, and how often each was tried.
type Plan = Arc<(Vec<Behaviour>, Mutex<HashMap<u64, u32>>)>;

fn behaviour() -> impl Strategy<Value = Behaviour> {
    let how = prop_oneof![4 => Just(How::Refuses), 1 => Just(How::Panics), 1 => Just(How::Hangs)];
    let failures = prop_oneof![3 => Just(0_u32), 2 => 1..7_u32];
    (0..4_u8, failures, how).prop_map(|(key, failures, how)| Behaviour { key, failures, how })
}

fn fates() -> impl Strategy<Value = BTreeMap<usize, Fate>> {
    proptest::collection::btree_map(1..160_usize, proptest::sample::select(&FATES[..]), 0..20)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 400, ..ProptestConfig::default() })]

    /// However messages fail and whenever the process dies, the effects of each key are exactly its messages, in
    /// order, once. An operator replays what is dead.
    #[test]
    fn the_effects_of_a_key_are_its_messages_in_order_once(
        messages in proptest::collection::vec(behaviour(), 1..30),
        fates in fates(),
        lanes in 1..4_u32,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let expected = expected(&messages);
        let found = runtime.block_on(run_plan(messages, fates, lanes));
        prop_assert_eq!(found, expected);
    }
}

fn expected(messages: &[Behaviour]) -> BTreeMap<String, Vec<u64>> {
    let mut expected = BTreeMap::<String, Vec<u64>>::new();
    for (number, message) in (0..).zip(messages) {
        expected.entry(message.key.to_string()).or_default().push(number);
    }
    expected
}

async fn run_plan(
    messages: Vec<Behaviour>,
    fates: BTreeMap<usize, Fate>,
    lanes: u32,
) -> BTreeMap<String, Vec<u64>> {
    let world = World::with_fates(short_pages, Fates::new(fates)).await;
    let published = AtomicUsize::new(0);
    let publish = async || {
        while let Some(message) = messages.get(published.load(Ordering::Relaxed)) {
            // The memory engine commits at the first poll: no life ends between the commit and the count.
            world.publish(&message.key.to_string(), published.fetch_add(1, Ordering::Relaxed) as u64).await;
            if published.load(Ordering::Relaxed).is_multiple_of(3) {
                tokio::time::sleep(2 * MS).await;
            }
        }
        std::future::pending::<()>().await;
    };
    let plan: Plan = Arc::new((messages.clone(), Mutex::default()));
    let behave = async |plan: Plan, message: Message| {
        let Behaviour { failures, how, .. } = plan.0[number(&message) as usize];
        let attempt = {
            let mut attempts = plan.1.lock().unwrap();
            *attempts.entry(number(&message)).and_modify(|attempt| *attempt += 1).or_insert(1)
        };
        match how {
            _ if attempt > failures => Ok(effect(&message)),
            How::Refuses => Err(refused()),
            How::Panics => panic!("as planned"),
            How::Hangs => std::future::pending().await,
        }
    };
    let group = || {
        let group = world.group("g").lanes(lanes).timeout(20 * MS).retry(Retry { max_attempts: 2, ..RETRY });
        group.on_with("order.created", &plan, behave)
    };
    let operate = async || {
        let mut watch = world.shop.watch();
        loop {
            watch.borrow_and_update();
            let list = world.dead_letters().list(None, None, 100).await.unwrap();
            for letter in list.items.iter().filter(|letter| letter.state == DeadLetterState::Dead) {
                // The letter may be gone by now; a refused commit is tried again at the next change.
                let _ = world.dead_letters().replay(&letter.id).await;
            }
            let _ = tokio::time::timeout(50 * MS, watch.changed()).await;
        }
    };
    let over = async || {
        let status = world.group("g").status().await.unwrap();
        world.effect_count().await >= messages.len() && status.parked == 0
    };
    let life = async || {
        tokio::select! {
            () = world.life(&group, &over) => {}
            () = publish() => {}
            () = operate() => {}
        }
    };
    tokio::time::timeout(Duration::from_secs(3600), world.fates.live(life))
        .await
        .expect("the plan comes to an end");
    let mut found = BTreeMap::new();
    for key in expected(&messages).into_keys() {
        let effects = world.effects(&key).await;
        found.insert(key, effects);
    }
    found
}
