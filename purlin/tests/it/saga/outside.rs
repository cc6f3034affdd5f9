//! What comes from outside: cancellation, signals, time.

use std::time::Duration;

use purlin::message::Clock;
use purlin::saga::{Function, Saga, SagaError, SagaState, StepViewState};
use purlin::store::{Query, Store};
use purlin::testing::saga::{Crash, survive};

use super::functions::on;
use super::world::{Effect, Plan, Process, Time, World};

async fn requests(store: &Store) -> usize {
    store.list_records("saga_signals", Query::all()).await.unwrap().records.len()
}

#[tokio::test(start_paused = true)]
async fn a_saga_can_be_cancelled_at_every_step_and_what_is_under_way_counts_as_unknown() {
    for (hanging, undone) in [
        ("a", vec!["undo a unknown"]),
        ("b", vec!["undo b unknown", "undo a known"]),
        ("c", vec!["undo c unknown", "undo b known", "undo a known"]),
    ] {
        let world = World::default().with(hanging, Plan::Hangs);
        let process = Process::start(on(&Store::memory(), &world, &Clock::system())).await;
        let id = process.begin("abc", &()).await;
        while world.count(hanging) == 0 {
            tokio::task::yield_now().await;
        }
        process.store.commit(process.sagas.cancel(id, "changed my mind")).await.unwrap();
        process.sagas.kick(id);
        let view = process.until_state(id, SagaState::Failed).await;
        assert_eq!(view.error, Some(SagaError::Cancelled { reason: "changed my mind".into() }));
        let calls = world.calls();
        assert_eq!(calls[calls.len() - undone.len()..], undone);
        assert!(!world.any(Effect::Applied));
        assert_eq!(requests(&process.store).await, 0);
        process.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_that_nobody_was_told_of_is_found() {
    let world = World::default().with("b", Plan::FailsTimes(u32::MAX));
    let process = Process::start(on(&Store::memory(), &world, &Clock::system())).await;
    let id = process.begin("abc", &()).await;
    process.store.commit(process.sagas.directory().cancel(id, "from another process")).await.unwrap();
    process.until_state(id, SagaState::Failed).await;
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_is_too_late_for_a_saga_that_compensates_or_is_over() {
    let world = World::default().with("b", Plan::Refuses).with("undo a", Plan::FailsTimes(3));
    let process = Process::start(on(&Store::memory(), &world, &Clock::system())).await;
    let id = process.begin("abc", &()).await;
    while world.count("undo a known") == 0 {
        tokio::task::yield_now().await;
    }
    process.store.commit(process.sagas.cancel(id, "too late")).await.unwrap();
    process.sagas.kick(id);
    let view = process.until_state(id, SagaState::Failed).await;
    assert_eq!(view.error.unwrap().step(), Some("b"));

    process.store.commit(process.sagas.cancel(id, "far too late")).await.unwrap();
    process.sagas.kick(id);
    while requests(&process.store).await > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(process.show(id).await.state, SagaState::Failed);
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_committed_with_the_start_is_not_lost_wherever_the_process_dies() {
    for crashes in 0..6 {
        let crash = Crash { commit: 1 + crashes / 2, applied: crashes % 2 == 1 };
        let world = World::default().with("b", Plan::FailsTimes(u32::MAX));
        let make = |store: &Store| on(store, &world, &Clock::system()).register("cancelled", cancelled);
        let survived = survive(crash, make, "cancelled", &()).await;
        assert_eq!(survived.view.state, SagaState::Failed, "{survived:?}");
        assert!(!world.any(Effect::Applied));
    }
}

/// Asks for its own end, as somebody outside might at this very moment.
async fn cancelled(saga: Saga<World>, _: ()) -> Result<(), SagaError> {
    saga.step("a", async |at| at.act(at.key()).await)
        .compensate(async |at, output| at.undo(at.key(), output).await)
        .await?;
    saga.sleep(Duration::from_secs(5)).await?;
    Err(SagaError::refuse("slept", "long enough"))
}

async fn asks(saga: Saga<World>, patience: u64) -> Result<Option<String>, SagaError> {
    saga.step("a", async |at| at.act(at.key()).await)
        .compensate(async |at, output| at.undo(at.key(), output).await)
        .await?;
    let answer = saga.signal::<String>("answer").within(Duration::from_secs(patience)).await?;
    saga.step("b", async |at| at.act(at.key()).await).await?;
    Ok(answer)
}

#[tokio::test(start_paused = true)]
async fn a_signal_is_received_whether_it_comes_before_or_after_the_saga_waits() {
    let world = World::default();
    let sagas = on(&Store::memory(), &world, &Clock::system()).register("asks", asks);
    let process = Process::start(sagas).await;
    for early in [true, false] {
        let id = purlin::message::new_id();
        let start = process.sagas.start("asks", id, &20).unwrap();
        let signal = process.sagas.signal(id, "answer", &"yes").unwrap();
        if early {
            process.store.commit(start.and(signal)).await.unwrap();
        } else {
            process.store.commit(start).await.unwrap();
            process.sagas.kick(id);
            process.until(id, |view| view.steps.len() == 2).await;
            process.store.commit(signal).await.unwrap();
        }
        process.sagas.kick(id);
        let view = process.until_state(id, SagaState::Completed).await;
        assert_eq!(view.output, Some("yes".into()));
        assert_eq!(requests(&process.store).await, 0);
    }
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_signal_that_does_not_come_is_none() {
    let world = World::default();
    let sagas = on(&Store::memory(), &world, &Clock::system()).register("asks", asks);
    let process = Process::start(sagas).await;
    let view = process.run("asks", &20).await;
    assert_eq!((view.state, view.output), (SagaState::Completed, Some(serde_json::Value::Null)));
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_long_wait_leaves_memory_and_is_woken_by_a_signal_or_by_time() {
    for signalled in [true, false] {
        let (time, world) = (Time::new(), World::default());
        let sagas = on(&Store::new(time.memory()), &world, &time.clock).register("asks", asks);
        let process = Process::start(sagas).await;
        let id = process.begin("asks", &7200).await;
        let waits = |view: &purlin::saga::SagaView| view.steps.len() == 2;
        process.until(id, waits).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let due = process.store.get_record("sagas", &id.to_string()).await.unwrap().unwrap().due.unwrap();
        assert!(
            due > time.clock.now() + Duration::from_secs(7000),
            "it wants to run only when the wait ends"
        );

        // Another process finds it.
        let store = process.store.clone();
        process.stop().await;
        let process = Process::start(on(&store, &world, &time.clock).register("asks", asks)).await;
        if signalled {
            let signal = process.sagas.signal(id, "answer", &"late").unwrap();
            store.commit(signal).await.unwrap();
        } else {
            time.pass(Duration::from_secs(7201)).await;
        }
        let view = process.until_state(id, SagaState::Completed).await;
        assert_eq!(view.output, Some(if signalled { "late".into() } else { serde_json::Value::Null }));
        assert_eq!((world.count("a"), world.count("b")), (1, 1));
        process.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_saga_that_slept_is_found_at_once_if_the_process_dies_after_it_woke() {
    let (time, world) = (Time::new(), World::default().with("b", Plan::Hangs));
    let store = Store::new(time.memory());
    let process = Process::start(on(&store, &world, &time.clock).register("asks", asks)).await;
    let id = process.begin("asks", &7200).await;
    process.until(id, |view| view.steps.len() == 2).await;
    store.commit(process.sagas.signal(id, "answer", &"yes").unwrap()).await.unwrap();
    while world.count("b") == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    process.stop().await;
    world.plan("b", Plan::Works);
    let process = Process::start(on(&store, &world, &time.clock).register("asks", asks)).await;
    process.until_state(id, SagaState::Completed).await;
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_deadline_undoes_a_saga_and_the_step_under_way_counts_as_unknown() {
    let (time, world) = (Time::new(), World::default().with("b", Plan::Hangs));
    let process = Process::start(on(&Store::new(time.memory()), &world, &time.clock)).await;
    let id = process.begin("hasty", &()).await;
    while world.count("b") == 0 {
        tokio::task::yield_now().await;
    }
    time.pass(Duration::from_secs(59)).await;
    assert_eq!(process.show(id).await.state, SagaState::Running);
    time.pass(Duration::from_secs(2)).await;
    let view = process.until_state(id, SagaState::Failed).await;
    assert_eq!(view.error, Some(SagaError::Deadline));
    assert_eq!(view.steps[1].state, StepViewState::Abandoned);
    let calls = world.calls();
    assert_eq!(calls[calls.len() - 2..], ["undo b unknown", "undo a known"]);
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passed_while_no_process_ran_is_kept() {
    let (time, world) = (Time::new(), World::default().with("b", Plan::Hangs));
    let store = Store::new(time.memory());
    let process = Process::start(on(&store, &world, &time.clock)).await;
    let id = process.begin("hasty", &()).await;
    while world.count("b") == 0 {
        tokio::task::yield_now().await;
    }
    process.stop().await;
    time.pass(Duration::from_secs(3600)).await;
    let process = Process::start(on(&store, &world, &time.clock)).await;
    let view = process.until_state(id, SagaState::Failed).await;
    assert_eq!(
        (view.error, world.count("b")),
        (Some(SagaError::Deadline), 1),
        "no step starts after the deadline"
    );
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn sleeps_in_a_row_each_take_their_time() {
    async fn naps(saga: Saga<World>, _: ()) -> Result<(), SagaError> {
        for _ in 0..3 {
            saga.sleep(Duration::from_secs(10)).await?;
        }
        Ok(())
    }
    let sagas =
        on(&Store::memory(), &World::default(), &Clock::system()).register("naps", Function::new(naps));
    let process = Process::start(sagas).await;
    let start = tokio::time::Instant::now();
    let view = process.run("naps", &()).await;
    assert_eq!((view.state, view.steps.len()), (SagaState::Completed, 3));
    assert!(start.elapsed() >= Duration::from_secs(29), "{:?}", start.elapsed());
    process.stop().await;
}
