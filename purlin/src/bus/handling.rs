//! One handling of a message: the handler within its bounds, and its effects on their way into the store.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;

use crate::message::{Fault, FaultKind, TraceContext};
use crate::resilience::{Deadline, DeadlineExceeded, deadline};
use crate::store::{Commit, CommitError, Committed, Conflict, ReadError};
use crate::telemetry;

use super::backoff::Backoff;
use super::{Failure, Group, GroupError, Message};

/// Why a commit was not applied, as what the handling must do about it.
pub(super) enum Refused {
    /// Something was not as expected.
    Conflict(Conflict),
    /// It can never be applied.
    Invalid(CommitError),
    /// The group is to stop, and the store could not be reached before it was.
    Stopped,
}

impl Group {
    /// Runs the handler once: within its time, in a span of the message's trace, its panics caught.
    pub(super) async fn attempt(&self, message: &Message) -> Result<Commit, Failure> {
        let trace = message.meta().trace.map_or_else(TraceContext::root, TraceContext::child);
        let outcome = telemetry::in_trace(trace, self.run_handler(message)).await;
        if let (Err(failure), Some(gauges)) = (&outcome, &self.gauges) {
            gauges.failed(failure.kind);
        }
        outcome.map(|effects| stamp(effects, message, trace))
    }

    async fn run_handler(&self, message: &Message) -> Result<Commit, Failure> {
        let Some(handler) = self.handler(message.subject()) else {
            let reason = format!("the group has no handler for `{}`", message.subject());
            return Err(Failure::new(FaultKind::Bug, reason));
        };
        let left = self.left(message);
        let handled = message.clone();
        let work = AssertUnwindSafe(async move { handler(handled).await }).catch_unwind();
        let outcome = match left {
            // An event is a fact: a late one is handled too, by a handler that is told that it is late.
            Some(Duration::ZERO) => {
                Deadline::after(self.timeout)
                    .enforce(deadline::within(Deadline::after(Duration::ZERO), work))
                    .await
            }
            left => {
                Deadline::after(left.map_or(self.timeout, |left| left.min(self.timeout))).enforce(work).await
            }
        };
        match outcome {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => Err(Failure::panic(&*panic)),
            Err(DeadlineExceeded) => {
                let reason = match left.filter(|left| !left.is_zero() && *left < self.timeout) {
                    Some(left) => {
                        format!("the handler took longer than the {left:?} until the message's deadline")
                    }
                    None => format!("the handler took longer than {:?}", self.timeout),
                };
                Err(Failure::new(FaultKind::Timeout, reason))
            }
        }
    }

    /// How long it is until the message's deadline: zero once it has passed, none without one.
    fn left(&self, message: &Message) -> Option<Duration> {
        let left = message.deadline()?.duration_since(self.clock.now());
        Some(Duration::try_from(left).unwrap_or(Duration::ZERO))
    }

    /// Applies a commit; a store that cannot take it at the moment is asked until it can, or until the group stops.
    pub(super) async fn apply(
        &self,
        commit: &Commit,
        shutdown: &CancellationToken,
    ) -> Result<Committed, Refused> {
        let mut backoff = Backoff::store();
        loop {
            let error = match self.store.commit(commit.clone()).await {
                Ok(committed) => return Ok(committed),
                Err(CommitError::Conflict(conflict)) => return Err(Refused::Conflict(conflict)),
                Err(error @ (CommitError::Invalid(_) | CommitError::Forgotten(_))) => {
                    return Err(Refused::Invalid(error));
                }
                Err(error) => error,
            };
            self.wait_for_store(&error, &mut backoff, shutdown).await.map_err(|Stopped| Refused::Stopped)?;
        }
    }

    /// Reads from the group's store, asking again like [`Group::apply`]; none when the group stops.
    pub(super) async fn read<T, Fut>(
        &self,
        shutdown: &CancellationToken,
        read: impl Fn() -> Fut,
    ) -> Result<Option<T>, GroupError>
    where
        Fut: Future<Output = Result<T, ReadError>>,
    {
        let mut backoff = Backoff::store();
        loop {
            match read().await {
                Ok(found) => return Ok(Some(found)),
                Err(error) if error.kind().is_transient() => {
                    if self.wait_for_store(&error, &mut backoff, shutdown).await.is_err() {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits before the store is asked again, or says that the group is to stop.
    pub(super) async fn wait_for_store(
        &self,
        error: &(impl std::error::Error + Sync + 'static),
        backoff: &mut Backoff,
        shutdown: &CancellationToken,
    ) -> Result<(), Stopped> {
        tracing::warn!(
            group = &*self.name,
            error = error as &dyn std::error::Error,
            "the group waits for its store"
        );
        tokio::select! {
            biased;
            () = shutdown.cancelled() => Err(Stopped),
            _ = backoff.pause() => Ok(()),
        }
    }
}

/// The group is to stop.
pub(super) struct Stopped;

/// Says on every event of the effects which message caused it.
fn stamp(mut effects: Commit, message: &Message, trace: TraceContext) -> Commit {
    for event in effects.appends.iter_mut().flat_map(|append| &mut append.events) {
        event.meta.trace.get_or_insert(trace);
        event.meta.causation.get_or_insert(message.id());
        event.meta.correlation.get_or_insert(message.correlation());
        // What a message brings about is of use no longer than the message.
        if let (Some(own), Some(cause)) = (event.meta.deadline, message.deadline()) {
            event.meta.deadline = Some(own.min(cause));
        }
    }
    effects
}
