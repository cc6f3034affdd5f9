//! When a step, or its undoing, that failed is tried again.
//!
//! A saga is patient: nothing else retries for it, and no retry of it is ever dropped. So that a callee which comes
//! back is not run over by all the sagas that waited for it:
//!
//! - all of a pause is left to chance, and it is waited at least as long as the callee said ([`Retry::pause`]);
//! - the retries at one step of one kind of saga have a budget ([`TERMS`]) in each process: so many a second, and two
//!   for each attempt that succeeded. A retry that finds none left waits a further, longer pause and asks again
//!   ([`turn`]). A callee that is away is so asked seldom, and one that is back is asked the more often the more it
//!   answers. The first attempt of a saga, and what an operator wants tried now, need no budget.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;

use crate::resilience::{Retry, RetryBudget, RetryBudgetConfig};

/// 50 retries a second and two for each success, of which up to 100 are saved up.
const TERMS: RetryBudgetConfig = RetryBudgetConfig { ratio: 2.0, per_second: 50.0, saved: 100.0 };

/// Of so many steps each has a budget of its own, and all further ones of a kind have one together.
const MOST_STEPS: usize = 1000;

/// Whether a retry whose pause is over is made now, or (then it is not lost) after which further pause it asks again;
/// `asked` is how often it has asked before.
pub(super) fn turn(
    budget: &RetryBudget,
    retry: &Retry,
    (failed, asked): (u32, u32),
    now: Instant,
    dice: f64,
) -> Result<(), Duration> {
    if budget.spend(now) {
        return Ok(());
    }
    Err(retry.delay(failed.saturating_add(asked), dice).max(SHORTEST))
}

/// Chance may say that a pause is nothing; who found no budget waits.
const SHORTEST: Duration = Duration::from_millis(10);

/// The budgets of the steps of one kind of saga.
#[derive(Debug, Default)]
pub(super) struct Paces {
    steps: RwLock<HashMap<Box<str>, Arc<RetryBudget>>>,
    /// Whether anything failed yet: until then a success has nobody to tell.
    any: AtomicBool,
}

impl Paces {
    /// The budget of a step; steps that differ in a number at the end, as those of a loop do, have one.
    pub(super) fn of(&self, step: &str) -> Arc<RetryBudget> {
        let step = without_index(step);
        if let Some(budget) = self.find(step) {
            return budget;
        }
        let mut steps = self.steps.write().unwrap_or_else(PoisonError::into_inner);
        let step = if steps.len() < MOST_STEPS || steps.contains_key(step) { step } else { "" };
        let new = || Arc::new(RetryBudget::new(TERMS, Instant::now()));
        self.any.store(true, Ordering::Relaxed);
        Arc::clone(steps.entry(step.into()).or_insert_with(new))
    }

    /// An attempt at a step succeeded. One without a budget of its own has it from the common one, if there is that.
    pub(super) fn succeeded(&self, step: &str) {
        if self.any.load(Ordering::Relaxed)
            && let Some(budget) = self.find(without_index(step)).or_else(|| self.find(""))
        {
            budget.earn();
        }
    }

    fn find(&self, step: &str) -> Option<Arc<RetryBudget>> {
        self.steps.read().unwrap_or_else(PoisonError::into_inner).get(step).cloned()
    }
}

