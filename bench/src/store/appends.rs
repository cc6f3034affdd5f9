//! Durable events a second: single commits of 1 to 1,024 callers, and batches of ten.
//!
//! The raw inserts that are the limit run in transactions as large as ours were just before, on one connection, and
//! check nothing. The usual schema has a unique index on stream and version.

use std::cell::Cell;

use anyhow::Result;
use purlin_bench::append::{Case, Kind, Layout, Load, Raw};
use purlin_bench::{Comparison, Reading, Session, Unit};
use tokio::runtime::Runtime;

use super::BENCH;
use super::postgres::{Cqrs, Disintegrate, Insert, Postgres};
use super::sqlite::Fjall;

const EVENTS: Unit = Unit::PerSecond("events");

/// Callers, and events of a commit.
const CASES: [(usize, usize); 6] = [(1, 1), (16, 1), (128, 1), (1024, 1), (1, 10), (128, 10)];

/// `sqlite commit 128`, `sqlite batch of 10 128`.
fn name(engine: &str, callers: usize, events: usize) -> String {
    match events {
        1 => format!("{engine} commit {callers}"),
        _ => format!("{engine} batch of {events} {callers}"),
    }
}

pub(crate) fn on_sqlite(session: &mut Session, runtime: &Runtime) -> Result<()> {
    for (callers, events) in CASES {
        let name = name("sqlite", callers, events);
        if !session.wants(&name) {
            continue;
        }
        let (folder, time) = (session.folder("appends")?, session.duration());
        let ours = Load::new(runtime, runtime.block_on(purlin_sqlite::open(folder.join("ours.db")))?)?;
        let mut edge = Raw::open(&folder, Kind::Spread, Layout::RightEdge)?;
        let mut usual = Raw::open(&folder, Kind::Spread, Layout::Usual)?;
        let fjall = Fjall::open(&folder)?;
        let batch = Cell::new(1.0);
        let comparison =
            Comparison::new(BENCH.name, EVENTS, || measure(&ours, callers, events, time, &batch))
                .limit(&name, || edge.run(time, batch.get()).map(Reading::from))
                .peer(format!("{name} usual schema"), || usual.run(time, batch.get()).map(Reading::from))
                .peer(format!("{name} fjall"), || {
                    Ok(fjall.run(runtime, callers, events, time)?.reading(events))
                });
        session.comparison(&name, comparison)?;
        ours.close();
    }
    Ok(())
}

pub(crate) fn on_postgres(session: &mut Session, runtime: &Runtime, postgres: &mut Postgres) -> Result<()> {
    let names = CASES.map(|(callers, events)| name("postgres", callers, events));
    if !names.iter().any(|name| session.wants(name)) {
        return Ok(());
    }
    let Some(server) = postgres.server(session)? else { return Ok(()) };
    let time = session.duration();
    let ours = Load::new(runtime, runtime.block_on(server.store("appends"))?)?;
    let raw = Insert::open(runtime, server, "appends")?;
    let cqrs = Cqrs::open(runtime, server, "cqrs_appends")?;
    let disintegrate = Disintegrate::open(runtime, server, "disintegrate_appends")?;
    for ((callers, events), name) in CASES.into_iter().zip(&names) {
        let batch = Cell::new(1.0);
        let mut comparison =
            Comparison::new(BENCH.name, EVENTS, || measure(&ours, callers, events, time, &batch));
        comparison = match (callers, events) {
            (1, 1) => comparison.limit(name, || raw.one_by_one(time).map(Reading::from)),
            _ => comparison.limit(name, || raw.batched(time, batch.get()).map(Reading::from)),
        };
        comparison = comparison
            .peer(format!("{name} cqrs-es"), || Ok(cqrs.run(callers, events, time)?.reading(events)));
        if let Some(disintegrate) = &disintegrate {
            comparison = comparison.peer(format!("{name} disintegrate"), || {
                let (calls, conflicts) = disintegrate.run(callers, events, time)?;
                Ok(calls.reading(events).with("conflicts/s", conflicts))
            });
        }
        session.comparison(name, comparison)?;
    }
    ours.close();
    Ok(())
}

/// Ours; and leaves behind how many events a transaction had.
fn measure(
    ours: &Load<'_>,
    callers: usize,
    events: usize,
    time: std::time::Duration,
    batch: &Cell<f64>,
) -> Result<Reading> {
    let (calls, size) = ours.run(&Case { kind: Kind::Spread, callers, events }, time)?;
    let size = size * events as f64;
    batch.set(size);
    Ok(calls.reading(events).with("events a transaction", size))
}
