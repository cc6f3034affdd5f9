//! A step: something done outside the saga, once as far as anyone can see.

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::message::{Clock, Fault, FaultKind, Timestamp};
use crate::resilience::{Deadline, Retry, dice};
use crate::store::{BoxFuture, Commit};

use super::cell::{Asked, Cell, Go, Report};
use super::journal::{Entry, Payload};
use super::pace;
use super::undo::Undo;
use super::{At, Failure, SagaError};

/// A step is tried until its saga's deadline, unless it says otherwise. All of a pause is left to chance.
pub(super) const STEP_RETRY: Retry = Retry {
    max_attempts: u32::MAX,
    first_delay: Duration::from_millis(100),
    max_delay: Duration::from_secs(10),
    jitter: 1.0,
};

/// A compensation is tried for ever, unless it says otherwise.
pub(super) const COMPENSATION_RETRY: Retry = Retry { max_delay: Duration::from_secs(60), ..STEP_RETRY };

/// How long an attempt may take, unless the step says otherwise.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);

/// A step that is being described; awaiting it performs it.
///
/// Its outcome is journalled: after a crash a step that has one is not performed again, a step that has none is, with
/// the same key.
#[must_use = "a step does nothing until it is awaited"]
pub struct Step<'a, S, T> {
    cell: Arc<Cell<S>>,
    name: Arc<str>,
    work: Work<'a, S>,
    undo: Option<Undo<S>>,
    retry: Retry,
    undo_retry: Retry,
    timeout: Duration,
    output: PhantomData<fn() -> T>,
}

type Work<'a, S> = Box<dyn Fn(At<S>) -> BoxFuture<'a, Result<Produced, Failure>> + Send + 'a>;

/// What an attempt gave.
struct Produced {
    output: Payload,
    effect: Option<Commit>,
}

impl<'a, S, T> Step<'a, S, T>
where
    S: Send + Sync + 'static,
    T: Serialize + DeserializeOwned + Send + 'a,
{
    pub(super) fn plain<F, Fut, E>(cell: Arc<Cell<S>>, name: Arc<str>, work: F) -> Self
    where
        F: Fn(At<S>) -> Fut + Send + 'a,
        Fut: Future<Output = Result<T, E>> + Send + 'a,
        E: Fault,
    {
        let work: Work<'a, S> = Box::new(move |at| {
            let attempt = work(at);
            Box::pin(async move {
                let output = attempt.await.map_err(|error| Failure::of(&error))?;
                Ok(Produced { output: Payload::of(&output)?, effect: None })
            })
        });
        Self::new(cell, name, work)
    }

    pub(super) fn transacted<F, Fut, E>(cell: Arc<Cell<S>>, name: Arc<str>, work: F) -> Self
    where
        F: Fn(At<S>) -> Fut + Send + 'a,
        Fut: Future<Output = Result<(T, Commit), E>> + Send + 'a,
        E: Fault,
    {
        let work: Work<'a, S> = Box::new(move |at| {
            let attempt = work(at);
            Box::pin(async move {
                let (output, effect) = attempt.await.map_err(|error| Failure::of(&error))?;
                Ok(Produced { output: Payload::of(&output)?, effect: Some(effect) })
            })
        });
        Self::new(cell, name, work)
    }

    fn new(cell: Arc<Cell<S>>, name: Arc<str>, work: Work<'a, S>) -> Self {
        let (retry, undo_retry) = (STEP_RETRY, COMPENSATION_RETRY);
        let timeout = ATTEMPT_TIMEOUT;
        Self { cell, name, work, undo: None, retry, undo_retry, timeout, output: PhantomData }
    }

    /// How the step is undone if the saga fails.
    ///
    /// The closure is registered before the step begins, is given what the step returned (nothing when that is not
    /// known: then the callee must also refuse the step should it arrive later), and is tried until it succeeds.
    pub fn compensate<U, Fut, R, E>(mut self, undo: U) -> Self
    where
        T: 'static,
        U: FnOnce(At<S>, Option<T>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        E: Fault,
    {
        self.undo = Some(Undo::new(undo, self.undo_retry, self.timeout));
        self
    }

    /// How transient failures are tried again; by default until the saga's deadline, after pauses of up to 0.1 s that
    /// double up to 10 s, all of each left to chance.
    ///
    /// A retry waits at least as long as the callee said ([`Fault::retry_after`]); one that said never is not asked
    /// again. The retries of one step of all sagas of its kind have a budget in each process: 50 a second, and two for
    /// each attempt that succeeded, of which up to 100 are saved up. One that finds none left is not lost: it waits a
    /// further pause and asks again, so that a callee which is back is not run over by all who waited.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// How failures of the compensation are tried again; by default for ever, with pauses of up to a minute, and
    /// within a budget as those of the step. When the attempts are used up, the
    /// saga is stuck until an operator acts.
    pub fn compensation_retry(mut self, retry: Retry) -> Self {
        self.undo_retry = retry;
        if let Some(undo) = &mut self.undo {
            undo.retry = retry;
        }
        self
    }

    /// How long one attempt may take, also one of the compensation; by default 30 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        if let Some(undo) = &mut self.undo {
            undo.timeout = timeout;
        }
        self
    }

    async fn perform(self) -> Result<T, SagaError> {
        let name = Arc::clone(&self.name);
        let error = |cause| SagaError::Step { step: name.to_string(), cause };
        let asked = self.cell.ask(Arc::clone(&name), None, self.undo);
        let mut asked = asked.map_err(|taken| error(Failure::bug(taken.to_string())))?;
        let started_at = asked.cell.clock.now();
        let (work, retry, timeout) = (self.work, self.retry, self.timeout);
        let mut attempts = Attempts { work, retry, timeout, started_at, made: 0, not_before: None };
        let outcome = loop {
            match asked.go().await {
                Go::Deliver(outcome) => break outcome,
                Go::Run(start) => {
                    (attempts.made, attempts.not_before) = (start.attempts, start.not_before);
                }
                Go::Refused(failure) => {
                    if attempts.failed(&asked, failure, true) {
                        continue;
                    }
                }
            }
            attempts.make(&asked).await;
        };
        asked.settle();
        match outcome.map_err(error)?.read() {
            Ok(output) => Ok(output),
            Err(unreadable) => {
                asked.cell.break_off(format!("what step `{name}` returned cannot be read: {unreadable}"));
                std::future::pending().await
            }
        }
    }
}

