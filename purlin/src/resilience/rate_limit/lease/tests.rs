use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::super::gcra::Gcra;
use super::super::{RateLimit, RateLimitConfig};
use super::cell::{Cell, Shares};
use super::{Answer, Ask, Counter, Grant, Key, Memory, SharedLimits, SharedLimitsConfig};
use crate::message::new_id;
use crate::telemetry::Metrics;

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1000 * MILLI;

fn limit(per_second: f64, burst: u32) -> RateLimitConfig {
    RateLimitConfig { per_second, burst, max_keys: 100 }
}

/// Processes that each have their own clock, one counter, and one key; time is what the test says.
struct World {
    counter: Memory,
    start: Instant,
    shares: Shares,
    processes: Vec<Process>,
    /// How long an answer takes, and whether the counter counts at its end instead of at once.
    delay: u64,
    late: bool,
    now: u64,
    passed: Vec<u64>,
}

struct Process {
    id: Uuid,
    cell: Cell,
    /// What its clock says when the counter's says 0.
    offset: u64,
    ask: Option<(u64, Ask, Option<Grant>)>,
}

impl World {
    fn new(config: RateLimitConfig, processes: u32) -> Self {
        let process = |n| Process {
            id: new_id(),
            cell: Cell::default(),
            offset: u64::from(n) * 3600 * SECOND,
            ask: None,
        };
        Self {
            counter: Memory::new(),
            start: Instant::now(),
            shares: Shares::new(Gcra::new(config), processes, SECOND, 100 * MILLI),
            processes: (0..processes).map(process).collect(),
            delay: 0,
            late: false,
            now: 0,
            passed: Vec::new(),
        }
    }

    fn advance(&mut self, by: u64) {
        self.now += by;
        for process in 0..self.processes.len() {
            self.deliver(process);
        }
    }

    /// Gives a process the answer that is due, and asks again if there is more to say.
    fn deliver(&mut self, process: usize) {
        while let Some((asked, ask, grant)) = self.processes[process].ask.take() {
            let due = asked + self.delay;
            if due > self.now {
                self.processes[process].ask = Some((asked, ask, grant));
                return;
            }
            let grant = grant.unwrap_or_else(|| self.count(process, due, ask));
            let Process { cell, offset, .. } = &mut self.processes[process];
            if !cell.answered(&self.shares, grant, *offset + asked, *offset + due) {
                return;
            }
            self.ask(process, due);
        }
    }

    fn ask(&mut self, process: usize, at: u64) {
        let Process { cell, offset, .. } = &mut self.processes[process];
        let ask = cell.ask(&self.shares, Key::of("test", "key"), *offset + at);
        let grant = (!self.late).then(|| self.count(process, at, ask));
        self.processes[process].ask = Some((at, ask, grant));
    }

    fn count(&self, process: usize, at: u64, ask: Ask) -> Grant {
        let at = self.start + Duration::from_nanos(at);
        self.counter.lease_at(at, self.processes[process].id, &[ask]).grants[0]
    }

    fn request(&mut self, process: usize) -> Option<u32> {
        let Process { cell, offset, .. } = &mut self.processes[process];
        let taken = cell.take(&self.shares, *offset + self.now, true);
        if taken.ask {
            self.ask(process, self.now);
        }
        self.deliver(process);
        let quota = taken.answer.ok()?;
        self.passed.push(self.now);
        Some(quota.remaining)
    }

