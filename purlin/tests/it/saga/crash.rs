//! The process dies before and after each commit of a saga.

use purlin::message::Clock;
use purlin::saga::SagaState;
use purlin::store::Store;
use purlin::testing::saga::{Crash, survive};

use super::functions::on;
use super::world::{Effect, Plan, World};

/// Runs a saga once for each place to die at, each time in a new world; returns the worlds' number.
async fn die_everywhere(
    kind: &str,
    world: impl Fn() -> World,
    check: impl Fn(&World, &purlin::testing::saga::Survived),
) -> usize {
    for crashes in 0.. {
        let crash = Crash { commit: 1 + crashes / 2, applied: crashes % 2 == 1 };
        let world = world();
        let make = |store: &Store| on(store, &world, &Clock::system());
        let survived = survive(crash, make, kind, &()).await;
        check(&world, &survived);
        if survived.crash.is_none() {
            return crashes;
        }
    }
    unreachable!()
}

#[tokio::test(start_paused = true)]
async fn a_saga_completes_wherever_its_process_dies() {
    let crashes = die_everywhere("abc", World::default, |world, survived| {
        assert_eq!(
            (survived.view.state, &survived.view.reason),
            (SagaState::Completed, &None),
            "{survived:?}"
        );
        assert_eq!(survived.view.output, Some(3.into()));
        assert_eq!(world.effects().len(), 3);
        assert!(world.all(Effect::Applied), "{survived:?}");
        // Only the step whose outcome was not written is performed again.
        assert!(world.calls().len() <= 4, "{:?} {survived:?}", world.calls());
        if survived.crash.is_some_and(|crash| crash.applied) {
            assert_eq!(world.calls().len(), 3, "{survived:?}");
        }
    })
    .await;
    assert_eq!(crashes, 8, "the start, and one commit a step: the last holds the end too");
}

#[tokio::test(start_paused = true)]
async fn a_saga_that_fails_is_undone_wherever_its_process_dies() {
    for (failing, undone) in [("a", 0), ("b", 1), ("c", 2)] {
        let world = || World::default().with(failing, Plan::Refuses);
        let crashes = die_everywhere("abc", world, |world, survived| {
            assert_eq!(survived.view.state, SagaState::Failed, "{survived:?}");
            let error = survived.view.error.as_ref().unwrap();
            assert_eq!(error.step(), Some(failing));
            assert_eq!(error.cause().unwrap().code, "sold-out");
            assert!(!world.any(Effect::Applied), "{:?}", world.effects());
            let effects = world.effects();
            assert_eq!(effects.iter().filter(|(_, effect)| *effect == Effect::Undone).count(), undone);
            assert_eq!(effects.last(), Some(&(failing.to_owned(), Effect::Tombstone)));
        })
        .await;
        assert_eq!(crashes, 2 * (1 + undone + 1 + undone + 1), "{failing}");
    }
}

#[tokio::test(start_paused = true)]
async fn parallel_steps_complete_wherever_the_process_dies() {
    let crashes = die_everywhere("fork", World::default, |world, survived| {
        assert_eq!(
            (survived.view.state, &survived.view.reason),
            (SagaState::Completed, &None),
            "{survived:?}"
        );
        assert_eq!((world.effects().len(), survived.view.output.clone()), (4, Some((1 + 4 + 5 + 1).into())));
        assert!(world.all(Effect::Applied));
    })
    .await;
    assert!(crashes >= 8, "{crashes}");
}

#[tokio::test(start_paused = true)]
async fn parallel_steps_are_undone_wherever_the_process_dies() {
    for failing in ["left", "right", "z"] {
        let world = || {
            World::default()
                .with(failing, Plan::Refuses)
                .with("undo a", Plan::FailsTimes(2))
                .with("undo left", Plan::LosesAnswer)
        };
        die_everywhere("fork", world, |world, survived| {
            assert_eq!(
                (survived.view.state, &survived.view.reason),
                (SagaState::Failed, &None),
                "{survived:?}"
            );
            assert!(!world.any(Effect::Applied), "{failing}: {:?} {survived:?}", world.effects());
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_that_was_replaced_is_undone_wherever_the_process_dies() {
    let world = || World::default().with("a", Plan::Refuses).with("undo a", Plan::FailsTimes(1));
    die_everywhere("either", world, |world, survived| {
        assert_eq!(
            (survived.view.state, &survived.view.error),
            (SagaState::Completed, &None),
            "{survived:?}"
        );
        let expected = [("a".to_owned(), Effect::Tombstone), ("b".to_owned(), Effect::Applied)];
        assert_eq!(world.effects(), expected, "{survived:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn lost_answers_and_outages_are_survived_with_one_effect_each() {
    let world = || World::default().with("a", Plan::LosesAnswer).with("b", Plan::FailsTimes(20));
    die_everywhere("abc", world, |world, survived| {
        assert_eq!(survived.view.state, SagaState::Completed, "{survived:?}");
        assert_eq!(world.effects().len(), 3);
    })
    .await;
}
