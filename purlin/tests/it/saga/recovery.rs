//! Journals that do not fit, and many sagas at once.

use std::convert::Infallible;
use std::time::Duration;

use purlin::message::{Clock, Envelope, TraceContext};
use purlin::saga::{ListSagas, Saga, SagaError, SagaRow, SagaState, Sagas};
use purlin::store::memory::{Faults, Memory};
use purlin::store::{Commit, CommitError, Expected, Field, Row, Store, StreamId};
use purlin::telemetry::{self, Metrics};
use serde::{Deserialize, Serialize};

use super::functions::on;
use super::world::{LONG, Plan, Process, World};

async fn renamed(saga: Saga<World>, _: ()) -> Result<u32, SagaError> {
    let mut sum = 0;
    for step in ["a", "other", "c"] {
        sum += saga.step(step, async |at| at.act(at.key()).await).await?;
    }
    Ok(sum)
}

async fn shorter(saga: Saga<World>, _: ()) -> Result<u32, SagaError> {
    saga.step("a", async |at| at.act(at.key()).await).await
}

async fn without_undo(saga: Saga<World>, _: ()) -> Result<u32, SagaError> {
    let mut sum = 0;
    for step in ["a", "b", "c"] {
        sum += saga.step(step, async |at| at.act(at.key()).await).await?;
    }
    Ok(sum)
}

async fn retyped(saga: Saga<World>, _: ()) -> Result<u32, SagaError> {
    saga.step("a", async |_| Ok::<_, Infallible>("a text".to_owned())).await?;
    Ok(0)
}

/// A saga that did `a` and `b`, and whose `c` waits in a process that is gone.
async fn left_in_the_middle(store: &Store, world: &World) -> purlin::message::Uuid {
    world.plan("c", Plan::FailsTimes(u32::MAX));
    let process = Process::start(on(store, world, &Clock::system())).await;
    let id = process.begin("abc", &()).await;
    while world.count("c") == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    process.stop().await;
    id
}