fn without_index(step: &str) -> &str {
    let name = step.trim_end_matches(|c: char| c.is_ascii_digit() || " #-/:.".contains(c));
    if name.is_empty() { step } else { name }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::AtomicU32;

    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};
    use tokio::task::JoinSet;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::message::{Clock, new_id};
    use crate::saga::step::STEP_RETRY;
    use crate::saga::{Saga, SagaError, Sagas};
    use crate::store::{Commit, Revision, Row, Store};

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_callee_that_says_never_is_not_asked_again() {
        assert_eq!(STEP_RETRY.pause(1, Some(Duration::MAX), 0.5), None);
    }

    #[test]
    fn steps_of_a_loop_have_one_budget_and_others_their_own() {
        let paces = Paces::default();
        assert!(Arc::ptr_eq(&paces.of("pay 1"), &paces.of("pay 22")));
        assert!(!Arc::ptr_eq(&paces.of("pay"), &paces.of("ship")));
        assert!(!Arc::ptr_eq(&paces.of("1"), &paces.of("2")), "a name of nothing but an index is a name");
        for step in 0..2 * MOST_STEPS {
            paces.of(&format!("{step}x"));
        }
        assert!(paces.steps.read().unwrap().len() <= MOST_STEPS + 1);
        let (common, now) = (paces.of("one more"), Instant::now());
        while common.spend(now) {}
        paces.succeeded("another");
        assert!(common.spend(now), "those that share a budget earn for it");
    }

    /// A transacted step whose commit loses two races before it wins.
    #[tokio::test(start_paused = true)]
    async fn a_transacted_step_earns_once_and_when_it_is_committed() {
        #[derive(Serialize, Deserialize)]
        struct Nothing {}

        impl Row for Nothing {
            const COLLECTION: &'static str = "nothing";
        }

        async fn races(saga: Saga<AtomicU32>, (): ()) -> Result<u32, SagaError> {
            let step = saga.transact("races", async |at| {
                let loses = at.fetch_add(1, Ordering::Relaxed) < 2;
                let expected = if loses { Revision::Exact(9) } else { Revision::Absent };
                Ok::<_, Infallible>((7, Commit::new().require::<Nothing>("a", expected)))
            });
            step.await
        }

        let store = Store::memory();
        store.define::<Nothing>().await.unwrap();
        let sagas = Sagas::new(&store, AtomicU32::new(0), Clock::system()).register("races", races);
        sagas.prepare().await.unwrap();
        let (budget, now) = (sagas.kinds["races"].paces.of("races"), Instant::now());
        while budget.spend(now) {}
        let (shutdown, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let run = sagas.clone().run(shutdown.clone());
        tasks.spawn(async move { run.await.unwrap() });
        let id = new_id();
        store.commit(sagas.start("races", id, &()).unwrap()).await.unwrap();
        sagas.kick(id);
        let view = sagas.wait(id, Duration::from_secs(60)).await.unwrap();
        assert_eq!((view.output, view.steps[0].attempts), (Some(7.into()), 3));
        assert_eq!(budget.left(), TERMS.ratio, "of three attempts one succeeded");
        shutdown.cancel();
        tasks.join_all().await;
    }

    #[test]
    fn all_of_a_pause_is_left_to_chance() {
        for attempt in [1, 5, 20] {
            assert_eq!(STEP_RETRY.pause(attempt, None, 1.0), Some(Duration::ZERO));
            assert!(STEP_RETRY.pause(attempt, None, 0.0).unwrap() >= STEP_RETRY.first_delay);
        }
    }

    proptest! {
        #[test]
        fn a_pause_is_at_least_what_the_callee_said_and_at_most_the_longest_more(
            attempt: u32, told in 0_u64..1_000_000, dice in 0.0..=1.0_f64,
        ) {
            let told = MS * u32::try_from(told).unwrap();
            let pause = STEP_RETRY.pause(attempt, Some(told), dice).unwrap();
            prop_assert!(pause >= told && pause <= told + STEP_RETRY.max_delay);
        }

        #[test]
        fn a_retry_without_budget_waits_and_one_with_it_goes(
            failed in 1_u32..100, asked: u32, saved in 0_u32..3, dice in 0.0..=1.0_f64,
        ) {
            let now = Instant::now();
            let terms = RetryBudgetConfig { ratio: 0.0, per_second: 0.0, saved: f64::from(saved) };
            let budget = RetryBudget::new(terms, now);
            for _ in 0..saved {
                prop_assert!(turn(&budget, &STEP_RETRY, (failed, asked), now, dice).is_ok());
            }
            let further = turn(&budget, &STEP_RETRY, (failed, asked), now, dice).unwrap_err();
            prop_assert!(further >= SHORTEST && further <= STEP_RETRY.max_delay);
        }

    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// All fail together, the callee is away for a while, and comes back with so much that it can do a second.
        #[test]
        fn a_crowd_that_waited_comes_back_no_faster_than_it_is_answered_and_nobody_is_lost(
            crowd in 1_usize..3000, away in 0_u64..60_000, able in 20_usize..500, seed: u64,
        ) {
            let met = simulate(crowd, away, able, seed);
            for (second, (asked, done)) in met.iter().enumerate() {
                // What was saved, what the second earned, and two for each that was answered.
                let most = 100 + 51 + 2 * done;
                prop_assert!(*asked <= most, "{asked} in second {second}, {done} answered");
            }
            prop_assert_eq!(met.iter().map(|(_, done)| done).sum::<usize>(), crowd);
        }
    }

    /// The retries asked and answered in each second until all are answered.
    fn simulate(crowd: usize, away: u64, able: usize, seed: u64) -> Vec<(usize, usize)> {
        let start = Instant::now();
        let budget = RetryBudget::new(TERMS, start);
        let mut state = seed | 1;
        let mut dice = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f64 / (1_u64 << 24) as f64
        };
        let ms = |pause: Duration| u64::try_from(pause.as_millis()).unwrap();
        let mut due = std::collections::BinaryHeap::new();
        for saga in 0..crowd {
            let pause = ms(STEP_RETRY.pause(1, None, dice()).unwrap());
            due.push(std::cmp::Reverse((pause, saga, 1_u32, 0_u32)));
        }
        let mut met: Vec<(usize, usize)> = Vec::new();
        while let Some(std::cmp::Reverse((at, saga, failed, asked))) = due.pop() {
            assert!(at < 3_600_000, "a saga waits for ever");
            let second = usize::try_from(at / 1000).unwrap();
            met.resize(met.len().max(second + 1), (0, 0));
            let now = start + MS * u32::try_from(at).unwrap();
            let again = match turn(&budget, &STEP_RETRY, (failed, asked), now, dice()) {
                Err(further) => (at + ms(further), saga, failed, asked + 1),
                Ok(()) => {
                    met[second].0 += 1;
                    if at >= away && met[second].1 < able {
                        met[second].1 += 1;
                        budget.earn();
                        continue;
                    }
                    (at + ms(STEP_RETRY.pause(failed + 1, None, dice()).unwrap()), saga, failed + 1, 0)
                }
            };
            due.push(std::cmp::Reverse(again));
        }
        met
    }
}
