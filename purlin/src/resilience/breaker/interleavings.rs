//! Every order in which a few threads may do what they do to a breaker, and every value that a load may then see.
//!
//! loom runs each test once for each of them. `gate.rs` and `stripes.rs` are compiled once more for it, with its
//! atomics and its mutex; what is pure is the same code.

use std::time::Duration;

use loom::sync::Arc;
use loom::thread;

use super::machine::{Generation, Outcome, Phase};
use super::{BreakerConfig, BreakerState, Over, RateConfig, buckets, machine, word};
use crate::resilience::per_thread::Free;

#[allow(dead_code, clippy::duplicate_mod, reason = "compiled once more, for the model checker")]
#[path = "gate.rs"]
mod gate;
#[allow(dead_code, clippy::duplicate_mod, reason = "compiled once more, for the model checker")]
#[path = "stripes.rs"]
mod stripes;

mod sync {
    pub(super) use loom::sync::Mutex;
    pub(super) use loom::sync::atomic::{AtomicU64, Ordering};

    loom::thread_local! {
        static NUMBER: std::cell::Cell<Option<usize>> = std::cell::Cell::new(None);
    }

    /// A thread counts in the line that is shared, which is the harder case for a breaker, unless it has a number.
    pub(super) fn number() -> Option<usize> {
        NUMBER.with(std::cell::Cell::get)
    }

    /// Gives this thread a number.
    pub(super) fn be(number: usize) {
        NUMBER.with(|own| own.set(Some(number)));
    }
}

use gate::Gate;
use stripes::{Successes, Tally};

const GOOD: Outcome = Outcome::Success { slow: false };
const BAD: Outcome = Outcome::Failure { slow: false };
const LATER: Duration = Duration::from_secs(1000);

/// Opens at the second failure among three calls, closes after one success.
fn config() -> BreakerConfig {
    BreakerConfig { failure_threshold: 2, window: 3, success_threshold: 1, ..BreakerConfig::default() }
}

fn admit(gate: &Gate, now: Duration) -> Option<Generation> {
    gate.admit(now, &mut |_| {}).ok()
}

fn settle(gate: &Gate, generation: Generation, outcome: Outcome, now: Duration) {
    if outcome != GOOD || !gate.count_good(generation, now) {
        gate.settle(generation, outcome, now, &mut |_| {});
    }
}

fn call(gate: &Gate, outcome: Outcome) {
    if let Some(generation) = admit(gate, Duration::ZERO) {
        settle(gate, generation, outcome, Duration::ZERO);
    }
}

fn state(gate: &Gate) -> BreakerState {
    gate.look(|machine, _| machine.state())
}

fn failures(gate: &Gate) -> u32 {
    gate.look(|machine, good| match machine.phase() {
        Phase::Closed { window, .. } => window.failures(machine.config(), good, Duration::ZERO),
        _ => 0,
    })
}

