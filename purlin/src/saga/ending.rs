//! The second half of a saga's life: undoing what is to be undone, and the end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::message::{FaultKind, Timestamp};
use crate::resilience::{Deadline, Retry, dice};
use crate::store::Commit;

use super::engine::Engine;
use super::journal::{Entry, Outcome, Payload};
use super::pace;
use super::record::Request;
use super::requests::Asked;
use super::step::{COMPENSATION_RETRY, guarded, later, until_then, worth_a_note};
use super::writer::{Refused, Stop};
use super::{At, Failure, SagaState};

/// How long the hook at a saga's end may take.
const END_TIMEOUT: Duration = Duration::from_secs(30);
/// After so many attempts at the end a saga counts as stuck, though it is tried on.
const END_ATTEMPTS: u32 = 8;
/// So often an end that lost a race is tried again at once.
const QUICK_ATTEMPTS: u32 = 3;

impl<S: Send + Sync + 'static> Engine<S> {
    /// Tries once to undo a step, when it is time.
    pub(super) async fn undo(
        &mut self,
        step: String,
        output: Option<Payload>,
        attempts: u32,
        not_before: Option<Timestamp>,
    ) -> Result<(), Stop> {
        self.writer.flush().await?;
        if !self.is_time(not_before).await? {
            return Ok(());
        }
        let pace = format!("undo {step}");
        let turn = self.cell.undo(&step, |undo| self.turn(&pace, undo.retry, attempts));
        if let Some(Err(further)) = turn {
            return self.is_time(Some(later(&self.writer.clock, further))).await.map(drop);
        }
        let (services, key) = (Arc::clone(&self.cell.services), self.cell.key(&step));
        let attempt = attempts.saturating_add(1);
        let called = self.cell.undo(&step, |undo| {
            let deadline = Deadline::after(undo.timeout);
            let at = At { services, key, attempt, deadline };
            (undo.call(at, output), deadline, undo.retry)
        });
        let (call, deadline, retry) = called.expect("the machine undoes only what registered a compensation");
        let outcome = tokio::select! {
            outcome = guarded(call, deadline) => outcome,
            () = self.writer.shutdown.cancelled() => return Err(Stop::Shutdown),
        };
        match outcome {
            Ok(()) => {
                self.cell.paces.succeeded(&pace);
                self.cell.forget();
                self.note(Entry::Undone { step, attempts: attempt });
            }
            Err(error) => self.not_undone(step, attempt, error, retry),
        }
        Ok(())
    }

    /// Whether it is the turn of a retry at undoing a step.
    fn turn(&self, pace: &str, retry: Retry, failed: u32) -> Result<(), Duration> {
        if failed == 0 {
            return Ok(());
        }
        pace::turn(&self.cell.paces.of(pace), &retry, (failed, 0), Instant::now(), dice())
    }

    /// Waits for the next attempt's time; false if something else came up.
    async fn is_time(&mut self, not_before: Option<Timestamp>) -> Result<bool, Stop> {
        let Some(not_before) = not_before else { return Ok(true) };
        self.park_if_far(Some(not_before)).await?;
        let pause = until_then(self.writer.clock.now(), not_before);
        let pressed = self.pressed(Some(Some(not_before)));
        tokio::select! {
            () = tokio::time::sleep(pause) => return Ok(true),
            () = self.mailbox.knocked() => return Ok(false),
            () = self.writer.shutdown.cancelled() => return Err(Stop::Shutdown),
            () = pressed => {}
        }
        self.park(Some(not_before)).await.map(|()| false)
    }

    fn not_undone(&mut self, step: String, attempt: u32, error: Failure, retry: Retry) {
        tracing::warn!(saga = %self.cell.id, step, attempt, %error, "a step is not undone yet");
        self.cell.forget();
        if !retry.allows(attempt) {
            self.mark_stuck(format!("step `{step}` could not be undone in {attempt} attempts: {error}"));
            self.note(Entry::Stuck { step, attempts: attempt, error });
            return;
        }
        if self.writer.is_late() {
            self.mark_stuck(format!("the deadline is past, and step `{step}` is not undone yet: {error}"));
        }
        // What is to be undone is to be undone, also if the callee says never.
        let delay = retry.random_pause(attempt, error.retry_after).unwrap_or(retry.max_delay);
        let next = later(&self.writer.clock, delay);
        self.try_again(Entry::UndoAttempted { step, attempt, error, next }, worth_a_note(attempt, delay));
    }

    /// Something failed and is tried again: that is journalled, or only kept.
    fn try_again(&mut self, entry: Entry, journalled: bool) {
        if let Some(seen) = &self.cell.seen {
            seen.retried.inc();
        }
        if journalled {
            return self.note(entry);
        }
        self.cell.feed(entry.clone());
        self.cell.keep(entry);
    }

    /// Lists the saga as stuck; whether it is still tried is another matter.
    fn mark_stuck(&mut self, reason: String) {
        let row = &mut self.writer.row;
        if row.state != SagaState::Stuck || row.reason.as_ref() != Some(&reason) {
            tracing::error!(saga = %self.cell.id, reason, "stuck");
            (row.state, row.reason, self.writer.dirty) = (SagaState::Stuck, Some(reason), true);
        }
    }

    /// Leaves memory until an operator says that it may go on.
    pub(super) async fn rest_stuck(&mut self, step: &str, error: &Failure) -> Result<(), Stop> {
        if self.writer.row.state != SagaState::Stuck {
            self.mark_stuck(format!("step `{step}` could not be undone: {error}"));
        }
        self.writer.flush_due(None).await?;
        Err(Stop::Rest)
    }

    /// Tries to commit the end, together with what the hook wants to be committed with it, when it is time; whether
    /// that is done.
    pub(super) async fn end(&mut self, outcome: Outcome) -> Result<bool, Stop> {
        let (mut attempt, not_before) = self.cell.with_machine(|machine| machine.ending());
        if not_before.is_some() {
            if self.hear_late().await? {
                return Ok(false);
            }
            self.writer.flush().await?;
            if !self.is_time(not_before).await? {
                return Ok(false);
            }
        }
        loop {
            attempt = attempt.saturating_add(1);
            let Some(failure) = self.commit_end(&outcome).await? else { break };
            if failure.kind != FaultKind::Conflict || attempt > QUICK_ATTEMPTS {
                self.not_ended(attempt, failure);
                return Ok(false);
            }
        }
        let state = self.writer.row.state;
        tracing::info!(saga = %self.cell.id, state = state.as_str(), "ended");
        if let Some(seen) = &self.cell.seen {
            seen.ended.with([&*self.writer.row.kind, state.as_str()]).inc();
        }
        Ok(true)
    }

    /// Tries once; gives why it failed, if it did.
    async fn commit_end(&mut self, outcome: &Outcome) -> Result<Option<Failure>, Stop> {
        let effect = match self.hook(outcome).await? {
            Ok(effect) => effect,
            Err(failure) => return Ok(Some(failure)),
        };
        let before = self.writer.row.clone();
        self.set_over(outcome);
        match self.writer.commit(&[Entry::Ended { outcome: outcome.clone() }], None, effect).await {
            Ok(_) => Ok(None),
            Err(Refused::Mine(error)) => Err(Stop::Lost(error)),
            Err(refused) => {
                self.writer.row = before;
                Ok(Some(Failure::of(&refused.into_error())))
            }
        }
    }

    /// The end cannot be committed now: it is tried again after a pause.
    fn not_ended(&mut self, attempt: u32, error: Failure) {
        tracing::warn!(saga = %self.cell.id, attempt, %error, "the end cannot be committed yet");
        if attempt >= END_ATTEMPTS || self.writer.is_late() {
            self.mark_stuck(format!("the end cannot be committed yet: {error}"));
        }
        self.cell.forget();
        let delay = COMPENSATION_RETRY.delay(attempt, dice());
        let next = later(&self.writer.clock, delay);
        self.try_again(Entry::EndAttempted { attempt, error, next }, worth_a_note(attempt, delay));
    }

    /// For a saga whose outcome is known all requests are too late, but the one to try its end again; whether there
    /// was one.
    async fn hear_late(&mut self) -> Result<bool, Stop> {
        let mut news = self.unblock();
        if !self.mailbox.take() {
            return Ok(news);
        }
        let mut asked = Asked::of(self.cell.id);
        while let Some(records) = asked.next(&self.writer.store).await? {
            for record in records {
                if let Ok(Request::Retry) = record.decode().map(Request::asked) {
                    self.resume();
                    news = true;
                }
                self.writer.consume(record.key, record.revision);
                self.writer.relieve().await?;
            }
        }
        Ok(news)
    }

    async fn hook(&mut self, outcome: &Outcome) -> Result<Result<Commit, Failure>, Stop> {
        let Some(hook) = &self.kind.end else { return Ok(Ok(Commit::new())) };
        let services = Arc::clone(&self.cell.services);
        let begun = catch_unwind(AssertUnwindSafe(|| hook(services, &self.input, outcome)));
        let begun = match begun {
            Ok(begun) => begun,
            Err(panic) => return Ok(Err(Failure::panic(&*panic))),
        };
        tokio::select! {
            commit = guarded(begun, Deadline::after(END_TIMEOUT)) => Ok(commit),
            () = self.writer.shutdown.cancelled() => Err(Stop::Shutdown),
        }
    }

    fn set_over(&mut self, outcome: &Outcome) {
        let now = self.writer.clock.now();
        let row = &mut self.writer.row;
        (row.reason, row.ended_at, self.writer.dirty) = (None, Some(now), true);
        row.pauses.clear();
        match outcome {
            Outcome::Completed(_) => row.state = SagaState::Completed,
            Outcome::Failed(error) => (row.state, row.error) = (SagaState::Failed, Some(error.clone())),
        }
    }
}