impl<'a, S, T> IntoFuture for Step<'a, S, T>
where
    S: Send + Sync + 'static,
    T: Serialize + DeserializeOwned + Send + 'a,
{
    type Output = Result<T, SagaError>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.perform())
    }
}

/// The attempts at one step.
struct Attempts<'a, S> {
    work: Work<'a, S>,
    retry: Retry,
    timeout: Duration,
    started_at: Timestamp,
    made: u32,
    not_before: Option<Timestamp>,
}

impl<S: Send + Sync> Attempts<'_, S> {
    /// Makes attempts until there is something to report.
    async fn make(&mut self, asked: &Asked<S>) {
        loop {
            if let Some(until) = self.not_before.take() {
                self.wait(asked, until).await;
            }
            self.made += 1;
            let at = asked.attempt(self.made, self.started_at, Deadline::after(self.timeout));
            let deadline = at.deadline;
            let begun = catch_unwind(AssertUnwindSafe(|| (self.work)(at)));
            let produced = match begun {
                Ok(attempt) => guarded(attempt, deadline).await,
                Err(panic) => Err(Failure::panic(&*panic)),
            };
            match produced {
                Ok(produced) => return self.done(asked, produced),
                Err(failure) => {
                    if self.failed(asked, failure, false) {
                        return;
                    }
                }
            }
        }
    }

    /// Waits for a time, then for the retry's turn; or until somebody says that it need not wait.
    async fn wait(&mut self, asked: &Asked<S>, mut until: Timestamp) {
        for turns in 0.. {
            asked.pause(Some(until));
            tokio::select! {
                () = tokio::time::sleep(until_then(asked.cell.clock.now(), until)) => {}
                () = asked.hurried() => return,
            }
            if self.made == 0 {
                return;
            }
            let budget = asked.cell.paces.of(&asked.name);
            let tries = (self.made, turns);
            match pace::turn(&budget, &self.retry, tries, Instant::now(), dice()) {
                Ok(()) => return,
                Err(further) => until = later(&asked.cell.clock, further),
            }
        }
    }

    fn done(&self, asked: &Asked<S>, produced: Produced) {
        // What is still to be committed has succeeded once it is.
        if produced.effect.is_none() {
            asked.cell.paces.succeeded(&asked.name);
        }
        let (step, attempts, started_at) = (asked.name.to_string(), self.made, self.started_at);
        let done = Entry::Done { step, attempts, started_at, output: produced.output };
        asked.report(match produced.effect {
            None => Report::Entry(done),
            Some(effect) => {
                Report::Transact { step: Arc::clone(&asked.name), done, effect: Box::new(effect) }
            }
        });
    }

    /// An attempt failed; whether that is the step's outcome.
    fn failed(&mut self, asked: &Asked<S>, error: Failure, in_commit: bool) -> bool {
        let (step, attempts, started_at) = (asked.name.to_string(), self.made, self.started_at);
        let lost_race = in_commit && error.kind == FaultKind::Conflict;
        let again = (lost_race || error.kind.is_transient()) && self.retry.allows(attempts);
        let pause = self.retry.random_pause(attempts, error.retry_after).filter(|_| again);
        let Some(delay) = pause else {
            asked.report(Report::Entry(Entry::Failed { step, attempts, started_at, error }));
            return true;
        };
        if let Some(seen) = &asked.cell.seen {
            seen.retried.inc();
        }
        if lost_race && attempts <= 3 {
            return false;
        }
        let next = later(&asked.cell.clock, delay);
        self.not_before = Some(next);
        let attempted = Entry::Attempted { step, attempt: attempts, started_at, error, next };
        if worth_a_note(attempts, delay) {
            asked.note(attempted);
        } else {
            asked.cell.keep(attempted);
        }
        false
    }
}

/// Of thousands of failed attempts the first few are journalled, then every eighth, and those with a long pause.
pub(super) fn worth_a_note(attempt: u32, delay: Duration) -> bool {
    attempt <= 3 || attempt.is_multiple_of(8) || delay > super::engine::PARK_AFTER
}

/// Runs user code: until a deadline, and a panic is a failure.
pub(super) async fn guarded<T>(
    work: BoxFuture<'_, Result<T, Failure>>,
    deadline: Deadline,
) -> Result<T, Failure> {
    let caught = AssertUnwindSafe(work).catch_unwind();
    match deadline.enforce(caught).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => Err(Failure::panic(&*panic)),
        Err(_) => Err(Failure::timeout("no answer came in time")),
    }
}

/// How long it is from one time to another; nothing if that is past.
pub(super) fn until_then(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or_default()
}

/// So much later than now.
pub(super) fn later(clock: &Clock, by: Duration) -> Timestamp {
    clock.now().checked_add(by).unwrap_or(Timestamp::MAX)
}
