//! Runs one saga: polls its function, asks the machine what is next, and does that.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::task::AtomicWaker;

use crate::message::Timestamp;
use crate::resilience::Deadline;
use crate::store::{Commit, Record};

use super::cell::{Cell, Report, sooner};
use super::desk::Mailbox;
use super::journal::{Entry, Outcome, Payload};
use super::kind::{Kind, Running};
use super::machine::{Function, Next};
use super::record::Request;
use super::requests::{Asked, block};
use super::step::until_then;
use super::writer::{Refused, Stop, Writer};
use super::{Failure, SagaError, SagaState};

/// A saga that only waits, and longer than this, leaves memory.
pub(super) const PARK_AFTER: Duration = Duration::from_secs(30);
/// One that only waits, and longer than this, leaves memory when others want to come in. Shorter pauses, the first ones
/// after a failure, are not worth it: to be found again takes about as long.
const YIELD_AFTER: Duration = Duration::from_secs(1);
/// How long a function may take to ask for what the journal says it asked for.
const REPLAY_PATIENCE: Duration = Duration::from_secs(1);
/// How often a function that keeps waking itself is polled before it counts as standing still.
const ROUNDS: usize = 64;

/// One saga in memory.
pub(super) struct Engine<S> {
    pub(super) writer: Writer,
    pub(super) cell: Arc<Cell<S>>,
    pub(super) kind: Arc<Kind<S>>,
    pub(super) input: Payload,
    pub(super) mailbox: Arc<Mailbox>,
    function: Option<Running>,
    returned: Option<Outcome>,
    alarm: Arc<Alarm>,
    deadline: Option<Deadline>,
}

