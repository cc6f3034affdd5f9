//! Events a second, read from the first on and decoded. The limit decodes the same JSON from memory.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use purlin::store::{LogFilter, Position, Store};
use purlin_bench::append::{BEFORE, Load, payload};
use purlin_bench::{Comparison, Reading, Session, Unit};
use serde::Deserialize;
use tokio::runtime::Runtime;

use super::BENCH;
use super::order::{OrderEvent, Price};
use super::postgres::{Cqrs, Disintegrate, Postgres};
use super::sqlite::Fjall;

/// Events that are read at once.
const PAGE: usize = 1000;

pub(crate) fn run(session: &mut Session, runtime: &Runtime, postgres: &mut Postgres) -> Result<()> {
    let memory = Memory::new();
    if session.wants("replay memory") {
        let load = Load::new(runtime, Store::memory())?;
        let comparison = ours(runtime, &load).limit("replay memory", || memory.decode());
        session.comparison("replay memory", comparison)?;
    }
    if session.wants("replay sqlite") {
        let folder = session.folder("replay")?;
        let load = Load::new(runtime, runtime.block_on(purlin_sqlite::open(folder.join("ours.db")))?)?;
        let fjall = Fjall::open(&folder)?;
        let comparison = ours(runtime, &load)
            .limit("replay sqlite", || memory.decode())
            .peer("replay sqlite fjall", || timed(|| fjall.replay()));
        session.comparison("replay sqlite", comparison)?;
        load.close();
    }
    if session.wants("replay postgres") {
        let Some(server) = postgres.server(session)? else { return Ok(()) };
        let load = Load::new(runtime, runtime.block_on(server.store("replay"))?)?;
        let cqrs = Cqrs::open(runtime, server, "cqrs_replay")?;
        let disintegrate = Disintegrate::open(runtime, server, "disintegrate_replay")?;
        let mut comparison = ours(runtime, &load)
            .limit("replay postgres", || memory.decode())
            .peer("replay postgres cqrs-es", || timed(|| cqrs.replay()));
        if let Some(disintegrate) = &disintegrate {
            comparison = comparison.peer("replay postgres disintegrate", || timed(|| disintegrate.replay()));
        }
        session.comparison("replay postgres", comparison)?;
        load.close();
    }
    Ok(())
}

fn ours<'a>(runtime: &'a Runtime, load: &'a Load<'_>) -> Comparison<'a> {
    let replay = || timed(|| runtime.block_on(replay(load.store())));
    Comparison::new(BENCH.name, Unit::PerSecond("events"), replay)
}

/// Reads and decodes the whole log; how many events.
pub(crate) async fn replay(store: &Store) -> Result<usize> {
    let (mut position, mut count) = (Position::START, 0);
    while position < store.head() {
        let page = store.read_log(position, &LogFilter::all(), PAGE).await?;
        ensure!(page.through > position, "the log does not go on behind {position}");
        for event in &page.events {
            std::hint::black_box(event.envelope.decode::<OrderEvent>()?);
            count += 1;
        }
        position = page.through;
    }
    Ok(count)
}

/// A rate, of what says how often it was done.
pub(crate) fn timed(work: impl FnOnce() -> Result<usize>) -> Result<Reading> {
    let begun = Instant::now();
    let count = work()?;
    ensure!(count > 0, "nothing was read");
    Ok((count as f64 / begun.elapsed().as_secs_f64()).into())
}

/// The data of as many events, in memory.
struct Memory(Vec<Bytes>);

/// What the data of the event are: the enum's tag stands elsewhere, and costs the limit nothing.
#[derive(Deserialize)]
struct ItemAdded {
    order_id: String,
    sku: String,
    quantity: i64,
    price: Price,
}

impl Memory {
    fn new() -> Self {
        Self((0..BEFORE).map(|n| payload(n).into()).collect())
    }

    fn decode(&self) -> Result<Reading> {
        timed(|| {
            for data in &self.0 {
                let item: ItemAdded = serde_json::from_slice(data).context("the event")?;
                let ItemAdded { order_id, sku, quantity, price } = item;
                std::hint::black_box(OrderEvent::ItemAdded { order_id, sku, quantity, price });
            }
            Ok(self.0.len())
        })
    }
}