#[tokio::test(start_paused = true)]
async fn a_function_that_does_not_fit_the_journal_blocks_the_saga_without_any_effect() {
    let store = Store::memory();
    let world = World::default();
    let id = left_in_the_middle(&store, &world).await;
    let calls = world.calls().len();
    let clock = Clock::system();
    for (changed, why) in [
        (on(&store, &world, &clock).register("abc", renamed), "step `b`"),
        (on(&store, &world, &clock).register("abc", shorter), "step `b`"),
        (on(&store, &world, &clock).register("abc", retyped), "what step `a` returned cannot be read"),
    ] {
        let process = Process::start(changed).await;
        let blocked = |view: &purlin::saga::SagaView| {
            view.state == SagaState::Blocked
                && view.reason.as_ref().is_some_and(|reason| reason.contains(why))
        };
        process.until(id, blocked).await;
        assert_eq!(world.calls().len(), calls);
        process.stop().await;
    }

    // With the right function again, the next process goes on by itself.
    world.plan("c", Plan::Works);
    let process = Process::start(on(&store, &world, &clock)).await;
    let view = process.until_state(id, SagaState::Completed).await;
    assert_eq!((view.reason, world.count("a"), world.count("b")), (None, 1, 1));
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_program_that_lacks_a_sagas_function_leaves_it_to_one_that_has_it() {
    let (store, world, metrics) = (Store::memory(), World::default(), Metrics::new());
    let id = left_in_the_middle(&store, &world).await;
    world.plan("c", Plan::Works);
    let stranger = Sagas::new(&store, world.clone(), Clock::system()).metrics(&metrics, "test");
    let process = Process::start(stranger).await;
    let before = store.get_record("sagas", &id.to_string()).await.unwrap();
    let foreign = || metrics.render().contains("purlin_sagas_foreign{service=\"test\"} 1");
    while !foreign() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let why = Some("no function is registered for sagas of kind `abc`".to_owned());
    let listed = process.sagas.directory().list(ListSagas::default()).await.unwrap().items;
    assert_eq!((&listed[0].1.reason, process.show(id).await.reason), (&why, why.clone()));
    process.stop().await;
    assert_eq!(store.get_record("sagas", &id.to_string()).await.unwrap(), before);
    let process = Process::start(on(&store, &world, &Clock::system())).await;
    process.until_state(id, SagaState::Completed).await;
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn sagas_that_are_run_again_after_the_run_was_dropped_go_on() {
    let (store, world) = (Store::memory(), World::default().with("b", Plan::Hangs));
    let sagas = on(&store, &world, &Clock::system());
    let process = Process::start(sagas.clone()).await;
    let id = process.begin("abc", &()).await;
    while world.count("b") == 0 {
        tokio::task::yield_now().await;
    }
    process.kill();
    world.plan("b", Plan::Works);
    let process = Process::start(sagas).await;
    process.until_state(id, SagaState::Completed).await;
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_saga_whose_journal_can_never_be_written_is_set_aside_and_listed() {
    async fn wordy(saga: Saga<World>, _: ()) -> Result<u32, SagaError> {
        saga.step("w".repeat(2 << 20), async |_| Ok::<_, Infallible>(1)).await
    }
    let (store, world) = (Store::memory(), World::default());
    let sagas = on(&store, &world, &Clock::system()).register("wordy", wordy);
    let process = Process::start(sagas).await;
    let id = process.begin("wordy", &()).await;
    let view = process.until_state(id, SagaState::Blocked).await;
    let reason = view.reason.unwrap();
    assert!(reason.contains("interrupted 3 times in a row") && reason.contains("the limit is"), "{reason}");
    let blocked = ListSagas { state: Some(SagaState::Blocked), ..ListSagas::default() };
    assert_eq!(process.sagas.list(blocked).await.unwrap().items[0].0, id);
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_saga_that_works_long_before_it_is_interrupted_is_set_aside_as_well() {
    async fn slow(saga: Saga<World>, _: ()) -> Result<u32, SagaError> {
        let step = saga.step("w".repeat(2 << 20), async |_| {
            tokio::time::sleep(Duration::from_secs(25)).await;
            Ok::<_, Infallible>(1)
        });
        step.await
    }
    let (store, world) = (Store::memory(), World::default());
    let process = Process::start(on(&store, &world, &Clock::system()).register("slow", slow)).await;
    let id = process.begin("slow", &()).await;
    let view = process.until_state(id, SagaState::Blocked).await;
    assert!(view.reason.unwrap().contains("interrupted 3 times in a row"));
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn signals_and_outcomes_that_one_commit_cannot_hold_take_several() {
    const MANY: usize = 24;
    async fn heavy(saga: Saga<World>, _: ()) -> Result<usize, SagaError> {
        let mut bytes = 0;
        for _ in 0..MANY {
            bytes += saga.signal::<String>("s").await?.len();
        }
        let steps = (0..MANY).map(|n| saga.step(format!("n{n}"), async |_| Ok::<_, Infallible>(large())));
        let outcomes = futures_util::future::try_join_all(steps.map(IntoFuture::into_future)).await?;
        Ok(bytes + outcomes.iter().map(String::len).sum::<usize>())
    }
    fn large() -> String {
        "x".repeat(500_000)
    }
    let (store, world) = (Store::memory(), World::default());
    let sagas = on(&store, &world, &Clock::system()).register("heavy", heavy);
    sagas.prepare().await.unwrap();
    let id = purlin::message::new_id();
    store.commit(sagas.start("heavy", id, &()).unwrap()).await.unwrap();
    for _ in 0..MANY {
        store.commit(sagas.signal(id, "s", &large()).unwrap()).await.unwrap();
    }
    let process = Process::start(sagas).await;
    let view = process.until_state(id, SagaState::Completed).await;
    assert_eq!(view.output, Some((2 * MANY * 500_000).into()));
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_read_is_listed_and_hides_no_other() {
    #[derive(Serialize, Deserialize)]
    struct Rubbish {
        state: String,
    }
    impl Row for Rubbish {
        const COLLECTION: &'static str = SagaRow::COLLECTION;
        const FIELDS: &'static [Field] = SagaRow::FIELDS;
    }
    let (store, world) = (Store::memory(), World::default());
    let process = Process::start(on(&store, &world, &Clock::system())).await;
    let good = process.begin("abc", &()).await;
    process.until_state(good, SagaState::Completed).await;
    let bad = purlin::message::Uuid::from_u128(7);
    store.commit(Commit::new().put(bad.to_string(), &Rubbish { state: "blocked".into() })).await.unwrap();
    let listed = process.sagas.list(ListSagas::default()).await.unwrap().items;
    assert_eq!(listed.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [bad, good]);
    assert!(listed[0].1.reason.as_ref().unwrap().contains("cannot be read"));
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_compensation_that_was_removed_blocks_the_saga() {
    let store = Store::memory();
    let world = World::default().with("b", Plan::Refuses).with("undo b", Plan::FailsTimes(u32::MAX));
    let process = Process::start(on(&store, &world, &Clock::system())).await;
    let id = process.begin("abc", &()).await;
    while world.count("undo b unknown") == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    process.stop().await;
    let process = Process::start(on(&store, &world, &Clock::system()).register("abc", without_undo)).await;
    let view = process.until_state(id, SagaState::Blocked).await;
    assert!(view.reason.unwrap().contains("no compensation"));
    process.stop().await;
    world.plan("undo b", Plan::Works);
    let process = Process::start(on(&store, &world, &Clock::system())).await;
    process.until_state(id, SagaState::Failed).await;
    assert_eq!(world.calls().last().unwrap(), "undo a known");
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_blocked_saga_goes_on_when_an_operator_says_so_and_keeps_its_requests() {
    let store = Store::memory();
    let world = World::default();
    let id = left_in_the_middle(&store, &world).await;
    let process = Process::start(on(&store, &world, &Clock::system()).register("abc", renamed)).await;
    process.until_state(id, SagaState::Blocked).await;
    store.commit(process.sagas.cancel(id, "enough")).await.unwrap();
    process.sagas.retry(id).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(process.show(id).await.state, SagaState::Blocked);
    process.stop().await;
    let process = Process::start(on(&store, &world, &Clock::system())).await;
    let view = process.until_state(id, SagaState::Failed).await;
    assert_eq!(view.error, Some(SagaError::Cancelled { reason: "enough".into() }));
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_broken_journal_stops_no_other_saga() {
    let store = Store::memory();
    let world = World::default();
    let process = Process::start(on(&store, &world, &Clock::system())).await;
    let broken = purlin::message::new_id();
    let start = process.sagas.start("abc", broken, &()).unwrap();
    let stream = StreamId::new("saga", broken).unwrap();
    let rubbish = [Envelope::raw("saga.rubbish", "{}")];
    store.commit(start.append(stream, Expected::Version(1), rubbish)).await.unwrap();
    process.sagas.kick(broken);
    assert_eq!(process.run("abc", &()).await.state, SagaState::Completed);
    let view = process.until_state(broken, SagaState::Blocked).await;
    assert!(view.reason.unwrap().contains("the journal cannot be read"));
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_sagas_run_at_once_with_room_for_fifty() {
    let world = World::default();
    let sagas = on(&Store::memory(), &world, &Clock::system()).in_memory(50);
    let process = Process::start(sagas).await;
    let mut ids = Vec::new();
    for _ in 0..1000 {
        ids.push(process.begin("fork", &()).await);
    }
    for id in ids {
        let view = process.sagas.wait(id, Duration::from_secs(60)).await.unwrap();
        assert_eq!(view.state, SagaState::Completed);
    }
    assert_eq!(world.effects().len(), 4000);
    assert_eq!(world.calls().len(), 4000, "nothing was done twice");
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sagas_that_pile_up_while_no_process_runs_are_all_found() {
    let (store, world) = (Store::memory(), World::default());
    let sagas = on(&store, &world, &Clock::system()).in_memory(20);
    sagas.prepare().await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..600 {
        let id = purlin::message::new_id();
        store.commit(sagas.start("abc", id, &()).unwrap()).await.unwrap();
        ids.push(id);
    }
    let process = Process::start(sagas).await;
    for id in ids {
        assert_eq!(
            process.sagas.wait(id, Duration::from_secs(60)).await.unwrap().state,
            SagaState::Completed
        );
    }
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_journals_nothing_and_the_next_process_goes_on() {
    let (store, world) = (Store::memory(), World::default().with("b", Plan::Hangs));
    let process = Process::start(on(&store, &world, &Clock::system())).await;
    let id = process.begin("fork", &()).await;
    let id = {
        process.sagas.wait(id, LONG).await.unwrap();
        process.begin("abc", &()).await
    };
    while world.count("b") == 0 {
        tokio::task::yield_now().await;
    }
    let before = store.head();
    process.stop().await;
    assert_eq!(store.head(), before);
    world.plan("b", Plan::Works);
    let process = Process::start(on(&store, &world, &Clock::system())).await;
    let view = process.until_state(id, SagaState::Completed).await;
    assert_eq!((view.steps[1].attempts, world.count("b")), (1, 2));
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_for_a_while_delays_a_saga_and_nothing_else() {
    let (memory, world) = (Memory::new(), World::default());
    let process = Process::start(on(&Store::new(memory.clone()), &world, &Clock::system())).await;
    let id = process.begin("abc", &()).await;
    memory.set_faults(Faults { refuse: 12, ..Faults::default() });
    process.until_state(id, SagaState::Completed).await;
    assert_eq!(world.calls(), ["a", "b", "c"]);
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_saga_belongs_to_the_trace_that_started_it() {
    async fn traced(saga: Saga<World>, _: ()) -> Result<String, SagaError> {
        saga.step("a", async |_| {
            Ok::<_, Infallible>(telemetry::current().map(|trace| trace.trace_id_hex()).unwrap_or_default())
        })
        .await
    }
    let sagas = on(&Store::memory(), &World::default(), &Clock::system()).register("traced", traced);
    let process = Process::start(sagas).await;
    let trace = TraceContext::root();
    let id = telemetry::in_trace(trace, process.begin("traced", &())).await;
    let view = process.sagas.wait(id, LONG).await.unwrap();
    assert_eq!(view.output, Some(trace.trace_id_hex().into()));
    let journal = process.store.read_stream(&StreamId::new("saga", id).unwrap(), 1, 10).await.unwrap();
    assert!(journal.iter().all(|event| event.envelope.meta.trace.unwrap().trace_id == trace.trace_id));
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_saga_started_twice_runs_once() {
    let world = World::default();
    let process = Process::start(on(&Store::memory(), &world, &Clock::system())).await;
    let id = process.begin("abc", &()).await;
    let again = process.store.commit(process.sagas.start("abc", id, &()).unwrap()).await;
    assert!(matches!(again, Err(CommitError::Conflict(_))));
    process.sagas.wait(id, LONG).await.unwrap();
    assert_eq!(world.calls(), ["a", "b", "c"]);
    process.stop().await;
}
