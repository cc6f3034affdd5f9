//! Runs the tasks of a process, restarts those that fail, and waits for all when it stops.

use std::collections::BTreeMap;
use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::bus::{GroupError, RelayError};
use crate::message::{Fault, FaultKind};
use crate::projection::ViewError;
use crate::telemetry::{self, Check, Health};

use super::Shutdown;

/// The first pause before a task is started again; it doubles with each failure in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// A task that ran so long has recovered: the next failure is a first one.
const RECOVERED: Duration = Duration::from_secs(60);

/// How long a task that was cut off may take to notice; one that never lets go of its thread cannot be waited for.
const CUT_OFF: Duration = Duration::from_secs(1);

/// Owns every task of a process. Cheap to clone.
#[derive(Clone)]
pub struct Supervisor {
    shutdown: Shutdown,
    health: Option<Health>,
    tasks: Arc<Mutex<Tasks>>,
}

#[derive(Default)]
struct Tasks {
    set: JoinSet<()>,
    statuses: BTreeMap<u64, TaskStatus>,
    next: u64,
}

/// How a task does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaskStatus {
    /// Its name.
    #[serde(serialize_with = "as_text")]
    pub name: Arc<str>,
    /// What it does at the moment.
    pub state: TaskState,
    /// How often it was started again.
    pub restarts: u64,
    /// Why it last failed.
    pub last_error: Option<String>,
}

/// What a task does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskState {
    /// It runs.
    Running,
    /// It failed, and is started again after a pause.
    Pausing,
    /// It has ended and is not started again.
    Ended,
}

/// Some tasks did not stop in time, and were cut off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("did not stop in time: {}", tasks.join(", "))]
pub struct StillRunning {
    /// Their names.
    pub tasks: Vec<String>,
}

impl Supervisor {
    /// A supervisor whose tasks end with `shutdown`.
    pub fn new(shutdown: Shutdown) -> Self {
        Self { shutdown, health: None, tasks: Arc::default() }
    }

    /// Tells `health` of each restarted task whether it runs. One that failed is ready again when it has run for as
    /// long as it had paused; one that needs a person (an event that a view cannot fold, a bus that is another log) only
    /// degrades the process, which can do all else.
    pub fn telling(mut self, health: &Health) -> Self {
        self.health = Some(health.clone());
        self
    }

