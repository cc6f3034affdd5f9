//! Waiting: for time to pass, or for somebody outside.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::message::{FaultKind, Timestamp};
use crate::store::BoxFuture;

use super::cell::{Asked, Cell, Go, Report};
use super::journal::{Entry, Payload};
use super::machine::{NameTaken, Start};
use super::step::until_then;
use super::{Failure, SagaError};

/// The code of the failure that a wait for a signal ends with when none came.
const NO_SIGNAL: &str = "no-signal";

/// Waits until time has passed, in however many processes.
pub(super) async fn sleep<S: Send + Sync + 'static>(
    cell: Arc<Cell<S>>,
    duration: Duration,
) -> Result<(), SagaError> {
    let name = cell.free_name("sleep");
    let mut asked = cell.ask(name, None, None).map_err(|name| taken(&name))?;
    loop {
        match asked.go().await {
            Go::Run(start) => {
                let until = end_of_wait(&asked, &start, duration);
                asked.pause(Some(until));
                tokio::time::sleep(until_then(asked.cell.clock.now(), until)).await;
                let (step, started_at) = (asked.name.to_string(), asked.cell.clock.now());
                let done = Entry::Done { step, attempts: 1, started_at, output: Payload::null() };
                asked.report(Report::Entry(done));
            }
            Go::Deliver(_) | Go::Refused(_) => {
                asked.settle();
                return Ok(());
            }
        }
    }
}

/// A wait for a message from outside; awaiting it waits until the saga's deadline.
#[must_use = "a wait does nothing until it is awaited"]
pub struct Signal<S, T> {
    cell: Arc<Cell<S>>,
    name: String,
    data: PhantomData<fn() -> T>,
}

/// A wait for a message from outside that gives up after some time.
#[must_use = "a wait does nothing until it is awaited"]
pub struct SignalWithin<S, T> {
    signal: Signal<S, T>,
    patience: Duration,
}

impl<S, T> Signal<S, T>
where
    S: Send + Sync + 'static,
    T: DeserializeOwned + Send + 'static,
{
    pub(super) fn new(cell: Arc<Cell<S>>, name: String) -> Self {
        Self { cell, name, data: PhantomData }
    }

    /// Waits no longer than this; then there is none.
    pub fn within(self, patience: Duration) -> SignalWithin<S, T> {
        SignalWithin { signal: self, patience }
    }

    async fn wait(self, patience: Option<Duration>) -> Result<Option<T>, SagaError> {
        let name = self.cell.free_name(&format!("signal {}", self.name));
        let mut asked =
            self.cell.ask(Arc::clone(&name), Some(self.name), None).map_err(|name| taken(&name))?;
        let outcome = loop {
            let start = match asked.go().await {
                Go::Run(start) => start,
                Go::Deliver(outcome) => break outcome,
                Go::Refused(failure) => break Err(failure),
            };
            let Some(patience) = patience else {
                asked.pause(None);
                continue;
            };
            let until = end_of_wait(&asked, &start, patience);
            asked.pause(Some(until));
            let over = tokio::time::sleep(until_then(asked.cell.clock.now(), until));
            tokio::select! {
                biased;
                Go::Deliver(outcome) = asked.go() => break outcome,
                () = over => asked.report(Report::Entry(no_signal(&asked))),
            }
        };
        asked.settle();
        match outcome {
            Err(failure) if failure.code == NO_SIGNAL => Ok(None),
            Err(cause) => Err(SagaError::Step { step: name.to_string(), cause }),
            Ok(data) => match data.read() {
                Ok(data) => Ok(Some(data)),
                Err(error) => {
                    let message = format!("the signal's data do not fit its type: {error}");
                    let cause = Failure::new(FaultKind::Rejected, "unreadable-signal", message);
                    Err(SagaError::Step { step: name.to_string(), cause })
                }
            },
        }
    }
}

impl<S, T> IntoFuture for Signal<S, T>
where
    S: Send + Sync + 'static,
    T: DeserializeOwned + Send + 'static,
{
    type Output = Result<T, SagaError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            match self.wait(None).await? {
                Some(data) => Ok(data),
                None => std::future::pending().await,
            }
        })
    }
}

impl<S, T> IntoFuture for SignalWithin<S, T>
where
    S: Send + Sync + 'static,
    T: DeserializeOwned + Send + 'static,
{
    type Output = Result<Option<T>, SagaError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.signal.wait(Some(self.patience)))
    }
}

/// When a wait ends: as journalled, or from now on.
fn end_of_wait<S>(asked: &Asked<S>, start: &Start, duration: Duration) -> Timestamp {
    if let Some(until) = start.not_before {
        return until;
    }
    let until = asked.cell.clock.now().checked_add(duration).unwrap_or(Timestamp::MAX);
    asked.note(Entry::Waiting { step: asked.name.to_string(), until });
    until
}

fn no_signal<S>(asked: &Asked<S>) -> Entry {
    let (step, started_at) = (asked.name.to_string(), asked.cell.clock.now());
    let error = Failure::new(FaultKind::Timeout, NO_SIGNAL, "no signal came in time");
    Entry::Failed { step, attempts: 1, started_at, error }
}

fn taken(taken: &NameTaken) -> SagaError {
    SagaError::GaveUp(Failure::bug(taken.to_string()))
}
