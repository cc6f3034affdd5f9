//! What is committed with what: the effects of a step and of the end.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use purlin::message::Clock;
use purlin::saga::{End, Function, Saga, SagaError, SagaState, Sagas};
use purlin::store::{Commit, Revision, Row, Store};
use purlin::testing::saga::{Crash, survive};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::functions::on;
use super::world::{Effect, LONG, Plan, Process, World};

/// A counter in the saga's own store.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Counter {
    n: u32,
}

impl Row for Counter {
    const COLLECTION: &'static str = "counters";
}

struct Local {
    store: Store,
    /// So often somebody else counts at the same moment.
    rivals: AtomicUsize,
    hook: AtomicUsize,
}

impl Local {
    async fn increment(&self, key: &str) -> (u32, Commit) {
        let record = self.store.get_record("counters", key).await.unwrap();
        let n = record.as_ref().map_or(0, |record| record.decode::<Counter>().unwrap().n) + 1;
        let expected = record.map_or(Revision::Absent, |record| Revision::Exact(record.revision));
        if self.rivals.load(Ordering::SeqCst) > 0 {
            self.rivals.fetch_sub(1, Ordering::SeqCst);
            self.store.commit(Commit::new().put(key, &Counter { n })).await.unwrap();
        }
        (n, Commit::new().put_expecting(key, &Counter { n }, expected, None))
    }

    async fn counted(&self, key: &str) -> u32 {
        self.store.get::<Counter>(key).await.unwrap().unwrap_or_default().n
    }
}

async fn count_twice(saga: Saga<Arc<Local>>, _: ()) -> Result<u32, SagaError> {
    let first = saga
        .transact("first", async |at| {
            let (n, commit) = at.increment("steps").await;
            Ok::<_, Infallible>((n, commit))
        })
        .await?;
    let second = saga
        .transact("second", async |at| {
            let (n, commit) = at.increment("steps").await;
            Ok::<_, Infallible>((n, commit))
        })
        .await?;
    Ok(10 * first + second)
}

fn counting(local: &Arc<Local>) -> Sagas<Arc<Local>> {
    let function = Function::new(count_twice).on_end(async |local: Arc<Arc<Local>>, (), end: End<u32>| {
        assert!(matches!(end, End::Completed(_)));
        local.hook.fetch_add(1, Ordering::SeqCst);
        Ok::<_, Infallible>(local.increment("ends").await.1)
    });
    Sagas::new(&local.store, Arc::clone(local), Clock::system()).register("count", function)
}

#[tokio::test(start_paused = true)]
async fn a_transacted_step_and_the_end_have_their_effect_once_wherever_the_process_dies() {
    for crashes in 0.. {
        let crash = Crash { commit: 1 + crashes / 2, applied: crashes % 2 == 1 };
        let make = |store: &Store| {
            let (rivals, hook) = (AtomicUsize::new(0), AtomicUsize::new(0));
            counting(&Arc::new(Local { store: store.clone(), rivals, hook }))
        };
        // The counters' collection outlives the process: it is made by whoever comes first.
        let survived = survive_with_counters(crash, make).await;
        let local = Local { store: survived.store, rivals: AtomicUsize::new(0), hook: AtomicUsize::new(0) };
        assert_eq!((local.counted("steps").await, local.counted("ends").await), (2, 1), "{crash:?}");
        assert_eq!((survived.view.state, survived.view.output), (SagaState::Completed, Some(12.into())));
        if survived.crash.is_none() {
            assert_eq!(crashes, 8, "the start, two steps, the end");
            return;
        }
    }
}

async fn survive_with_counters(
    crash: Crash,
    make: impl Fn(&Store) -> Sagas<Arc<Local>>,
) -> purlin::testing::saga::Survived {
    let make = |store: &Store| {
        let defined = store.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { defined.define::<Counter>().await });
        tasks.detach_all();
        make(store)
    };
    survive(crash, make, "count", &()).await
}

