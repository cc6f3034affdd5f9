//! Compensations that fail.

use std::time::Duration;

use purlin::message::Clock;
use purlin::saga::{CompensationState, ListSagas, RequestError, SagaState};
use purlin::store::Store;

use super::functions::on;
use super::world::{Effect, Plan, Process, Time, World};

#[tokio::test(start_paused = true)]
async fn a_compensation_is_tried_until_it_succeeds_and_the_earlier_ones_wait_for_it() {
    let world = World::default().with("c", Plan::Refuses).with("undo b", Plan::FailsTimes(30));
    let process = Process::start(on(&Store::memory(), &world, &Clock::system())).await;
    let view = process.run("abc", &()).await;
    assert_eq!(view.state, SagaState::Failed);
    assert_eq!((world.count("undo b known"), world.count("undo a known")), (31, 1));
    assert_eq!(world.calls().last().unwrap(), "undo a known");
    assert_eq!(view.steps[1].compensation.as_ref().unwrap().attempts, 31);
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_saga_whose_compensation_gives_up_is_stuck_and_listed_until_an_operator_acts() {
    let world = World::default().with("c", Plan::Refuses).with("undo b", Plan::Refuses);
    let process = Process::start(on(&Store::memory(), &world, &Clock::system())).await;
    let id = process.begin("impatient", &()).await;
    let view = process.until_state(id, SagaState::Stuck).await;
    assert!(view.reason.unwrap().contains("step `b` could not be undone in 3 attempts: sold out"));
    assert_eq!(view.steps[1].compensation.as_ref().unwrap().state, CompensationState::Stuck);
    assert_eq!((world.count("undo b known"), world.count("undo a known")), (3, 0));
    let stuck = ListSagas { state: Some(SagaState::Stuck), ..ListSagas::default() };
    let listed = process.sagas.list(stuck.clone()).await.unwrap();
    assert_eq!(listed.items.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [id]);

    // Nothing happens by itself, not even in another process.
    tokio::time::sleep(Duration::from_secs(600)).await;
    let store = process.store.clone();
    process.stop().await;
    let process = Process::start(on(&store, &world, &Clock::system())).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(world.count("undo b known"), 3);

    world.plan("undo b", Plan::FailsTimes(1));
    process.sagas.retry(id).await.unwrap();
    let view = process.until_state(id, SagaState::Failed).await;
    assert_eq!((view.reason, world.count("undo a known")), (None, 1));
    assert!(!world.any(Effect::Applied));
    assert!(process.sagas.list(stuck).await.unwrap().items.is_empty());
    assert!(matches!(process.sagas.retry(id).await, Err(RequestError::Over(over)) if over == id));
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stuck_saga_that_is_told_to_go_on_in_vain_is_stuck_again() {
    let world = World::default().with("b", Plan::Refuses).with("undo a", Plan::Refuses);
    let process = Process::start(on(&Store::memory(), &world, &Clock::system())).await;
    let id = process.begin("impatient", &()).await;
    process.until_state(id, SagaState::Stuck).await;
    process.sagas.retry(id).await.unwrap();
    while world.count("undo a known") < 6 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    process.until_state(id, SagaState::Stuck).await;
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_operators_retry_does_not_wait_for_the_pause_to_end() {
    let world = World::default().with("b", Plan::Refuses).with("undo a", Plan::FailsTimes(u32::MAX));
    let time = Time::new();
    let process = Process::start(on(&Store::new(time.memory()), &world, &time.clock)).await;
    let id = process.begin("abc", &()).await;
    let far = |view: &purlin::saga::SagaView| {
        view.steps.first().and_then(|step| step.compensation.as_ref()).is_some_and(|undo| undo.attempts >= 12)
    };
    // Pauses are as long as a minute by now: the saga has left memory, and the clock that would wake it stands.
    process.until(id, far).await;
    world.plan("undo a", Plan::Works);
    process.sagas.retry(id).await.unwrap();
    process.until_state(id, SagaState::Failed).await;
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_saga_past_its_deadline_in_compensation_is_listed_as_stuck_and_still_tried() {
    let time = Time::new();
    let world = World::default().with("b", Plan::Hangs).with("undo a", Plan::FailsTimes(u32::MAX));
    let process = Process::start(on(&Store::new(time.memory()), &world, &time.clock)).await;
    let id = process.begin("hasty", &()).await;
    while world.count("b") == 0 {
        tokio::task::yield_now().await;
    }
    time.pass(Duration::from_secs(61)).await;
    let view = process.until_state(id, SagaState::Stuck).await;
    assert!(view.reason.unwrap().starts_with("the deadline is past, and step `a` is not undone yet"));
    world.plan("undo a", Plan::Works);
    let over = async {
        loop {
            time.pass(Duration::from_secs(60)).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            if process.show(id).await.state == SagaState::Failed {
                return process.show(id).await;
            }
        }
    };
    let view = tokio::time::timeout(super::world::LONG, over).await.unwrap();
    assert_eq!((view.reason, view.error), (None, Some(purlin::saga::SagaError::Deadline)));
    process.stop().await;
}
