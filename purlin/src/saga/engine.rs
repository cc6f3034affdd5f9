//! Runs one saga: polls its function, asks the machine what is next, and does that.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::message::Timestamp;
use crate::resilience::Deadline;
use crate::store::{Commit, Query, Record, Recorded, Revision, Row, Store};
use crate::telemetry;

use super::cell::{Cell, Report, sooner};
use super::desk::Mailbox;
use super::journal::{self, Entry, Outcome, Payload};
use super::kind::{Kind, Running};
use super::machine::{Function, Next};
use super::record::{Request, SagaRow};
use super::step::until_then;
use super::writer::{Refused, Stop, Writer};
use super::{Failure, Saga, SagaError, SagaState, Sagas};

/// A saga that only waits, and longer than this, leaves memory.
pub(super) const PARK_AFTER: Duration = Duration::from_secs(30);
/// How long a function may take to ask for what the journal says it asked for.
const REPLAY_PATIENCE: Duration = Duration::from_secs(1);
/// How many events of a journal are read at a time.
const PAGE: usize = 500;
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

/// Runs a saga until it has ended or there is nothing to do for some time.
pub(super) async fn run<S: Send + Sync + 'static>(
    sagas: Sagas<S>,
    id: Uuid,
    mailbox: Arc<Mailbox>,
    shutdown: CancellationToken,
) -> Result<(), Stop> {
    let Some(record) = sagas.store.get_record(SagaRow::COLLECTION, &id.to_string()).await? else {
        return drop_requests(&sagas.store, id).await;
    };
    let row: SagaRow = record.decode()?;
    if row.state.is_over() {
        return drop_requests(&sagas.store, id).await;
    }
    let stream = journal::stream(id).expect("a UUID can be a stream's key");
    let events = read_all(&sagas.store, &stream).await?;
    let trace = events.first().and_then(|event| event.envelope.meta.trace);
    let (store, clock) = (sagas.store.clone(), sagas.clock.clone());
    let asleep = record.due.is_none_or(|due| due > clock.now());
    let writer = Writer {
        store,
        clock,
        shutdown,
        stream,
        version: events.len() as u64,
        row,
        revision: record.revision,
        dirty: false,
        asleep,
        pending: Vec::new(),
        consumed: Vec::new(),
    };
    let work = begin(sagas, id, writer, events, mailbox);
    match trace {
        Some(context) => telemetry::in_trace(context.child(), work).await,
        None => work.await,
    }
}

async fn begin<S: Send + Sync + 'static>(
    sagas: Sagas<S>,
    id: Uuid,
    mut writer: Writer,
    events: Vec<Recorded>,
    mailbox: Arc<Mailbox>,
) -> Result<(), Stop> {
    let entries: Result<Vec<Entry>, _> = events.iter().map(|event| Entry::read(&event.envelope)).collect();
    let entries = match entries {
        Ok(entries) => entries,
        Err(error) => return block(&mut writer, id, format!("the journal cannot be read: {error}")).await,
    };
    let Some(Entry::Started { kind, input, .. }) = entries.first().cloned() else {
        return block(&mut writer, id, "the journal does not begin with the saga's start".to_owned()).await;
    };
    let Some(kind) = sagas.kinds.get(&*kind).cloned() else {
        return block(&mut writer, id, format!("no function is registered for sagas of kind `{kind}`")).await;
    };
    let now = sagas.clock.now();
    let deadline = writer.row.deadline.map(|deadline| Deadline::after(until_then(now, deadline)));
    let cell = Arc::new(Cell::new(id, Arc::clone(&sagas.services), sagas.clock.clone(), deadline));
    if entries.len() > 1 || writer.asleep {
        mailbox.knock();
    }
    for entry in entries {
        cell.feed(entry);
    }
    let shown = Arc::clone(&cell);
    mailbox.show(move || shown.running());
    let function = match (kind.run)(Saga { cell: Arc::clone(&cell) }, &input) {
        Ok(function) => Some(function),
        Err(error) => {
            return block(&mut writer, id, format!("the saga's input cannot be read: {error}")).await;
        }
    };
    let alarm = Arc::new(Alarm::default());
    let mut engine = Engine { writer, cell, kind, input, mailbox, function, returned: None, alarm, deadline };
    let stopped = engine.drive().await;
    // What the function drops now is no event: the next process goes on.
    engine.cell.mute();
    stopped
}