#[tokio::test(start_paused = true)]
async fn an_effect_that_has_happened_before_under_its_id_is_still_the_steps_outcome() {
    async fn once(saga: Saga<Arc<Local>>, effect: purlin::message::Uuid) -> Result<u32, SagaError> {
        let step = saga.transact("once", move |at| async move {
            let day = Duration::from_secs(86_400);
            Ok::<_, Infallible>((7, at.increment("steps").await.1.with_id(effect, day)))
        });
        step.await
    }
    let store = Store::memory();
    store.define::<Counter>().await.unwrap();
    let local = Arc::new(Local { store, rivals: AtomicUsize::new(0), hook: AtomicUsize::new(0) });
    let effect = purlin::message::new_id();
    let (_, before) = local.increment("steps").await;
    local.store.commit(before.with_id(effect, Duration::from_secs(86_400))).await.unwrap();
    let sagas = counting(&local).register("once", once);
    sagas.prepare().await.unwrap();
    let (shutdown, mut tasks) = (tokio_util::sync::CancellationToken::new(), JoinSet::new());
    let run = sagas.clone().run(shutdown.clone());
    tasks.spawn(async move { run.await.unwrap() });
    let id = purlin::message::new_id();
    local.store.commit(sagas.start("once", id, &effect).unwrap()).await.unwrap();
    sagas.kick(id);
    let view = sagas.wait(id, LONG).await.unwrap();
    assert_eq!((view.output, local.counted("steps").await), (Some(7.into()), 1));
    assert_eq!(view.steps[0].state, purlin::saga::StepViewState::Done, "the journal has the outcome");
    shutdown.cancel();
    tasks.join_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_race_reruns_a_transacted_step_and_the_end_until_they_win() {
    let store = Store::memory();
    store.define::<Counter>().await.unwrap();
    let local = Arc::new(Local { store, rivals: AtomicUsize::new(2), hook: AtomicUsize::new(0) });
    let sagas = counting(&local);
    sagas.prepare().await.unwrap();
    let (shutdown, mut tasks) = (tokio_util::sync::CancellationToken::new(), JoinSet::new());
    let run = sagas.clone().run(shutdown.clone());
    tasks.spawn(async move { run.await.unwrap() });
    let id = purlin::message::new_id();
    local.store.commit(sagas.start("count", id, &()).unwrap()).await.unwrap();
    sagas.kick(id);
    let view = sagas.wait(id, LONG).await.unwrap();
    assert_eq!(
        (view.state, local.counted("steps").await),
        (SagaState::Completed, 4),
        "two rivals and two steps"
    );
    shutdown.cancel();
    tasks.join_all().await;
}

#[tokio::test(start_paused = true)]
async fn an_end_that_cannot_be_committed_is_tried_again_and_the_last_outcome_is_safe_meanwhile() {
    async fn one(saga: Saga<World>, _: ()) -> Result<u32, SagaError> {
        saga.step("a", async |at| at.act(at.key()).await).await
    }
    let (store, world) = (Store::memory(), World::default());
    let make = |end: Plan| {
        let function = Function::new(one).on_end(move |world: Arc<World>, (), _: End<u32>| async move {
            world.plan("hook", end);
            world.act("saga/hook").await.map(|_| Commit::new())
        });
        on(&store, &world, &Clock::system()).register("one", function)
    };
    let process = Process::start(make(Plan::Refuses)).await;
    let id = process.begin("one", &()).await;
    let view = process.until_state(id, SagaState::Stuck).await;
    assert!(view.reason.unwrap().contains("the end cannot be committed yet"));
    process.stop().await;
    let process = Process::start(make(Plan::Works)).await;
    process.until_state(id, SagaState::Completed).await;
    assert_eq!(world.count("a"), 1);
    assert!(world.all(Effect::Applied));
    process.stop().await;
}