    /// Runs the task that `start` makes, and again with a growing pause when it fails or panics, until it ends by
    /// itself or everything stops. It is told to stop by the token of the [`Shutdown`], which it must heed.
    pub fn spawn<F, Fut, E>(&self, name: impl Into<Arc<str>>, start: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Error + Send + Sync + 'static,
    {
        let name = name.into();
        let supervisor = self.clone();
        self.take(Arc::clone(&name), move |id| async move { supervisor.keep_alive(id, &name, start).await });
    }

    /// Runs a task that cannot be started again. When it fails, everything stops.
    pub fn spawn_once<Fut, E>(&self, name: impl Into<Arc<str>>, task: Fut)
    where
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Error + Send + Sync + 'static,
    {
        let name = name.into();
        let supervisor = self.clone();
        self.take(Arc::clone(&name), move |id| async move {
            if let Err(Failed { error, .. }) = outcome(task).await {
                tracing::error!(task = &*name, error, "a task failed that cannot be started again: stopping");
                supervisor.shutdown.begin_because(format!("`{name}`: {error}"));
                supervisor.update(id, |status| status.last_error = Some(error));
            }
        });
    }

    /// How every task does.
    pub fn tasks(&self) -> Vec<TaskStatus> {
        self.lock().statuses.values().cloned().collect()
    }

    /// Tells everything to stop and waits until it has, at most for `limit`; what then still runs is cut off and
    /// named. Tasks that are spawned afterwards do not start.
    pub async fn drain(&self, limit: Duration) -> Result<(), StillRunning> {
        self.shutdown.begin();
        let deadline = Instant::now() + limit;
        loop {
            // A task may have spawned another before it was told to stop.
            let mut set = std::mem::take(&mut self.lock().set);
            if set.is_empty() {
                return Ok(());
            }
            if tokio::time::timeout_at(deadline, async { while set.join_next().await.is_some() {} })
                .await
                .is_err()
            {
                let running = |status: &&TaskStatus| status.state != TaskState::Ended;
                let tasks =
                    self.lock().statuses.values().filter(running).map(|s| s.name.to_string()).collect();
                let _ = tokio::time::timeout(CUT_OFF, set.shutdown()).await;
                return Err(StillRunning { tasks });
            }
        }
    }

    fn take<Fut>(&self, name: Arc<str>, task: impl FnOnce(u64) -> Fut)
    where
        Fut: Future<Output = ()> + Send + 'static,
    {
        let mut tasks = self.lock();
        // Asked under the lock, so that no task starts behind a drain that found nothing left.
        if self.shutdown.has_begun() {
            return;
        }
        while tasks.set.try_join_next().is_some() {}
        let id = tasks.next;
        tasks.next += 1;
        let status = TaskStatus { name, state: TaskState::Running, restarts: 0, last_error: None };
        tasks.statuses.insert(id, status);
        let supervisor = self.clone();
        let task = task(id);
        tasks.set.spawn(telemetry::inherit(async move {
            task.await;
            supervisor.update(id, |status| status.state = TaskState::Ended);
        }));
    }

    async fn keep_alive<F, Fut, E>(&self, id: u64, name: &str, start: F)
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<(), E>>,
        E: Error + 'static,
    {
        let check = self.health.as_ref().map(|health| health.check(format!("task {name}")));
        let (mut pause, mut paused) = (FIRST_PAUSE, Duration::ZERO);
        loop {
            let began = Instant::now();
            // A task may be large, and would be copied from one future into the next on the stack.
            let run = outcome(async { Box::pin(start()).await });
            let Err(Failed { error, needs_a_person }) = ready_after(paused, check.as_ref(), run).await else {
                return;
            };
            if self.shutdown.has_begun() {
                return tracing::warn!(task = name, error, "a task failed while it was to stop");
            }
            if began.elapsed() >= RECOVERED {
                pause = FIRST_PAUSE;
            }
            tracing::error!(task = name, error, pause_ms = pause.as_millis() as u64, "a task failed");
            if let Some(check) = &check {
                match needs_a_person {
                    true => check.degraded(error.clone()),
                    false => check.not_ready(error.clone()),
                }
            }
            self.update(id, |status| {
                status.state = TaskState::Pausing;
                status.last_error = Some(error);
            });
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.shutdown.begun() => return,
            }
            paused = pause;
            pause = (2 * pause).min(MAX_PAUSE);
            self.update(id, |status| {
                status.state = TaskState::Running;
                status.restarts += 1;
            });
        }
    }

    fn update(&self, id: u64, change: impl FnOnce(&mut TaskStatus)) {
        self.lock().statuses.entry(id).and_modify(change);
    }

    fn lock(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor").field("tasks", &self.tasks()).finish_non_exhaustive()
    }
}

/// Runs a task, and says that it is ready once it has run for so long.
async fn ready_after<T>(span: Duration, check: Option<&Check>, run: impl Future<Output = T>) -> T {
    let Some(check) = check else { return run.await };
    let mut run = std::pin::pin!(run);
    if !span.is_zero()
        && let Ok(end) = tokio::time::timeout(span, run.as_mut()).await
    {
        return end;
    }
    check.ready();
    run.await
}

/// How a task failed, in a line of text.
struct Failed {
    error: String,
    needs_a_person: bool,
}

/// How a task ended; a panic is a failure.
async fn outcome<E: Error + 'static>(task: impl Future<Output = Result<(), E>>) -> Result<(), Failed> {
    match AssertUnwindSafe(task).catch_unwind().await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Failed { needs_a_person: needs_a_person(&error), error: chain(&error) }),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().copied();
            let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            let error = format!("it panicked: {}", text.unwrap_or("without a text"));
            Err(Failed { error, needs_a_person: false })
        }
    }
}

/// Whether a task ended by what will be the same until somebody has acted, and concerns that task alone.
fn needs_a_person(error: &(dyn Error + 'static)) -> bool {
    let kind = |error: &(dyn Error + 'static)| {
        let view = error.downcast_ref::<ViewError>().map(Fault::kind);
        let group = || error.downcast_ref::<GroupError>().map(Fault::kind);
        let relay = || error.downcast_ref::<RelayError>().map(Fault::kind);
        view.or_else(group).or_else(relay)
    };
    let mut link = Some(error);
    while let Some(error) = link {
        if let Some(kind) = kind(error) {
            return kind == FaultKind::Bug;
        }
        link = error.source();
    }
    false
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn as_text<S: serde::Serializer>(name: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(name)
}