impl<S: Send + Sync + 'static> Engine<S> {
    pub(super) fn new(
        writer: Writer,
        cell: Arc<Cell<S>>,
        kind: Arc<Kind<S>>,
        begun: (Payload, Running),
        mailbox: Arc<Mailbox>,
    ) -> Self {
        let (input, function) = begun;
        let (deadline, alarm) = (cell.deadline, Arc::new(Alarm::default()));
        Self { writer, cell, kind, input, mailbox, function: Some(function), returned: None, alarm, deadline }
    }

    /// Goes on until the saga is over, or there is nothing to do for some time.
    pub(super) async fn drive(&mut self) -> Result<(), Stop> {
        loop {
            self.settle().await;
            self.collect().await?;
            if let Some(why) = self.cell.broken() {
                return block(&mut self.writer, self.cell.id, &self.mailbox, why).await;
            }
            match self.next() {
                Next::Deliver { .. } => {}
                Next::Abandon(steps) => {
                    for step in steps {
                        self.note(Entry::Abandoned { step });
                        self.writer.relieve().await?;
                    }
                }
                Next::Blocked(mismatch) => {
                    if self.function.is_none() || !self.stirs().await? {
                        return block(&mut self.writer, self.cell.id, &self.mailbox, mismatch.to_string())
                            .await;
                    }
                }
                Next::Run(starts) => {
                    if !self.attend().await? {
                        self.writer.flush().await?;
                        self.cell.start(starts);
                    }
                }
                Next::Wait => {
                    if !self.attend().await? {
                        self.writer.flush().await?;
                        self.wait().await?;
                    }
                }
                Next::Close(entry) => self.close(entry),
                Next::Compensate { step, output, attempts, not_before } => {
                    self.stop_function();
                    if !self.attend().await? {
                        self.undo(step, output, attempts, not_before).await?;
                    }
                }
                Next::Stuck { step, error } => {
                    self.stop_function();
                    if !self.attend().await? {
                        return self.rest_stuck(&step, &error).await;
                    }
                }
                Next::End(outcome) => {
                    self.stop_function();
                    if self.end(outcome).await? {
                        return Ok(());
                    }
                }
                Next::Over => return Ok(()),
            }
        }
    }

    fn next(&self) -> Next {
        self.cell.next(match (&self.function, &self.returned) {
            (Some(_), _) => Function::Waits,
            (None, Some(outcome)) => Function::Returned(outcome),
            (None, None) => Function::Gone,
        })
    }

    /// Polls the function until it stands still or has returned.
    async fn settle(&mut self) {
        let Some(function) = &mut self.function else { return };
        let (alarm, mut rounds) = (Arc::clone(&self.alarm), 0);
        let waker = Waker::from(Arc::clone(&alarm));
        let returned = std::future::poll_fn(|context| {
            alarm.outer.register(context.waker());
            alarm.rung.store(false, Ordering::Release);
            let polled = AssertUnwindSafe(|| function.as_mut().poll(&mut Context::from_waker(&waker)));
            match catch_unwind(polled) {
                Ok(Poll::Ready(returned)) => Poll::Ready(Some(returned)),
                Ok(Poll::Pending) if alarm.is_rung() && rounds < ROUNDS => {
                    rounds += 1;
                    context.waker().wake_by_ref();
                    Poll::Pending
                }
                Ok(Poll::Pending) => Poll::Ready(None),
                Err(panic) => Poll::Ready(Some(Err(Failure::panic(&*panic).into()))),
            }
        })
        .await;
        if let Some(returned) = returned {
            self.function = None;
            self.returned = Some(match returned {
                Ok(output) => Outcome::Completed(output),
                Err(error) => Outcome::Failed(error),
            });
        }
    }

    /// Takes note of what running steps have said.
    async fn collect(&mut self) -> Result<(), Stop> {
        for report in self.cell.take_reports() {
            match report {
                Report::Entry(entry) => self.note(entry),
                Report::Transact { step, done, effect } => self.transact(&step, done, *effect).await?,
            }
            self.writer.relieve().await?;
        }
        Ok(())
    }

    /// Commits a step's effect together with its outcome.
    async fn transact(&mut self, step: &str, done: Entry, effect: Commit) -> Result<(), Stop> {
        let now = Some(self.writer.clock.now());
        match self.writer.commit(std::slice::from_ref(&done), now, effect).await {
            Ok(_) => {
                self.cell.paces.succeeded(step);
                self.cell.feed(done);
            }
            Err(Refused::Mine(error)) => return Err(Stop::Lost(error)),
            Err(refused) => self.cell.refuse(step, Failure::of(&refused.into_error())),
        }
        Ok(())
    }

    /// Writes an entry down and lets the machine know.
    pub(super) fn note(&mut self, entry: Entry) {
        self.cell.feed(entry.clone());
        self.writer.note(entry);
    }

    /// No step starts from here on.
    fn close(&mut self, entry: Entry) {
        self.stop_function();
        self.cell.forget();
        if let Entry::Compensating { outcome, undo } = &entry {
            let row = &mut self.writer.row;
            if let Outcome::Failed(error) = outcome {
                row.error = Some(error.clone());
            }
            if !undo.is_empty() {
                row.state = SagaState::Compensating;
            }
            self.writer.dirty = true;
            tracing::info!(saga = %self.cell.id, undo = undo.len(), "compensating");
        }
        self.note(entry);
    }

    /// What the function drops now is undone in any case: that it was dropped is no event.
    fn stop_function(&mut self) {
        self.function = None;
    }

    /// Looks at what was asked from outside, and at the clock; whether there was something to take note of.
    pub(super) async fn attend(&mut self) -> Result<bool, Stop> {
        let mut news = self.unblock();
        if self.mailbox.take() {
            let mut asked = Asked::of(self.cell.id);
            while let Some(records) = asked.next(&self.writer.store).await? {
                for record in &records {
                    news |= self.heed(record);
                    self.writer.relieve().await?;
                }
            }
        }
        if !self.is_closing() && self.is_overdue() {
            let entry = self.cell.with_machine(|machine| machine.close(SagaError::Deadline.into()));
            self.close(entry);
            news = true;
        }
        Ok(news)
    }

    /// The function fits the journal again.
    pub(super) fn unblock(&mut self) -> bool {
        if self.writer.row.state != SagaState::Blocked {
            return false;
        }
        let closing = self.is_closing();
        let row = &mut self.writer.row;
        row.state = if closing { SagaState::Compensating } else { SagaState::Running };
        (row.reason, self.writer.dirty) = (None, true);
        self.note(Entry::Resumed);
        true
    }

    fn heed(&mut self, record: &Record) -> bool {
        if self.writer.consumed.iter().any(|(key, _)| *key == record.key) {
            return false;
        }
        self.writer.consume(record.key.clone(), record.revision);
        let closing = self.is_closing();
        match record.decode().map(Request::asked) {
            Ok(Request::Cancel { reason }) if !closing => {
                let cancelled = SagaError::Cancelled { reason }.into();
                let entry = self.cell.with_machine(|machine| machine.close(cancelled));
                self.close(entry);
            }
            Ok(Request::Signal { name, data }) if !closing => match Payload::raw(data) {
                Ok(data) => self.note(Entry::Signalled { name, data }),
                Err(error) => tracing::warn!(saga = %self.cell.id, name, %error, "a signal is not JSON"),
            },
            Ok(Request::Retry) => self.resume(),
            Ok(_) => {
                tracing::debug!(saga = %self.cell.id, request = record.key, "too late, or nothing to do");
            }
            Err(error) => tracing::warn!(saga = %self.cell.id, %error, "a request cannot be read"),
        }
        true
    }

    /// Somebody says that it is to be tried again, now.
    pub(super) fn resume(&mut self) {
        let closing = self.is_closing();
        let row = &mut self.writer.row;
        row.state = if closing { SagaState::Compensating } else { SagaState::Running };
        (row.reason, self.writer.dirty) = (None, true);
        self.cell.hurry();
        self.note(Entry::Resumed);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.cell.with_machine(|machine| machine.is_closing())
    }

    fn is_overdue(&self) -> bool {
        self.writer.is_late() || self.deadline.is_some_and(|deadline| deadline.has_passed())
    }

    /// Waits until something happens, or leaves memory if that is far off.
    async fn wait(&mut self) -> Result<(), Stop> {
        let idle = self.cell.idle_until().map(|idle| sooner(idle, self.writer.row.deadline));
        if let Some(wake) = idle {
            self.park_if_far(wake).await?;
        }
        let pressed = self.pressed(idle);
        tokio::select! {
            () = self.alarm.ring() => return Ok(()),
            () = self.mailbox.knocked() => return Ok(()),
            () = at(self.deadline) => return Ok(()),
            () = self.writer.shutdown.cancelled() => return Err(Stop::Shutdown),
            () = pressed => {}
        }
        self.park(idle.flatten()).await
    }

    /// Leaves memory if there is nothing to do for long.
    pub(super) async fn park_if_far(&mut self, wake: Option<Timestamp>) -> Result<(), Stop> {
        if self.is_near(wake, PARK_AFTER) || self.mailbox.is_up() {
            return Ok(());
        }
        self.park(wake).await
    }

    /// Waits until others want the memory of a saga that only waits; never for one that is at work, or about to be.
    pub(super) fn pressed(
        &self,
        idle: Option<Option<Timestamp>>,
    ) -> impl Future<Output = ()> + Send + use<S> {
        let (mailbox, stays) =
            (Arc::clone(&self.mailbox), idle.is_none_or(|wake| self.is_near(wake, YIELD_AFTER)));
        async move { if stays { std::future::pending().await } else { mailbox.crowded().await } }
    }

    fn is_near(&self, wake: Option<Timestamp>, span: Duration) -> bool {
        wake.is_some_and(|wake| until_then(self.writer.clock.now(), wake) <= span)
    }

    /// Leaves memory until a time, with what it must know then.
    pub(super) async fn park(&mut self, wake: Option<Timestamp>) -> Result<(), Stop> {
        self.writer.row.pauses = self.cell.kept();
        self.writer.dirty = true;
        self.writer.flush_due(wake).await?;
        Err(Stop::Rest)
    }

    /// Whether the function, which should not be waiting, moves after all.
    async fn stirs(&mut self) -> Result<bool, Stop> {
        tokio::select! {
            biased;
            () = self.alarm.ring() => Ok(true),
            () = self.writer.shutdown.cancelled() => Err(Stop::Shutdown),
            () = tokio::time::sleep(REPLAY_PATIENCE) => Ok(false),
        }
    }
}

/// Says whether the function was woken since it was polled.
#[derive(Default)]
struct Alarm {
    rung: AtomicBool,
    outer: AtomicWaker,
}

impl Alarm {
    fn is_rung(&self) -> bool {
        self.rung.load(Ordering::Acquire)
    }

    async fn ring(&self) {
        std::future::poll_fn(|context| {
            self.outer.register(context.waker());
            if self.is_rung() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.outer.wake();
    }
}

/// A time that may never come.
async fn at(time: Option<Deadline>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.instant()).await,
        None => std::future::pending().await,
    }
}