/// Runs `works` at once in every order there is, on a gate that was prepared, and then looks at it.
fn in_every_order(
    config: BreakerConfig,
    prepare: fn(&Gate),
    works: &'static [fn(&Gate)],
    look: impl Fn(&Gate) + Sync + Send + 'static,
) {
    loom::model(move || {
        let gate = Arc::new(Gate::new(config.sane()));
        prepare(&gate);
        let threads: Vec<_> = works
            .iter()
            .map(|work| {
                let gate = Arc::clone(&gate);
                thread::spawn(move || work(&gate))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("no thread panics"));
        look(&gate);
    });
}

#[test]
fn failures_at_once_are_all_counted_whatever_succeeds_beside_them() {
    in_every_order(
        config(),
        |_| {},
        &[|gate| call(gate, BAD), |gate| call(gate, BAD)],
        |gate| {
            assert_eq!(state(gate), BreakerState::Open);
        },
    );
    let works: &[fn(&Gate)] = &[|gate| call(gate, BAD), |gate| call(gate, GOOD)];
    in_every_order(
        config(),
        |gate| call(gate, BAD),
        works,
        |gate| {
            assert_eq!(state(gate), BreakerState::Open);
        },
    );
}

#[test]
fn no_good_call_is_lost_and_none_is_counted_twice() {
    // Behind one failure two good ones just leave it in the window of three, and three push it out.
    let two: &[fn(&Gate)] = &[|gate| call(gate, GOOD), |gate| call(gate, GOOD)];
    in_every_order(
        config(),
        |gate| call(gate, BAD),
        two,
        |gate| {
            assert_eq!(failures(gate), 1);
            call(gate, GOOD);
            assert_eq!(failures(gate), 0);
            call(gate, BAD);
            assert_eq!(state(gate), BreakerState::Closed);
        },
    );
}

#[test]
fn a_good_call_that_meets_a_bad_one_counts_before_or_behind_it() {
    // In the window: the failure of the preparation, then a good and a bad call in either order, then a good one.
    let works: &[fn(&Gate)] = &[|gate| call(gate, GOOD), |gate| call(gate, BAD)];
    let wide = BreakerConfig { failure_threshold: 3, window: 4, ..config() };
    in_every_order(
        wide,
        |gate| call(gate, BAD),
        works,
        |gate| {
            assert_eq!(failures(gate), 2);
            call(gate, GOOD);
            assert_eq!(failures(gate), 2, "four calls");
            call(gate, GOOD);
            assert_eq!(failures(gate), 1, "five calls, the first of which has left");
        },
    );
}

#[test]
fn only_as_many_probe_as_may_whoever_asks_first() {
    loom::model(|| {
        let gate = Arc::new(Gate::new(config()));
        (0..2).for_each(|_| call(&gate, BAD));
        let asked = Arc::clone(&gate);
        let other = thread::spawn(move || admit(&asked, LATER).is_some());
        let this = admit(&gate, LATER).is_some();
        assert!(this ^ other.join().unwrap(), "one probes");
        assert_eq!(state(&gate), BreakerState::HalfOpen);
    });
}

#[test]
fn a_place_that_is_given_back_can_be_taken() {
    loom::model(|| {
        let gate = Arc::new(Gate::new(config()));
        (0..2).for_each(|_| call(&gate, BAD));
        let probe = admit(&gate, LATER).unwrap();
        let dropped = Arc::clone(&gate);
        let other = thread::spawn(move || settle(&dropped, probe, Outcome::Abandoned, LATER));
        let early = admit(&gate, LATER);
        other.join().unwrap();
        match early {
            Some(_) => assert!(admit(&gate, LATER).is_none(), "there is only one place"),
            None => assert!(admit(&gate, LATER).is_some(), "the place is lost"),
        }
    });
}

#[test]
fn a_probe_that_was_given_up_counts_once_beside_one_that_is_under_way() {
    let config = BreakerConfig { success_threshold: 2, ..config() };
    for (late, closes) in [(GOOD, true), (BAD, false)] {
        loom::model(move || {
            let gate = Arc::new(Gate::new(config));
            (0..2).for_each(|_| call(&gate, BAD));
            let probe = admit(&gate, LATER).unwrap();
            settle(&gate, probe, Outcome::Abandoned, LATER);
            let probes = [(); 2].map(|()| admit(&gate, LATER).expect("both places are free"));
            assert!(admit(&gate, LATER).is_none());
            let telling = Arc::clone(&gate);
            let other = thread::spawn(move || telling.settle_late(probe, late, LATER, &mut |_| {}));
            settle(&gate, probes[0], GOOD, LATER);
            other.join().unwrap();
            assert_eq!(state(&gate), if closes { BreakerState::Closed } else { BreakerState::Open });
        });
    }
}

#[test]
fn no_call_of_a_closed_breaker_is_taken_for_a_probe_while_another_is_counted() {
    loom::model(|| {
        let gate = Arc::new(Gate::new(config()));
        let failing = Arc::clone(&gate);
        let other = thread::spawn(move || call(&failing, BAD));
        let generation = admit(&gate, Duration::ZERO).unwrap();
        assert!(!gate.probes_in(generation) && gate.is_closed());
        other.join().unwrap();
    });
}

#[test]
fn a_probe_is_one_as_long_as_it_is_half_open_and_what_was_let_through_before_is_none() {
    loom::model(|| {
        let config = BreakerConfig { success_threshold: 2, ..config() };
        let gate = Arc::new(Gate::new(config));
        let before = admit(&gate, Duration::ZERO).unwrap();
        (0..2).for_each(|_| call(&gate, BAD));
        assert!(!gate.probes_in(before) && !gate.is_closed(), "it is open");
        let probe = admit(&gate, LATER).unwrap();
        let counting = Arc::clone(&gate);
        let other = thread::spawn(move || {
            let probe = admit(&counting, LATER).unwrap();
            settle(&counting, probe, GOOD, LATER);
        });
        assert!(gate.probes_in(probe) && !gate.probes_in(before) && !gate.is_closed());
        other.join().unwrap();
        settle(&gate, probe, GOOD, LATER);
        assert!(!gate.probes_in(probe) && gate.is_closed());
    });
}

#[test]
fn what_was_let_through_before_it_opened_neither_closes_nor_opens_it() {
    for stale in [GOOD, BAD, Outcome::Abandoned] {
        loom::model(move || {
            let gate = Arc::new(Gate::new(config()));
            let before = admit(&gate, Duration::ZERO).unwrap();
            (0..2).for_each(|_| call(&gate, BAD));
            let late = Arc::clone(&gate);
            let other = thread::spawn(move || settle(&late, before, stale, LATER));
            let probe = admit(&gate, LATER).expect("its time is over");
            other.join().unwrap();
            assert_eq!(state(&gate), BreakerState::HalfOpen, "{stale:?}");
            settle(&gate, probe, GOOD, LATER);
            assert_eq!(state(&gate), BreakerState::Closed, "{stale:?}");
        });
    }
}

#[test]
fn an_old_good_call_that_ends_while_it_closes_is_not_counted_in_the_new_window() {
    // A window of calls that must fill: each call counts.
    let rates = RateConfig { over: Over::Calls(4), minimum_calls: 2, failures: Some(0.9), slow: None };
    let config = BreakerConfig { success_threshold: 1, ..BreakerConfig::by_rate(rates) };
    loom::model(move || {
        let gate = Arc::new(Gate::new(config));
        let before = admit(&gate, Duration::ZERO).unwrap();
        (0..2).for_each(|_| call(&gate, BAD));
        let probe = admit(&gate, LATER).unwrap();
        let late = Arc::clone(&gate);
        let other = thread::spawn(move || settle(&late, before, GOOD, LATER));
        settle(&gate, probe, GOOD, LATER);
        other.join().unwrap();
        (0..2).for_each(|_| call(&gate, BAD));
        assert_eq!(state(&gate), BreakerState::Open, "two of two failed");
    });
}

#[test]
fn good_calls_of_a_window_of_time_are_all_counted() {
    let rates = RateConfig { over: Over::Time(LATER), minimum_calls: 3, failures: Some(0.3), slow: None };
    let works: &[fn(&Gate)] = &[|gate| call(gate, GOOD), |gate| call(gate, GOOD)];
    in_every_order(
        BreakerConfig::by_rate(rates),
        |_| {},
        works,
        |gate| {
            call(gate, BAD);
            assert_eq!(
                state(gate),
                BreakerState::Open,
                "one of three is more than 0.3, and three are enough"
            );
        },
    );
}

#[test]
fn an_operator_meets_whatever_is_under_way() {
    use super::{Forced, Operator, Reason};
    loom::model(|| {
        let gate = Arc::new(Gate::new(config()));
        call(&gate, BAD);
        let failing = Arc::clone(&gate);
        let other = thread::spawn(move || call(&failing, BAD));
        let reason = Reason::Operator(Operator::new("ann", "a test"));
        gate.change(&mut |_| {}, |machine| machine.force(Some(Forced::Closed), Duration::ZERO, reason));
        other.join().unwrap();
        assert_eq!(state(&gate), BreakerState::Closed);
        (0..3).for_each(|_| call(&gate, BAD));
        assert!(admit(&gate, Duration::ZERO).is_some());
    });
}

/// What threads count that have numbers of their own, and say so themselves.
struct Counted {
    successes: Successes,
    tally: Tally,
    numbers: sync::Mutex<Free>,
}

impl Counted {
    fn new() -> Self {
        Self { successes: Successes::new(LATER), tally: Tally::new(), numbers: sync::Mutex::new(Free::new()) }
    }

    /// What a thread does that lives for so many calls.
    fn live(&self, calls: u64) {
        let number = self.numbers.lock().unwrap().take();
        sync::be(number);
        for _ in 0..calls {
            self.successes.add(0, Duration::ZERO);
            self.tally.add();
        }
        self.numbers.lock().unwrap().give_back(number);
    }

    fn sums(&self) -> (u64, u64) {
        (self.successes.of(0, Duration::ZERO).counts(Duration::ZERO, None).calls, self.tally.sum())
    }
}

#[test]
fn what_threads_count_in_lines_of_their_own_is_all_there_also_of_those_that_ended() {
    loom::model(|| {
        let counted = Arc::new(Counted::new());
        let threads = [2, 1].map(|calls| {
            let counted = Arc::clone(&counted);
            // The second has the number of the first, or one of its own.
            thread::spawn(move || counted.live(calls))
        });
        let (seen, refused) = counted.sums();
        assert!(seen <= 3 && refused <= 3, "whoever looks meanwhile sees no more than there were");
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(counted.sums(), (3, 3));
    });
}
