//! Microseconds to load one aggregate, of 10, 1,000 and 100,000 events.
//!
//! Without snapshots the limit decodes and folds the same events from memory. With one, ten events before the end, the
//! limit is loading an aggregate of ten events.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use purlin::aggregate::Repository;
use purlin::message::Envelope;
use purlin::store::{Commit, Expected, Store, StreamId};
use purlin_bench::append::{KIND, key, payload};
use purlin_bench::{Comparison, Reading, Session, Unit};
use tokio::runtime::Runtime;

use super::BENCH;
use super::order::{Order, OrderEvent};
use super::postgres::{Loads, Postgres};

const LENGTHS: [u64; 3] = [10, 1000, 100_000];

/// Events behind the snapshot.
const BEHIND: u64 = 10;

/// The aggregate after so many events.
pub(crate) fn state(events: u64) -> Order<100> {
    let mut order = Order::default();
    (0..events).for_each(|n| order.fold(&OrderEvent::item(n)));
    order
}

/// `load sqlite 1000`, `load sqlite 1000 snapshot`.
fn names(engine: &str) -> Vec<(u64, bool, String)> {
    let plain = LENGTHS.map(|length| (length, false, format!("load {engine} {length}")));
    let snapshot = LENGTHS.map(|length| (length, true, format!("load {engine} {length} snapshot")));
    plain.into_iter().chain(snapshot.into_iter().skip(1)).collect()
}

pub(crate) fn run(session: &mut Session, runtime: &Runtime, postgres: &mut Postgres) -> Result<()> {
    let wanted = |session: &Session, engine| names(engine).iter().any(|(.., name)| session.wants(name));
    if wanted(session, "sqlite") {
        let folder = session.folder("loading")?;
        let store = runtime.block_on(purlin_sqlite::open(folder.join("ours.db")))?;
        measure(session, runtime, "sqlite", &store, None)?;
        runtime.block_on(store.close());
    }
    if wanted(session, "postgres") {
        let Some(server) = postgres.server(session)? else { return Ok(()) };
        let store = runtime.block_on(server.store("loading"))?;
        let loads = Loads::open(runtime, server, &LENGTHS)?;
        measure(session, runtime, "postgres", &store, Some(&loads))?;
        runtime.block_on(store.close());
    }
    Ok(())
}

fn measure(
    session: &mut Session,
    runtime: &Runtime,
    engine: &str,
    store: &Store,
    cqrs: Option<&Loads<'_>>,
) -> Result<()> {
    runtime.block_on(fill(store))?;
    let (plain, snapshots) = (Repository::<Order<0>>::new(store), Repository::<Order<100>>::new(store));
    let load_plain = |length| runtime.block_on(async { Ok(plain.load(key(length)).await?.state().items) });
    let load_snapshot =
        |length| runtime.block_on(async { Ok(snapshots.load(key(length)).await?.state().items) });
    let time = session.duration();
    for (length, snapshot, name) in names(engine) {
        let ours = || match snapshot {
            true => repeated(time, length, load_snapshot),
            false => repeated(time, length, load_plain),
        };
        let comparison = Comparison::new(BENCH.name, Unit::Cost("us"), ours);
        let events: Vec<String> = (0..length).map(payload).collect();
        let mut comparison = match snapshot {
            true => comparison.limit(&name, || repeated(time, BEHIND, load_plain)),
            false => comparison.limit(&name, move || repeated(time, length, |_| from_memory(&events))),
        };
        if let Some(cqrs) = cqrs {
            let peer = || repeated(time, length, |length| cqrs.load(length, snapshot));
            comparison = comparison.peer(format!("{name} cqrs-es"), peer);
        }
        session.comparison(&name, comparison)?;
    }
    Ok(())
}

/// Aggregates whose number is their length, each with a snapshot ten events before its end if it is long enough.
async fn fill(store: &Store) -> Result<()> {
    let snapshots = Repository::<Order<100>>::new(store);
    for length in LENGTHS {
        let stream = StreamId::new("order", key(length))?;
        let folded = length - BEHIND;
        for first in (0..folded).step_by(1000) {
            append(store, &stream, first..folded.min(first + 1000)).await?;
        }
        // Whoever loads a long aggregate without a snapshot writes one.
        snapshots.load(key(length)).await?;
        append(store, &stream, folded..length).await?;
    }
    Ok(())
}

async fn append(store: &Store, stream: &StreamId, events: std::ops::Range<u64>) -> Result<()> {
    let expected = Expected::Version(events.start);
    let events = events.map(|n| Envelope::raw(KIND, payload(n)));
    store.commit(Commit::new().append(stream.clone(), expected, events)).await?;
    Ok(())
}

fn from_memory(events: &[String]) -> Result<i64> {
    let mut order = Order::<0>::default();
    for event in events {
        order.fold(&OrderEvent::read(KIND, event.as_bytes())?);
    }
    Ok(order.items)
}

/// Loads the aggregate of a length again and again; the microseconds of one time.
fn repeated(time: Duration, length: u64, mut load: impl FnMut(u64) -> Result<i64>) -> Result<Reading> {
    let (begun, mut count) = (Instant::now(), 0_u32);
    while begun.elapsed() < time {
        let items = load(length)?;
        ensure!(items == 3 * length as i64, "{items} items of {length} events");
        count += 1;
    }
    Ok((begun.elapsed().as_secs_f64() * 1e6 / f64::from(count)).into())
}
