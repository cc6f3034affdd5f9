//! What a failing step does to its saga.

use std::convert::Infallible;
use std::time::Duration;

use purlin::message::{Clock, FaultKind};
use purlin::saga::{CompensationState, Saga, SagaError, SagaState, StepViewState};
use purlin::store::Store;
use tokio::time::Instant;

use super::crowd::pass_until_over;
use super::functions::{FEW, on};
use super::world::{Effect, LONG, Plan, Process, Time, World};

async fn process(world: &World) -> Process {
    Process::start(on(&Store::memory(), world, &Clock::system())).await
}

#[tokio::test(start_paused = true)]
async fn steps_are_undone_in_reverse_order_the_failed_one_first_and_without_its_answer() {
    let world = World::default().with("c", Plan::Refuses);
    let process = process(&world).await;
    let view = process.run("abc", &()).await;
    assert_eq!(view.state, SagaState::Failed);
    assert_eq!(world.calls(), ["a", "b", "c", "undo c unknown", "undo b known", "undo a known"]);
    let states: Vec<_> = view.steps.iter().map(|step| (step.name.as_str(), step.state)).collect();
    assert_eq!(
        states,
        [("a", StepViewState::Done), ("b", StepViewState::Done), ("c", StepViewState::Failed)]
    );
    assert!(view.steps.iter().all(|step| {
        step.compensation.as_ref().is_some_and(|undo| undo.state == CompensationState::Done)
            && step.started_at.is_some()
            && step.ended_at.is_some()
    }));
    assert_eq!(view.steps[2].error.as_ref().unwrap().message, "sold out");
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_transient_fault_is_tried_again_and_the_attempts_can_be_seen() {
    let world = World::default().with("b", Plan::FailsTimes(2));
    let process = process(&world).await;
    let view = process.run("abc", &()).await;
    assert_eq!((view.state, view.steps[1].attempts), (SagaState::Completed, 3));
    assert_eq!(world.calls(), ["a", "b", "b", "b", "c"]);
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn attempts_and_errors_of_a_step_that_goes_on_failing_can_be_seen_but_are_not_all_journalled() {
    let world = World::default().with("a", Plan::FailsTimes(u32::MAX));
    let process = process(&world).await;
    let id = process.begin("abc", &()).await;
    let view = process.until(id, |view| view.steps.first().is_some_and(|step| step.attempts >= 25)).await;
    assert_eq!(view.state, SagaState::Running);
    assert_eq!(view.steps[0].error.as_ref().unwrap().kind, FaultKind::Unavailable);
    let journal = purlin::store::StreamId::new("saga", id).unwrap();
    let entries = process.store.read_stream(&journal, 1, 1000).await.unwrap().len();
    assert_eq!(entries, 1 + 3 + 3, "the start, the first three attempts, and the 8th, 16th and 24th");
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_as_long_as_the_callee_said_also_one_of_an_undo_and_never_is_never() {
    const SECOND: Duration = Duration::from_secs(1);
    let (long, never) = (Plan::AsksToWait(40 * SECOND), Plan::AsksToWait(Duration::MAX));
    for (call, plan, state, at_least) in [
        ("b", long, SagaState::Completed, 40 * SECOND),
        ("undo a", long, SagaState::Failed, 40 * SECOND),
        ("b", never, SagaState::Failed, Duration::ZERO),
        // What is to be undone is to be undone: after the longest pause that there is.
        ("undo a", never, SagaState::Failed, 60 * SECOND),
    ] {
        let (time, world) = (Time::new(), World::default().with(call, plan));
        if call == "undo a" {
            world.plan("c", Plan::Refuses);
        }
        let process = Process::start(on(&Store::new(time.memory()), &world, &time.clock)).await;
        let id = process.begin("abc", &()).await;
        let took = pass_until_over(&time, &process, id, 200 * SECOND).await;
        assert!(took >= at_least && took < at_least + 10 * SECOND, "{call} {plan:?}: {took:?}");
        assert_eq!(process.show(id).await.state, state, "{call} {plan:?}");
        assert_eq!(world.all(Effect::Applied), state == SagaState::Completed, "{call} {plan:?}");
        assert!(state == SagaState::Completed || !world.any(Effect::Applied), "{call} {plan:?}");
        process.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_callee_that_is_away_or_back_is_not_run_over_by_a_crowd_and_nobody_of_it_is_lost() {
    const CROWD: usize = 400;
    let world = World::default().with("b", Plan::FailsTimes(u32::MAX));
    let (process, begun) = (process(&world).await, Instant::now());
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        crowd.push(process.begin("abc", &()).await);
    }
    for id in &crowd {
        process.until(*id, |view| view.steps.iter().any(|step| step.name == "b" && step.attempts > 0)).await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let retries = world.count("b") - CROWD;
    let most = 100.0 + 50.0 * begun.elapsed().as_secs_f64();
    assert!(retries > 0 && retries as f64 <= most, "{retries} retries, and {most} may be made");
    world.plan("b", Plan::Works);
    for id in crowd {
        assert_eq!(process.sagas.wait(id, LONG).await.unwrap().state, SagaState::Completed);
    }
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn used_up_attempts_and_silence_fail_a_step() {
    for (plan, kind) in [(Plan::FailsTimes(9), FaultKind::Unavailable), (Plan::Hangs, FaultKind::Timeout)] {
        let world = World::default().with("b", plan);
        let process = process(&world).await;
        let view = process.run("impatient", &()).await;
        let error = view.error.unwrap();
        assert_eq!((error.step(), error.cause().unwrap().kind), (Some("b"), kind));
        assert_eq!(world.count("b"), usize::try_from(FEW.max_attempts).unwrap());
        assert_eq!(world.count("undo b unknown"), 1);
        process.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_performed_twice_has_one_effect_and_its_undo_takes_it_back() {
    let world = World::default().with("a", Plan::LosesAnswer).with("b", Plan::Refuses);
    let process = process(&world).await;
    assert_eq!(process.run("abc", &()).await.state, SagaState::Failed);
    assert_eq!(world.calls(), ["a", "a", "b", "undo b unknown", "undo a known"]);
    assert_eq!(world.effects(), [("a".to_owned(), Effect::Undone), ("b".to_owned(), Effect::Tombstone)]);
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_step_fails_it_and_a_panic_in_its_undo_is_tried_again() {
    let world = World::default().with("b", Plan::Panics).with("undo a", Plan::Panics);
    let process = process(&world).await;
    let id = process.begin("abc", &()).await;
    let tried = |view: &purlin::saga::SagaView| {
        let undo = view.steps.first().and_then(|step| step.compensation.as_ref());
        undo.is_some_and(|undo| undo.attempts >= 2)
    };
    let view = process.until(id, tried).await;
    assert_eq!(view.error.unwrap().cause().unwrap().message, "panicked: as planned");
    world.plan("undo a", Plan::Works);
    assert_eq!(process.until_state(id, SagaState::Failed).await.state, SagaState::Failed);
    // The engine lives on.
    world.plan("b", Plan::Works);
    assert_eq!(process.run("abc", &()).await.state, SagaState::Completed);
    process.stop().await;
}

async fn panics(saga: Saga<World>, _: ()) -> Result<(), SagaError> {
    saga.step("a", async |at| at.act(at.key()).await)
        .compensate(async |at, output| at.undo(at.key(), output).await)
        .await?;
    panic!("in the function");
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_function_undoes_the_saga() {
    let world = World::default();
    let sagas = on(&Store::memory(), &world, &Clock::system()).register("panics", panics);
    let process = Process::start(sagas).await;
    let view = process.run("panics", &()).await;
    assert_eq!((view.state, world.count("undo a known")), (SagaState::Failed, 1));
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_step_is_undone_even_if_the_saga_goes_on_without_it() {
    let world = World::default().with("a", Plan::Refuses);
    let process = process(&world).await;
    let view = process.run("either", &()).await;
    assert_eq!((view.state, view.error, view.output), (SagaState::Completed, None, Some(1.into())));
    assert_eq!(world.calls(), ["a", "b", "undo a unknown"]);
    process.stop().await;
}

async fn race(saga: Saga<World>, _: ()) -> Result<u32, SagaError> {
    let step = |name: &'static str| {
        saga.step(name, async |at| at.act(at.key()).await)
            .compensate(async |at, output| at.undo(at.key(), output).await)
            .into_future()
    };
    tokio::select! {
        first = step("slow") => first,
        second = step("quick") => second,
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_that_the_function_dropped_is_abandoned_and_undone() {
    let world = World::default().with("slow", Plan::Hangs);
    let sagas = on(&Store::memory(), &world, &Clock::system()).register("race", race);
    let process = Process::start(sagas).await;
    let view = process.run("race", &()).await;
    assert_eq!((view.state, view.output), (SagaState::Completed, Some(5.into())));
    let slow = view.steps.iter().find(|step| step.name == "slow").unwrap();
    assert_eq!(slow.state, StepViewState::Abandoned);
    assert_eq!((world.count("undo slow unknown"), world.count("undo quick known")), (1, 0));
    process.stop().await;
}

async fn twice(saga: Saga<World>, _: ()) -> Result<(), SagaError> {
    saga.step("a", async |_| Ok::<_, Infallible>(())).await?;
    saga.step("a", async |_| Ok::<_, Infallible>(())).await
}

#[tokio::test(start_paused = true)]
async fn a_name_used_twice_is_an_error_that_says_so() {
    let sagas = on(&Store::memory(), &World::default(), &Clock::system()).register("twice", twice);
    let process = Process::start(sagas).await;
    let error = process.run("twice", &()).await.error.unwrap();
    assert!(error.cause().unwrap().message.contains("`a` is used by two steps"), "{error:?}");
    process.stop().await;
}

async fn refuses(saga: Saga<World>, _: ()) -> Result<(), SagaError> {
    saga.step("a", async |at| at.act(at.key()).await)
        .compensate(async |at, output| at.undo(at.key(), output).await)
        .timeout(Duration::from_secs(5))
        .await?;
    Err(SagaError::refuse("fraud", "the score is too high"))
}

#[tokio::test(start_paused = true)]
async fn the_functions_own_refusal_undoes_the_saga_and_keeps_its_code() {
    let world = World::default();
    let sagas = on(&Store::memory(), &world, &Clock::system()).register("refuses", refuses);
    let process = Process::start(sagas).await;
    let view = process.run("refuses", &()).await;
    assert_eq!(view.error.unwrap().cause().unwrap().code, "fraud");
    assert_eq!(world.calls(), ["a", "undo a known"]);
    process.stop().await;
}
