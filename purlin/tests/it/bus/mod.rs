//! The bus, on whatever engine keeps its stores: relay, groups, parking, and what an operator can do.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

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

mod groups;
mod handling;
mod parking;
mod plans;
mod relay;

use std::sync::Arc;
use std::time::Duration;

use purlin::bus::{Bus, DeadLetters, Failure, Group, Message};
use purlin::message::{Clock, Envelope, FaultKind, ManualClock, Timestamp};
use purlin::resilience::Retry;
use purlin::store::memory::Memory;
use purlin::store::{BoxFuture, Commit, Engine, Expected, Position, Recorded, Store, StreamId};
use tokio_util::sync::CancellationToken;

use crate::faulty::{Fate, Fates};

const MS: Duration = Duration::from_millis(1);
const RETRY: Retry = Retry {
    max_attempts: 3,
    first_delay: Duration::from_millis(10),
    max_delay: Duration::from_millis(40),
    jitter: 0.5,
};

const FATES: [Fate; 5] = [Fate::Refused, Fate::DeadBefore, Fate::DeadBehind, Fate::Late, Fate::LateRead];

/// Opens a new engine.
type Open = fn() -> BoxFuture<'static, Arc<dyn Engine>>;

fn memory() -> BoxFuture<'static, Arc<dyn Engine>> {
    Box::pin(async { Arc::new(Memory::new()) as Arc<dyn Engine> })
}

/// An engine that gives short pages long before the end of the log.
fn short_pages() -> BoxFuture<'static, Arc<dyn Engine>> {
    Box::pin(async { Arc::new(Memory::new().short_pages(3)) as Arc<dyn Engine> })
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