impl<S: Send + Sync + 'static> Engine<S> {
    async fn drive(&mut self) -> Result<(), Stop> {
        loop {
            self.settle().await;
            self.collect().await?;
            if let Some(why) = self.cell.broken() {
                return block(&mut self.writer, self.cell.id, why).await;
            }
            match self.next() {
                Next::Deliver { .. } => {}
                Next::Abandon(steps) => {
                    steps.into_iter().for_each(|step| self.note(Entry::Abandoned { step }));
                }
                Next::Blocked(mismatch) => {
                    if self.function.is_none() || !self.stirs().await? {
                        return block(&mut self.writer, self.cell.id, mismatch.to_string()).await;
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
                    return self.end(outcome).await;
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
                Report::Transact { step, done, effect } => self.transact(&step, done, effect).await?,
            }
        }
        Ok(())
    }

    /// Commits a step's effect together with its outcome.
    async fn transact(&mut self, step: &str, done: Entry, effect: Commit) -> Result<(), Stop> {
        let now = Some(self.writer.clock.now());
        match self.writer.commit(std::slice::from_ref(&done), now, effect).await {
            Ok(_) => self.cell.feed(done),
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

    fn stop_function(&mut self) {
        self.cell.mute();
        self.function = None;
    }

    /// Looks at what was asked from outside, and at the clock; whether there was something to take note of.
    pub(super) async fn attend(&mut self) -> Result<bool, Stop> {
        let mut news = self.unblock();
        if self.mailbox.take() {
            for record in requests(&self.writer.store, self.cell.id).await? {
                news |= self.heed(&record);
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
    fn unblock(&mut self) -> bool {
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
        match record.decode() {
            Ok(Request::Cancel { reason }) if !closing => {
                let cancelled = SagaError::Cancelled { reason }.into();
                let entry = self.cell.with_machine(|machine| machine.close(cancelled));
                self.close(entry);
            }
            Ok(Request::Signal { name, data }) if !closing => match Payload::raw(data) {
                Ok(data) => self.note(Entry::Signalled { name, data }),
                Err(error) => tracing::warn!(saga = %self.cell.id, name, %error, "a signal is not JSON"),
            },
            Ok(Request::Retry) if closing => {
                let row = &mut self.writer.row;
                (row.state, row.reason) = (SagaState::Compensating, None);
                self.writer.dirty = true;
                self.note(Entry::Resumed);
            }
            Ok(request) => tracing::debug!(saga = %self.cell.id, ?request, "too late, or nothing to do"),
            Err(error) => tracing::warn!(saga = %self.cell.id, %error, "a request cannot be read"),
        }
        true
    }

    fn is_closing(&self) -> bool {
        self.cell.with_machine(|machine| machine.is_closing())
    }

    fn is_overdue(&self) -> bool {
        self.writer.is_late() || self.deadline.is_some_and(|deadline| deadline.has_passed())
    }

    /// Waits until something happens, or leaves memory if that is far off.
    async fn wait(&mut self) -> Result<(), Stop> {
        if let Some(idle) = self.cell.idle_until() {
            let wake = sooner(idle, self.writer.row.deadline);
            self.park_if_far(wake).await?;
        }
        tokio::select! {
            () = self.alarm.ring() => Ok(()),
            () = self.mailbox.knocked() => Ok(()),
            () = at(self.deadline) => Ok(()),
            () = self.writer.shutdown.cancelled() => Err(Stop::Shutdown),
        }
    }

    /// Leaves memory if there is nothing to do for long.
    pub(super) async fn park_if_far(&mut self, wake: Option<Timestamp>) -> Result<(), Stop> {
        let now = self.writer.clock.now();
        if wake.is_some_and(|wake| until_then(now, wake) <= PARK_AFTER) || self.mailbox.is_up() {
            return Ok(());
        }
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

/// Takes a saga out of service until its function fits again; nothing of it is harmed.
async fn block(writer: &mut Writer, id: Uuid, why: String) -> Result<(), Stop> {
    let known = writer.row.state == SagaState::Blocked && writer.row.reason.as_ref() == Some(&why);
    let mut effect = Commit::new();
    for record in requests(&writer.store, id).await? {
        if writer.consumed.iter().any(|(key, _)| *key == record.key) {
            continue;
        }
        let expected = Revision::Exact(record.revision);
        match record.decode()? {
            Request::Retry => effect = effect.delete::<Request>(&record.key, expected),
            // It waits, without being found by every look at what is due.
            other if record.due.is_some() => {
                effect = effect.put_expecting(&record.key, &other, expected, None)
            }
            _ => {}
        }
    }
    if known && effect.is_empty() {
        return Err(Stop::Rest);
    }
    tracing::error!(saga = %id, why, "blocked");
    (writer.row.state, writer.row.reason, writer.dirty) = (SagaState::Blocked, Some(why), true);
    match writer.commit(&[], None, effect).await {
        Ok(_) => Err(Stop::Rest),
        Err(Refused::Mine(error)) => Err(Stop::Lost(error)),
        Err(refused) => Err(Stop::Unwritable(refused.into_error())),
    }
}

/// What was asked of a saga from outside and is not taken note of.
async fn requests(store: &Store, id: Uuid) -> Result<Vec<Record>, Stop> {
    let query = Query::all().prefix(format!("{id}/")).limit(100);
    Ok(store.list::<Request>(query).await?.records)
}

/// Nobody will take note of what is asked of a saga that is over.
async fn drop_requests(store: &Store, id: Uuid) -> Result<(), Stop> {
    let mut commit = Commit::new();
    for record in requests(store, id).await? {
        commit = commit.delete::<Request>(&record.key, Revision::Exact(record.revision));
    }
    if !commit.is_empty() {
        store.commit(commit).await.map_err(Stop::Lost)?;
    }
    Ok(())
}

async fn read_all(store: &Store, stream: &crate::store::StreamId) -> Result<Vec<Recorded>, Stop> {
    let mut events = Vec::new();
    loop {
        let page = store.read_stream(stream, events.len() as u64 + 1, PAGE).await?;
        let last = page.len() < PAGE;
        events.extend(page);
        if last {
            return Ok(events);
        }
    }
}
