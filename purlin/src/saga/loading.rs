//! Brings a saga into memory: reads its record and journal, and runs it from there.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::resilience::Deadline;
use crate::store::{Recorded, Row, Store, StreamId};
use crate::telemetry;

use super::cell::Cell;
use super::desk::Mailbox;
use super::engine::Engine;
use super::journal::{self, Entry, Payload};
use super::kind::{Kind, Running};
use super::record::SagaRow;
use super::requests::{block, drop_requests};
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
    let now = sagas.clock.now();
    let deadline = writer.row.deadline.map(|deadline| Deadline::after(until_then(now, deadline)));
    let cell = Arc::new(Cell::new(id, Arc::clone(&sagas.services), sagas.clock.clone(), deadline));
    if events.len() > 1 || writer.asleep {
        mailbox.knock();
    }
    let (kind, input, function) = match understand(&sagas, &events, &cell) {
        Ok(understood) => understood,
        Err(why) => return block(&mut writer, id, &mailbox, why).await,
    };
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
    let entries: Result<Vec<Entry>, _> = events.iter().map(|event| Entry::read(&event.envelope)).collect();
    let entries = entries.map_err(|error| format!("the journal cannot be read: {error}"))?;
    let Some(Entry::Started { kind, input, .. }) = entries.first().cloned() else {
        return Err("the journal does not begin with the saga's start".to_owned());
    };
    let unknown = || format!("no function is registered for sagas of kind `{kind}`");
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
