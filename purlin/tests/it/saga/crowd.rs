//! More sagas than memory has room for, and what is in the way of them.

use std::sync::Arc;
use std::time::Duration;

use purlin::message::{Clock, Uuid, new_id};
use purlin::resilience::Retry;
use purlin::saga::{End, Function, Saga, SagaError, SagaState, Sagas, StepViewState};
use purlin::store::{Commit, Query, Store};

use super::functions::{abc, on};
use super::world::{LONG, Plan, Process, Time, World};

const SECOND: Duration = Duration::from_secs(1);

/// A saga whose only callee may be away.
async fn lonely(saga: Saga<World>, _: ()) -> Result<u32, SagaError> {
    saga.step("away", async |at| at.act(at.key()).await).await
}

/// Lets time pass until a saga is over, and no more than `most`; how much did.
pub(super) async fn pass_until_over(time: &Time, process: &Process, id: Uuid, most: Duration) -> Duration {
    let mut passed = Duration::ZERO;
    while !process.show(id).await.state.is_over() {
        assert!(passed < most, "the saga never came to its end: {:?}", process.show(id).await);
        pass(time, Duration::from_millis(200)).await;
        passed += Duration::from_millis(200);
    }
    passed
}

/// Lets time pass, and everybody do what they then can.
async fn pass(time: &Time, span: Duration) {
    time.pass(span).await;
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn sagas_whose_callee_is_away_make_room_and_go_on_where_they_were_when_it_is_back() {
    let (time, world) = (Time::new(), World::default().with("away", Plan::FailsTimes(u32::MAX)));
    let store = Store::new(time.memory());
    let sagas = on(&store, &world, &time.clock).register("lonely", lonely).in_memory(3);
    let process = Process::start(sagas).await;
    let mut waiting = Vec::new();
    for _ in 0..12 {
        waiting.push(process.begin("lonely", &()).await);
    }
    let healthy = process.begin("abc", &()).await;
    pass_until_over(&time, &process, healthy, 60 * SECOND).await;
    assert_eq!(process.show(healthy).await.state, SagaState::Completed);

    let before = world.count("away");
    for _ in 0..300 {
        pass(&time, SECOND).await;
    }
    let (attempts, all) = (world.count("away") - before, waiting.len());
    assert!(attempts > 10 * all, "they are tried all the time, but only {attempts} times");
    // At the end of their growth pauses are 5 s on average; without growth a thousand attempts would be made of each.
    assert!(attempts < 90 * all, "their pauses grow even so: {attempts} attempts");
    for id in &waiting {
        let step = &process.show(*id).await.steps[0];
        assert_eq!(step.state, StepViewState::Running);
        assert!(step.attempts > 15, "each attempt counts: {}", step.attempts);
    }
    let journal = purlin::store::StreamId::new("saga", waiting[0]).unwrap();
    let entries = store.read_stream(&journal, 1, 1000).await.unwrap().len();
    assert!(entries < 20, "not every attempt is in the journal: {entries}");

    world.plan("away", Plan::Works);
    for id in waiting {
        pass_until_over(&time, &process, id, 60 * SECOND).await;
    }
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_saga_that_cannot_be_undone_or_ended_yet_makes_room_too() {
    async fn fails(saga: Saga<World>, _: ()) -> Result<u32, SagaError> {
        let step = saga.step("x", async |at| at.act(at.key()).await);
        step.compensate(async |at, output| at.undo(at.key(), output).await).await
    }
    async fn ends(_: Saga<World>, _: ()) -> Result<u32, SagaError> {
        Ok(1)
    }
    let world = World::default()
        .with("x", Plan::Refuses)
        .with("undo x", Plan::FailsTimes(u32::MAX))
        .with("hook", Plan::FailsTimes(u32::MAX));
    let ends = Function::new(ends).on_end(async |world: Arc<World>, (), _: End<u32>| {
        world.act("saga/hook").await.map(|_| Commit::new())
    });
    let (time, store) = (Time::new(), Store::memory());
    let sagas = on(&store, &world, &time.clock).register("fails", fails).register("ends", ends).in_memory(2);
    let process = Process::start(sagas).await;
    let mut waiting = Vec::new();
    for kind in ["fails", "ends", "fails", "ends"] {
        waiting.push(process.begin(kind, &()).await);
    }
    let healthy = process.begin("abc", &()).await;
    pass_until_over(&time, &process, healthy, 60 * SECOND).await;
    let before = world.count("hook");
    for _ in 0..300 {
        pass(&time, SECOND).await;
    }
    let attempts = world.count("hook") - before;
    assert!((6..40).contains(&attempts), "the pauses before an end grow: {attempts}");
    world.plan("undo x", Plan::Works);
    world.plan("hook", Plan::Works);
    for id in waiting {
        pass_until_over(&time, &process, id, 200 * SECOND).await;
    }
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_retry_ends_the_pause_of_a_step() {
    const RARE: Retry = Retry { max_attempts: 9, first_delay: LONG, max_delay: LONG, jitter: 0.0 };
    async fn slow(saga: Saga<World>, _: ()) -> Result<u32, SagaError> {
        saga.step("away", async |at| at.act(at.key()).await).retry(RARE).await
    }
    async fn brief(saga: Saga<World>, _: ()) -> Result<u32, SagaError> {
        let rare = Retry { first_delay: 20 * SECOND, ..RARE };
        saga.step("away", async |at| at.act(at.key()).await).retry(rare).await
    }
    for (kind, parks) in [("slow", true), ("brief", false)] {
        let (time, world) = (Time::new(), World::default().with("away", Plan::FailsTimes(1)));
        let store = Store::new(time.memory());
        let sagas = on(&store, &world, &time.clock).register("slow", slow).register("brief", brief);
        let process = Process::start(sagas).await;
        let id = process.begin(kind, &()).await;
        let asleep = async || {
            let due = store.get_record("sagas", &id.to_string()).await.unwrap().unwrap().due;
            due.is_some_and(|due| due > time.clock.now())
        };
        while world.count("away") == 0 || asleep().await != parks {
            tokio::task::yield_now().await;
        }
        process.sagas.retry(id).await.unwrap();
        let passed = pass_until_over(&time, &process, id, 5 * SECOND).await;
        assert!(passed < 5 * SECOND, "{kind}");
        assert_eq!(process.show(id).await.steps[0].attempts, 2, "{kind}");
        process.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_of_a_saga_before_its_start_is_kept_for_it() {
    async fn hears(saga: Saga<World>, _: ()) -> Result<u32, SagaError> {
        saga.signal("s").await
    }
    let (time, world) = (Time::new(), World::default());
    let sagas = on(&Store::new(time.memory()), &world, &time.clock).register("hears", hears);
    let process = Process::start(sagas).await;
    let (id, never) = (new_id(), new_id());
    for asked in [id, never] {
        process.store.commit(process.sagas.signal(asked, "s", &7).unwrap()).await.unwrap();
        process.sagas.kick(asked);
    }
    for _ in 0..60 {
        pass(&time, SECOND).await;
    }
    process.store.commit(process.sagas.start("hears", id, &()).unwrap()).await.unwrap();
    pass_until_over(&time, &process, id, 5 * SECOND).await;
    assert_eq!(process.show(id).await.output, Some(7.into()));
    let kept = async || process.store.list_records("saga_signals", Default::default()).await.unwrap().records;
    assert_eq!(kept().await.len(), 1, "its saga may yet be started");
    pass(&time, 25 * LONG).await;
    pass(&time, 2 * SECOND).await;
    assert_eq!(kept().await.len(), 0, "but not for ever");
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn thousands_that_are_due_and_cannot_be_run_hide_none_that_can() {
    let (store, world) = (Store::memory(), World::default());
    let elsewhere = on(&store, &world, &Clock::system()).register("foreign", lonely);
    elsewhere.prepare().await.unwrap();
    for _ in 0..7000 {
        store.commit(elsewhere.start("foreign", new_id(), &()).unwrap()).await.unwrap();
    }
    let own = new_id();
    store.commit(elsewhere.start("abc", own, &()).unwrap()).await.unwrap();
    let process = Process::start(on(&store, &world, &Clock::system())).await;
    let view = process.sagas.wait(own, 5 * SECOND).await.unwrap();
    assert_eq!(view.state, SagaState::Completed);
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn all_blocked_sagas_are_tried_after_a_start_however_little_room_there_is() {
    let (store, world) = (Store::memory(), World::default());
    async fn other(saga: Saga<World>, _: ()) -> Result<u32, SagaError> {
        saga.step("other", async |at| at.act(at.key()).await).await
    }
    world.plan("b", Plan::FailsTimes(u32::MAX));
    let process = Process::start(on(&store, &world, &Clock::system())).await;
    let mut ids = Vec::new();
    for _ in 0..7 {
        let id = process.begin("abc", &()).await;
        process.until(id, |view| !view.steps.is_empty()).await;
        ids.push(id);
    }
    process.stop().await;
    let process = Process::start(on(&store, &world, &Clock::system()).register("abc", other)).await;
    for id in &ids {
        process.until_state(*id, SagaState::Blocked).await;
    }
    process.stop().await;
    world.plan("b", Plan::Works);
    let sagas: Sagas<World> = on(&store, &world, &Clock::system()).register("abc", abc).in_memory(1);
    let process = Process::start(sagas).await;
    for id in ids {
        process.until_state(id, SagaState::Completed).await;
    }
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn all_that_was_asked_too_early_is_kept_however_much_it_is() {
    const LARGE: usize = 30;
    async fn hears(saga: Saga<World>, _: ()) -> Result<u32, SagaError> {
        let mut sum = 0;
        for _ in 0..250 {
            sum += saga.signal::<u32>("s").await?;
        }
        Ok(sum)
    }
    let (time, world) = (Time::new(), World::default());
    let sagas = on(&Store::new(time.memory()), &world, &time.clock).register("hears", hears);
    let process = Process::start(sagas).await;
    let id = new_id();
    for _ in 0..250 {
        process.store.commit(process.sagas.signal(id, "s", &1).unwrap()).await.unwrap();
    }
    let (large, never) = ("x".repeat(500_000), new_id());
    for _ in 0..LARGE {
        process.store.commit(process.sagas.signal(never, "s", &large).unwrap()).await.unwrap();
    }
    for _ in 0..5 {
        pass(&time, SECOND).await;
    }
    let now = time.clock.now();
    let kept = process.store.list_records("saga_signals", Query::all().limit(1000)).await.unwrap().records;
    let due = kept.iter().filter(|record| record.due.is_none_or(|due| due <= now));
    assert_eq!((kept.len(), due.count()), (250 + LARGE, 0), "none is in the way of what is due");
    process.store.commit(process.sagas.start("hears", id, &()).unwrap()).await.unwrap();
    pass_until_over(&time, &process, id, 5 * SECOND).await;
    assert_eq!(process.show(id).await.output, Some(250.into()));
    process.stop().await;
}