    /// No stretch of time has more than the stated bound.
    fn check(&self) -> Result<(), TestCaseError> {
        let Shares { whole, own, life, .. } = self.shares;
        let parts = u64::from(own.burst) * self.processes.len() as u64;
        for (i, from) in self.passed.iter().enumerate() {
            for (j, to) in self.passed.iter().enumerate().skip(i) {
                let bound = u64::from(whole.burst) + parts + (to - from + life + self.delay) / whole.interval;
                prop_assert!((j - i + 1) as u64 <= bound, "{} in {} ms", j - i + 1, (to - from) / MILLI);
            }
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn processes_let_no_more_through_together_than_they_say(
        per_second in prop::sample::select(vec![0.5, 3.0, 20.0, 100.0]),
        burst in 1_u32..40,
        processes in 1_u32..5,
        delay in 0_u64..50,
        late: bool,
        steps in prop::collection::vec((0_usize..5, 0_u64..60, 1_u32..12), 1..150),
    ) {
        let mut world = World::new(limit(per_second, burst), processes);
        (world.delay, world.late) = (delay * MILLI, late);
        for (process, gap, requests) in steps {
            world.advance(gap * MILLI);
            for _ in 0..requests {
                world.request(process % processes as usize);
            }
        }
        world.check()?;
    }
}

/// So many requests of `per_second`, each to a process that `choose` picks, over ten seconds.
fn ten_seconds(world: &mut World, per_second: u64, choose: impl Fn(u64) -> usize) -> usize {
    for n in 0..10 * per_second {
        world.advance(SECOND / per_second);
        world.request(choose(n));
    }
    world.passed.len()
}

#[test]
fn all_of_the_rate_is_given_wherever_the_requests_come() {
    for (name, choose) in [
        ("in turn", (|n| n as usize % 4) as fn(u64) -> usize),
        ("at one", |_| 0),
        ("a second each", |n| (n / 1000) as usize % 4),
    ] {
        let mut world = World::new(limit(100.0, 40), 4);
        world.delay = MILLI;
        let passed = ten_seconds(&mut world, 1000, choose);
        assert!((1000..=1000 + 2 * 40 + 4 + 100).contains(&passed), "{name}: {passed}");
    }
}

#[test]
fn who_asks_for_less_than_the_rate_is_never_refused() {
    for choose in [(|n| n as usize % 4) as fn(u64) -> usize, |_| 0] {
        let mut world = World::new(limit(100.0, 40), 4);
        world.delay = MILLI;
        let passed = ten_seconds(&mut world, 80, choose);
        assert_eq!(passed, 800);
    }
}

#[test]
fn requests_now_and_then_cost_what_they_cost() {
    let mut world = World::new(limit(1.0, 5), 2);
    for n in 0..20 {
        world.advance(2 * SECOND);
        assert_eq!(world.request(n % 2), Some(4), "no lease is fetched that nobody uses");
    }
}

#[test]
fn processes_that_want_the_same_get_about_the_same() {
    let mut world = World::new(limit(100.0, 10), 2);
    world.delay = MILLI;
    let mut passed = [0, 0];
    for _ in 0..10_000 {
        world.advance(MILLI);
        for (process, passed) in passed.iter_mut().enumerate() {
            *passed += i32::from(world.request(process).is_some());
        }
    }
    assert!(passed.iter().all(|one| (400..=700).contains(one)), "{passed:?}");
}

#[test]
fn a_small_rate_leases_one_and_a_large_one_for_a_while() {
    let small = Shares::new(Gcra::new(limit(1.0, 2)), 2, SECOND, 100 * MILLI);
    assert_eq!((small.most, small.own.burst), (1, 1));
    let large = Shares::new(Gcra::new(limit(1000.0, 100)), 2, SECOND, 100 * MILLI);
    assert_eq!(large.most, 100, "what 200 ms take, and no more than the burst");
    let slow = Shares::new(Gcra::new(limit(1.0 / 60.0, 5)), 2, SECOND, 100 * MILLI);
    assert_eq!(slow.life, 60 * SECOND);
}

#[test]
fn a_lease_that_is_over_is_not_spent() {
    let shares = Shares::new(Gcra::new(limit(1.0, 10)), 10, SECOND, 100 * MILLI);
    let mut cell = Cell::default();
    // The counter says that nothing is left but the three that it gives.
    let grant = Grant { granted: 3, full_in: Duration::from_secs(10) };
    assert!(cell.take(&shares, 1, true).ask);
    cell.ask(&shares, Key::of("test", "key"), 1);
    cell.answered(&shares, grant, 1, 2);
    assert!(cell.take(&shares, 3, true).answer.is_ok());
    assert!(cell.take(&shares, SECOND, true).answer.is_ok());
    assert!(cell.take(&shares, SECOND + 1, true).answer.is_err());
}

#[test]
fn what_is_given_back_can_be_taken_again() {
    let shares = Shares::new(Gcra::new(limit(1.0, 1)), 1, SECOND, 100 * MILLI);
    for told_first in [false, true] {
        let mut cell = Cell::default();
        for round in 1..4 {
            assert!(cell.take(&shares, round, true).answer.is_ok(), "{told_first} {round}");
            assert!(cell.take(&shares, round, true).answer.is_err());
            if told_first && round == 1 {
                assert_eq!(cell.ask(&shares, Key::of("test", "key"), round).spent, 1);
                cell.answered(&shares, Grant { granted: 0, full_in: Duration::from_secs(1) }, round, round);
            }
            cell.give_back(&shares, round);
        }
    }
}

#[test]
fn a_count_from_a_clock_that_was_put_back_is_soon_forgotten() {
    let (counter, start) = (Memory::new(), Instant::now());
    let ask =
        Ask { key: Key::of("test", "key"), interval: Duration::from_secs(1), burst: 3, spent: 0, wanted: 3 };
    let at = |seconds| start + Duration::from_secs(seconds);
    counter.lease_at(at(3600), new_id(), &[ask]);
    assert_eq!(counter.lease_at(at(0), new_id(), &[ask]).grants[0].granted, 0);
    assert_eq!(counter.lease_at(at(9), new_id(), &[Ask { wanted: 1, ..ask }]).grants[0].granted, 1);
}

/// A counter that is there, silent or broken as the test says.
#[derive(Clone)]
struct Moody {
    counter: Memory,
    mood: Arc<watch::Sender<Mood>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Good,
    Silent,
    Broken,
    Confused,
}

#[derive(Debug, thiserror::Error)]
#[error("it is broken")]
struct Broken;

impl Counter for Moody {
    type Error = Broken;

    async fn lease(&self, process: Uuid, asks: Vec<Ask>) -> Result<Answer, Broken> {
        let mood = *self.mood.borrow();
        match mood {
            Mood::Good => Ok(self.counter.lease_at(Instant::now(), process, &asks)),
            Mood::Silent => std::future::pending().await,
            Mood::Broken => Err(Broken),
            Mood::Confused => {
                Ok(Answer { processes: 1, grants: vec![Grant { granted: 1, full_in: Duration::ZERO }] })
            }
        }
    }
}

impl Moody {
    fn new() -> Self {
        Self { counter: Memory::new(), mood: Arc::new(watch::Sender::new(Mood::Good)) }
    }

    fn limits(&self, metrics: &Metrics) -> SharedLimits {
        SharedLimits::with(self.clone(), metrics, SharedLimitsConfig::default())
    }
}

/// Lets what can go on go on, and a little time pass.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn processes_count_together() {
    let (moody, metrics) = (Moody::new(), Metrics::new());
    let (one, other) = (moody.limits(&metrics), moody.limits(&Metrics::new()));
    let work = async {
        one.until_shared().await;
        other.until_shared().await;
        let limits = [&one, &other].map(|limits| RateLimit::shared("calls", limit(1.0, 4), limits));
        let mut passed = 0;
        for n in 0..20 {
            passed += i32::from(limits[n % 2].check("ann", Instant::now()).is_ok());
            settle().await;
        }
        // The last one does not know of the one that the other let through since it asked.
        assert!((4..=5).contains(&passed), "{passed}");
        let refused = limits[0].check("ann", Instant::now()).unwrap_err();
        assert!(refused.retry_after > Duration::from_millis(900), "{refused:?}");
        assert_eq!((refused.limit, limits[1].keys()), (4, 1));
        assert!(limits[1].check("bob", Instant::now()).is_ok());
        let text = metrics.render();
        assert!(text.contains("rate_limits_shared 1") && text.contains("rate_limits_processes 2"), "{text}");
    };
    tokio::select! {
        () = one.run() => {}
        () = other.run() => {}
        () = work => {}
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_counter_each_goes_on_with_its_part_says_so_and_comes_back() {
    for mood in [Mood::Silent, Mood::Broken, Mood::Confused] {
        let (moody, metrics) = (Moody::new(), Metrics::new());
        let (one, other) = (moody.limits(&metrics), moody.limits(&Metrics::new()));
        let work = async {
            other.until_shared().await;
            one.until_shared().await;
            // Both have heard that they are two.
            tokio::time::sleep(Duration::from_secs(2)).await;
            moody.mood.send_replace(mood);
            let limit = RateLimit::shared("calls", limit(1.0, 4), &one);
            assert!(limit.check("dan", Instant::now()).is_ok(), "what is asked now is not answered");
            one.until_alone().await;
            let status = one.status();
            assert_eq!((status.shared, status.processes, status.lost), (false, 2, 1));
            assert!(status.reason.is_some());
            assert!(metrics.render().contains("rate_limits_shared 0"));

            let passed = (0..20).filter(|_| limit.check("ann", Instant::now()).is_ok()).count();
            assert_eq!(passed, 2, "half of the burst");
            tokio::time::sleep(Duration::from_millis(2010)).await;
            assert!(limit.check("ann", Instant::now()).is_ok(), "half of the rate");
            assert!(limit.check("ann", Instant::now()).is_err());

            moody.mood.send_replace(Mood::Good);
            one.until_shared().await;
            assert_eq!((one.status().shared, one.status().lost), (true, 1));
            tokio::time::sleep(Duration::from_secs(10)).await;
            let mut passed = 0;
            for _ in 0..10 {
                passed += i32::from(limit.check("dan", Instant::now()).is_ok());
                settle().await;
            }
            assert_eq!(passed, 4, "all of the burst, not only the own part");
        };
        tokio::select! {
            () = one.run() => {}
            () = other.run() => {}
            () = work => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_holds_up_no_key_for_longer_than_the_deadline() {
    let moody = Moody::new();
    let limits = moody.limits(&Metrics::new());
    let work = async {
        limits.until_shared().await;
        let limit = RateLimit::shared("calls", limit(1000.0, 100), &limits);
        assert!(limit.check("ann", Instant::now()).is_ok());
        settle().await;
        moody.mood.send_replace(Mood::Silent);
        let start = Instant::now();
        for _ in 0..100 {
            assert!(limit.check("ann", Instant::now()).is_ok(), "after {:?}", start.elapsed());
            settle().await;
        }
        assert!(!limits.status().shared);
    };
    tokio::select! {
        () = limits.run() => {}
        () = work => {}
    }
}
