//! A world outside for the sagas of these tests: it is idempotent by key, and fails as it is told.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use purlin::message::{Clock, Fault, FaultKind, ManualClock, Uuid, new_id};
use purlin::saga::{SagaState, SagaView, Sagas};
use purlin::store::Store;
use purlin::store::memory::Memory;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// An hour is for ever under a paused clock.
pub(super) const LONG: Duration = Duration::from_secs(3600);

#[derive(Clone, Default)]
pub(super) struct World(Arc<Inner>);

#[derive(Default)]
struct Inner {
    plans: Mutex<HashMap<String, Plan>>,
    calls: Mutex<Vec<String>>,
    effects: Mutex<BTreeMap<String, Effect>>,
}

/// What the world does to a call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Plan {
    Works,
    /// Unavailable so many times, then it works.
    FailsTimes(u32),
    Refuses,
    /// Overloaded once, and says after how long to ask again; then it works.
    AsksToWait(Duration),
    /// The effect happens and the first answer is lost.
    LosesAnswer,
    Hangs,
    Panics,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Applied,
    Undone,
    /// Undone before it arrived: it shall never be applied.
    Tombstone,
}

#[derive(Debug, thiserror::Error)]
#[error("{1}")]
pub(super) struct Trouble(FaultKind, &'static str, Option<Duration>);

impl Fault for Trouble {
    fn kind(&self) -> FaultKind {
        self.0
    }
    fn code(&self) -> &str {
        if self.0 == FaultKind::Conflict { "sold-out" } else { self.0.as_str() }
    }
    fn retry_after(&self) -> Option<Duration> {
        self.2
    }
}

impl World {
    /// Plans for `step`, or for `undo step`.
    pub(super) fn with(self, call: &str, plan: Plan) -> Self {
        self.plan(call, plan);
        self
    }

    pub(super) fn plan(&self, call: &str, plan: Plan) {
        self.0.plans.lock().unwrap().insert(call.to_owned(), plan);
    }

    /// Does the step that the key ends with.
    pub(super) async fn act(&self, key: &str) -> Result<u32, Trouble> {
        let step = name(key);
        self.0.calls.lock().unwrap().push(step.to_owned());
        let plan = self.meet(step);
        if plan == Plan::Hangs {
            std::future::pending::<()>().await;
        }
        self.judge(plan)?;
        let mut effects = self.0.effects.lock().unwrap();
        match effects.get(key) {
            None | Some(Effect::Applied) => {}
            Some(_) => return Err(Trouble(FaultKind::Rejected, "undone before", None)),
        }
        effects.insert(key.to_owned(), Effect::Applied);
        match plan {
            Plan::LosesAnswer => Err(Trouble(FaultKind::Timeout, "the answer is lost", None)),
            _ => Ok(u32::try_from(step.len()).unwrap()),
        }
    }

    /// Undoes the step that the key ends with.
    pub(super) async fn undo(&self, key: &str, output: Option<u32>) -> Result<(), Trouble> {
        let step = name(key);
        let known = if output.is_some() { "known" } else { "unknown" };
        self.0.calls.lock().unwrap().push(format!("undo {step} {known}"));
        let plan = self.meet(&format!("undo {step}"));
        if plan == Plan::Hangs {
            std::future::pending::<()>().await;
        }
        self.judge(plan)?;
        let mut effects = self.0.effects.lock().unwrap();
        let undone = match effects.get(key) {
            Some(Effect::Applied | Effect::Undone) => Effect::Undone,
            None | Some(Effect::Tombstone) => Effect::Tombstone,
        };
        effects.insert(key.to_owned(), undone);
        match plan {
            Plan::LosesAnswer => Err(Trouble(FaultKind::Timeout, "the answer is lost", None)),
            _ => Ok(()),
        }
    }

    fn judge(&self, plan: Plan) -> Result<(), Trouble> {
        match plan {
            Plan::FailsTimes(0) | Plan::Works | Plan::LosesAnswer | Plan::Hangs => Ok(()),
            Plan::AsksToWait(time) => Err(Trouble(FaultKind::Overloaded, "busy", Some(time))),
            Plan::FailsTimes(_) => Err(Trouble(FaultKind::Unavailable, "away", None)),
            Plan::Refuses => Err(Trouble(FaultKind::Conflict, "sold out", None)),
            Plan::Panics => panic!("as planned"),
        }
    }

    /// The plan for this call, and the next one's.
    fn meet(&self, call: &str) -> Plan {
        let mut plans = self.0.plans.lock().unwrap();
        let Some(plan) = plans.get_mut(call) else { return Plan::Works };
        let met = *plan;
        *plan = match met {
            Plan::FailsTimes(times) => Plan::FailsTimes(times.saturating_sub(1)),
            Plan::LosesAnswer | Plan::AsksToWait(_) => Plan::Works,
            other => other,
        };
        met
    }

    pub(super) fn calls(&self) -> Vec<String> {
        self.0.calls.lock().unwrap().clone()
    }

    pub(super) fn count(&self, call: &str) -> usize {
        self.calls().iter().filter(|made| *made == call).count()
    }

    /// What there is of each step, whatever the saga.
    pub(super) fn effects(&self) -> Vec<(String, Effect)> {
        let effects = self.0.effects.lock().unwrap();
        effects.iter().map(|(key, effect)| (name(key).to_owned(), *effect)).collect()
    }

    pub(super) fn all(&self, effect: Effect) -> bool {
        self.effects().iter().all(|(_, found)| *found == effect)
    }

    pub(super) fn any(&self, effect: Effect) -> bool {
        self.effects().iter().any(|(_, found)| *found == effect)
    }
}

fn name(key: &str) -> &str {
    key.split_once('/').unwrap().1
}

/// A process that runs sagas on a store which outlives it.
pub(super) struct Process {
    pub(super) sagas: Sagas<World>,
    pub(super) store: Store,
    pub(super) shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

impl Process {
    pub(super) async fn start(sagas: Sagas<World>) -> Self {
        sagas.prepare().await.unwrap();
        let (shutdown, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let run = sagas.clone().run(shutdown.clone());
        tasks.spawn(async move { run.await.unwrap() });
        Self { store: sagas.store().clone(), sagas, shutdown, tasks }
    }

    pub(super) async fn begin<I: Serialize>(&self, kind: &str, input: &I) -> Uuid {
        let id = new_id();
        self.store.commit(self.sagas.start(kind, id, input).unwrap()).await.unwrap();
        self.sagas.kick(id);
        id
    }

    pub(super) async fn run<I: Serialize>(&self, kind: &str, input: &I) -> SagaView {
        let id = self.begin(kind, input).await;
        self.sagas.wait(id, LONG).await.unwrap()
    }

    pub(super) async fn show(&self, id: Uuid) -> SagaView {
        self.sagas.show(id).await.unwrap().unwrap()
    }

    /// Waits until what the saga looks like is as wanted.
    pub(super) async fn until(&self, id: Uuid, wanted: impl Fn(&SagaView) -> bool) -> SagaView {
        let mut changes = self.store.watch();
        let seen = tokio::time::timeout(LONG, async {
            loop {
                let view = self.show(id).await;
                if wanted(&view) {
                    return view;
                }
                tokio::select! {
                    changed = changes.changed() => changed.unwrap(),
                    () = tokio::time::sleep(Duration::from_millis(100)) => {}
                }
            }
        });
        seen.await.expect("the saga never came to look so")
    }

    pub(super) async fn until_state(&self, id: Uuid, state: SagaState) -> SagaView {
        self.until(id, |view| view.state == state).await
    }

    /// Ends the process as a power failure would.
    pub(super) fn kill(self) {}

    /// Ends the process in good order.
    pub(super) async fn stop(self) {
        self.shutdown.cancel();
        self.tasks.join_all().await;
    }
}

/// A store in memory whose clock, and the sagas', is moved by hand together with tokio's.
pub(super) struct Time {
    pub(super) clock: Clock,
    hand: ManualClock,
}

impl Time {
    pub(super) fn new() -> Self {
        let (clock, hand) = Clock::manual(Timestamp::UNIX_EPOCH + Duration::from_secs(1_000_000));
        Self { clock, hand }
    }

    pub(super) fn memory(&self) -> Memory {
        Memory::with_clock(self.clock.clone())
    }

    /// Time passes, for everyone.
    pub(super) async fn pass(&self, time: Duration) {
        self.hand.advance(time);
        tokio::time::advance(time).await;
    }
}
