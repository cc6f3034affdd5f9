//! An adaptive bulkhead before a simulated server, on a clock that only moves when everybody waits.
//!
//! The server does so many requests at once, each for a time that varies, and lets the others wait; three times as
//! many clients as it can bear ask again as soon as they have their answer.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};

use super::{AdaptiveConfig, Bulkhead, BulkheadConfig};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A server, and what can be told to it.
struct Server {
    slots: Semaphore,
    slots_now: Cell<usize>,
    service: Cell<Duration>,
    dice: Cell<u64>,
    served: Cell<u32>,
}

impl Server {
    fn new(slots: usize, service: Duration) -> Rc<Self> {
        let (slots_now, service) = (Cell::new(slots), Cell::new(service));
        let (slots, dice, served) = (Semaphore::new(slots), Cell::new(7), Cell::new(0));
        Rc::new(Self { slots, slots_now, service, dice, served })
    }

    /// A number from 0 to 1 (the generator is Knuth's MMIX).
    fn roll(&self) -> f64 {
        let next =
            self.dice.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.dice.set(next);
        (next >> 11) as f64 / (1_u64 << 53) as f64
    }

    async fn serve(&self) {
        let slot = self.slots.acquire().await.expect("the server never closes");
        sleep(self.service.get().mul_f64(0.5 + self.roll())).await;
        drop(slot);
        self.served.set(self.served.get() + 1);
    }

    async fn set_slots(&self, slots: usize) {
        let before = self.slots_now.replace(slots);
        self.slots.add_permits(slots.saturating_sub(before));
        let away = u32::try_from(before.saturating_sub(slots)).expect("few slots");
        self.slots.acquire_many(away).await.expect("the server never closes").forget();
    }

    /// Requests a second, over the next so many.
    async fn rate(&self, seconds: u32) -> u32 {
        let before = self.served.get();
        sleep(SECOND * seconds).await;
        (self.served.get() - before) / seconds
    }
}

/// A client of a server that answers one of a hundred requests that it has too much to do, at once.
async fn refused_now_and_then(server: Rc<Server>, bulkhead: Bulkhead) {
    loop {
        match bulkhead.enter().await {
            Ok(place) if server.roll() < 0.01 => place.overloaded(Instant::now()),
            Ok(place) => {
                server.serve().await;
                place.answered(Instant::now());
            }
            Err(_) => sleep(10 * MS).await,
        }
    }
}

async fn client(server: Rc<Server>, bulkhead: Bulkhead) {
    loop {
        match bulkhead.enter().await {
            Ok(place) => {
                server.serve().await;
                place.answered(Instant::now());
            }
            Err(_) => sleep(10 * MS).await,
        }
    }
}

fn config() -> BulkheadConfig {
    let adaptive = Some(AdaptiveConfig::default());
    BulkheadConfig { max_under_way: 500, max_waiting: 10, max_wait: SECOND, adaptive }
}

/// A bulkhead before the server, and three times as many clients as it has slots.
fn busy(clients: &LocalSet, server: &Rc<Server>) -> Bulkhead {
    let bulkhead = Bulkhead::new(config());
    for _ in 0..3 * server.slots_now.get() {
        clients.spawn_local(client(Rc::clone(server), bulkhead.clone()));
    }
    bulkhead
}

#[tokio::test(start_paused = true)]
async fn the_capacity_of_a_server_is_found_whatever_it_is() {
    for slots in [5, 10, 20, 40] {
        let clients = LocalSet::new();
        let server = Server::new(slots, 20 * MS);
        let bulkhead = busy(&clients, &server);
        clients
            .run_until(async {
                sleep(10 * SECOND).await;
                let rate = server.rate(5).await as usize;
                let limit = bulkhead.status().limit;
                assert!((slots..=slots * 5 / 2 + 4).contains(&limit), "{limit} places for {slots} slots");
                assert!(rate * 10 >= slots * 50 * 9, "{rate} a second of {}", slots * 50);
            })
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_few_answers_of_overload_leave_the_limit_near_the_capacity() {
    for slots in [40, 100] {
        let clients = LocalSet::new();
        let server = Server::new(slots, 20 * MS);
        let bulkhead = Bulkhead::new(config());
        for _ in 0..3 * slots {
            clients.spawn_local(refused_now_and_then(Rc::clone(&server), bulkhead.clone()));
        }
        clients
            .run_until(async {
                sleep(10 * SECOND).await;
                for _ in 0..20 {
                    sleep(SECOND).await;
                    let limit = bulkhead.status().limit;
                    assert!(limit * 2 >= slots, "{limit} places for {slots} slots");
                }
                let rate = server.rate(5).await as usize;
                assert!(rate * 10 >= slots * 50 * 9, "{rate} a second of {}", slots * 50);
            })
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_slows_down_gets_less_and_after_it_recovered_as_much_as_before() {
    let clients = LocalSet::new();
    let server = Server::new(20, 20 * MS);
    let bulkhead = busy(&clients, &server);
    clients
        .run_until(async {
            sleep(10 * SECOND).await;
            let healthy = bulkhead.status().limit;
            server.service.set(100 * MS);
            sleep(5 * SECOND).await;
            let slow = bulkhead.status().limit;
            assert!(slow * 2 <= healthy, "{slow} places of a slow server, {healthy} before");
            server.service.set(20 * MS);
            sleep(10 * SECOND).await;
            let again = bulkhead.status().limit;
            assert!(again * 10 >= healthy * 7, "{again} places again, {healthy} before");
            let rate = server.rate(5).await;
            assert!(rate >= 900, "{rate} a second of 1000");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_loses_most_of_its_slots_is_not_buried_and_gets_them_back() {
    let clients = LocalSet::new();
    let server = Server::new(40, 20 * MS);
    let bulkhead = busy(&clients, &server);
    clients
        .run_until(async {
            sleep(10 * SECOND).await;
            server.set_slots(5).await;
            sleep(10 * SECOND).await;
            let few = bulkhead.status().limit;
            assert!(few <= 17, "{few} places for 5 slots");
            // Under full load for long: the queue must not creep into the base.
            sleep(300 * SECOND).await;
            let later = bulkhead.status().limit;
            assert!(later <= 17, "{later} places for 5 slots after five minutes");
            server.set_slots(40).await;
            sleep(20 * SECOND).await;
            let many = bulkhead.status().limit;
            assert!(many >= 40, "{many} places for 40 slots");
        })
        .await;
}
