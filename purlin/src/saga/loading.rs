//! Brings a saga into memory: reads its record and journal, and runs it from there.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::bus::chain;
use crate::resilience::Deadline;
use crate::store::{Record, Recorded, Row, Store, StreamId};
use crate::telemetry;

use super::cell::Cell;
use super::desk::Mailbox;
use super::engine::Engine;
use super::journal::{self, Entry, Payload};
use super::kind::{Kind, Running};
use super::record::SagaRow;
use super::requests::{block, drop_requests, keep_early};
use super::step::until_then;
use super::writer::{Stop, Writer};
use super::{Saga, Sagas};

/// How many events of a journal are read at a time.
const PAGE: usize = 500;

/// Runs a saga until it has ended or there is nothing to do for some time.
pub(super) async fn run<S: Send + Sync + 'static>(
    sagas: Sagas<S>,
    id: Uuid,
    mailbox: Arc<Mailbox>,
    shutdown: CancellationToken,
) -> Result<(), Stop> {
    let Some(record) = sagas.store.get_record(SagaRow::COLLECTION, &id.to_string()).await? else {
        return keep_early(&sagas.store, id, sagas.clock.now()).await;
    };
    let row: SagaRow = record.decode()?;
    if row.state.is_over() {
        return drop_requests(&sagas.store, id).await;
    }
    // Another program, an older one or a newer one, has the function: to it the saga is left as it is.
    if !sagas.kinds.contains_key(&*row.kind) {
        return Err(Stop::Foreign(row.kind));
    }
    let mut writer = writer(&sagas, id, &record, row, shutdown);
    let events = read_all(&sagas.store, &writer.stream).await?;
    writer.version = events.len() as u64;
    let trace = events.first().and_then(|event| event.envelope.meta.trace);
    let work = begin(sagas, id, writer, events, mailbox);
    match trace {
        Some(context) => telemetry::in_trace(context.child(), work).await,
        None => work.await,
    }
}

/// Takes a saga out of service that cannot be run: it is listed, and tried again when a program starts or an operator
/// says so.
pub(super) async fn set_aside<S: Send + Sync + 'static>(
    sagas: Sagas<S>,
    id: Uuid,
    mailbox: Arc<Mailbox>,
    shutdown: CancellationToken,
    why: String,
) -> Result<(), Stop> {
    let Some(record) = sagas.store.get_record(SagaRow::COLLECTION, &id.to_string()).await? else {
        return Ok(());
    };
    let row: SagaRow = record.decode()?;
    if row.state.is_over() {
        return Ok(());
    }
    let mut writer = writer(&sagas, id, &record, row, shutdown);
    block(&mut writer, id, &mailbox, why).await
}

/// The writer of a saga whose journal has not been read yet.
fn writer<S>(
    sagas: &Sagas<S>,
    id: Uuid,
    record: &Record,
    row: SagaRow,
    shutdown: CancellationToken,
) -> Writer {
    let (store, clock) = (sagas.store.clone(), sagas.clock.clone());
    let stream = journal::stream(id).expect("a UUID can be a stream's key");
    let asleep = record.due.is_none_or(|due| due > clock.now());
    Writer {
        store,
        clock,
        shutdown,
        stream,
        version: 0,
        row,
        revision: record.revision,
        dirty: false,
        asleep,
        pending: Vec::new(),
        weight: 0,
        consumed: Vec::new(),
    }
}

async fn begin<S: Send + Sync + 'static>(
    sagas: Sagas<S>,
    id: Uuid,
    mut writer: Writer,
    events: Vec<Recorded>,
    mailbox: Arc<Mailbox>,
) -> Result<(), Stop> {
    let now = sagas.clock.now();
    let deadline = writer.row.deadline.map(|deadline| Deadline::after(until_then(now, deadline)));
    let cell = Arc::new(Cell::new(id, &writer.row.kind, &sagas, deadline));
    // Even of a saga that has just been started something may have been asked already.
    mailbox.knock();
    let (kind, input, function) = match understand(&sagas, &events, &cell) {
        Ok(understood) => understood,
        Err(why) => return block(&mut writer, id, &mailbox, why).await,
    };
    for pause in std::mem::take(&mut writer.row.pauses) {
        cell.feed(pause.clone());
        cell.keep(pause);
    }
    let shown = Arc::clone(&cell);
    mailbox.show(move || shown.running());
    Engine::new(writer, cell, kind, (input, function), mailbox).drive().await
}

/// Feeds the journal, and finds the function that it is the journal of; or says why that cannot be done.
fn understand<S: Send + Sync + 'static>(
    sagas: &Sagas<S>,
    events: &[Recorded],
    cell: &Arc<Cell<S>>,
) -> Result<(Arc<Kind<S>>, Payload, Running), String> {
    let entries: Result<Vec<Entry>, _> = events.iter().map(Entry::read).collect();
    let entries = entries.map_err(|error| format!("the journal cannot be read: {}", chain(&error)))?;
    let Some(Entry::Started { kind, input, .. }) = entries.first().cloned() else {
        return Err("the journal does not begin with the saga's start".to_owned());
    };
    let unknown =
        || format!("the journal is that of a saga of kind `{kind}`, for which no function is registered");
    let kind = Arc::clone(sagas.kinds.get(&*kind).ok_or_else(unknown)?);
    let function = (kind.run)(Saga { cell: Arc::clone(cell) }, &input)
        .map_err(|error| format!("the saga's input cannot be read: {error}"))?;
    entries.into_iter().for_each(|entry| cell.feed(entry));
    Ok((kind, input, function))
}

async fn read_all(store: &Store, stream: &StreamId) -> Result<Vec<Recorded>, Stop> {
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
