//! Events a second that move to the archive, and what moving them costs those who commit meanwhile.
//!
//! 10,000 streams of ten events, or so many more that archiving goes on as long as the commits are measured; each round has
//! streams of its own. The limit of the commits is the same callers without anybody who archives.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use purlin::message::Envelope;
use purlin::store::archive::Selection;
use purlin::store::{Commit, Expected, Store, StreamId};
use purlin_bench::append::{Case, KIND, Kind, Load, key, payload};
use purlin_bench::{Calls, Figure, Reading, Session, Unit};
use tokio::runtime::Runtime;

use super::BENCH;

/// Streams that are archived at a time, and events of each.
const STREAMS: u64 = 10_000;
const EVENTS: u64 = 10;

const CALLERS: [usize; 2] = [1, 16];

pub(crate) fn run(session: &mut Session, runtime: &Runtime) -> Result<()> {
    if session.wants("archive sqlite") {
        let store = runtime.block_on(purlin_sqlite::open(session.folder("archive")?.join("ours.db")))?;
        let mut round = 0;
        let figure = Figure::new(BENCH.name, "archive sqlite", Unit::PerSecond("events")).ours(|| {
            round += 1;
            runtime.block_on(async {
                fill(&store, round, STREAMS).await?;
                archived(&store, round, STREAMS).await
            })
        });
        session.figure("archive sqlite", figure)?;
        runtime.block_on(store.close());
    }
    for callers in CALLERS {
        let name = format!("commit beside archiving sqlite {callers}");
        if !session.wants(&name) {
            continue;
        }
        let store = runtime.block_on(purlin_sqlite::open(session.folder("beside")?.join("ours.db")))?;
        let load = Load::new(runtime, store)?;
        let (case, time) = (Case { kind: Kind::Spread, callers, events: 1 }, session.duration());
        let mut round = 0;
        let figure = Figure::new(BENCH.name, &name, Unit::Cost("ms p99"))
            .ours(|| {
                round += 1;
                beside(runtime, &load, &case, time, round)
            })
            .limit(|| Ok(told(&load.run(&case, time)?.0)));
        session.figure(&name, figure)?;
        load.close();
    }
    Ok(())
}

/// Commits while streams are archived.
fn beside(runtime: &Runtime, load: &Load<'_>, case: &Case, time: Duration, round: u64) -> Result<Reading> {
    // More than are archived in the time.
    let streams = (40_000.0 * time.as_secs_f64().max(0.25)) as u64;
    let store = load.store().clone();
    runtime.block_on(fill(&store, round, streams))?;
    let begun = Instant::now();
    let archiving = runtime.spawn(async move {
        let archived = archived(&store, round, streams).await;
        (archived, begun.elapsed())
    });
    let calls = load.run(case, time)?.0;
    let (archived, took) = runtime.block_on(archiving).context("archiving panicked")?;
    ensure!(took >= time / 2, "archiving was over long before the commits: {took:?}");
    Ok(told(&calls).with("archived events/s", archived?.value))
}

fn told(calls: &Calls) -> Reading {
    Reading::from(calls.quantile(0.99))
        .with("p50 ms", calls.quantile(0.5))
        .with("worst ms", calls.quantile(1.0))
        .with("events/s", calls.rate)
}

async fn fill(store: &Store, round: u64, streams: u64) -> Result<()> {
    for first in (0..streams).step_by(100) {
        let mut commit = Commit::new();
        for n in first..streams.min(first + 100) {
            let events = (0..EVENTS).map(|event| Envelope::raw(KIND, payload(n * EVENTS + event)));
            commit = commit.append(StreamId::new(&category(round), key(n))?, Expected::NoStream, events);
        }
        store.commit(commit).await?;
    }
    Ok(())
}

async fn archived(store: &Store, round: u64, streams: u64) -> Result<Reading> {
    let begun = Instant::now();
    let done = store.archive(&Selection::category(category(round)), |_| ()).await?;
    ensure!(done.events == streams * (EVENTS - 1), "{} events were archived", done.events);
    Ok(Reading::from(done.events as f64 / begun.elapsed().as_secs_f64()))
}

fn category(round: u64) -> String {
    format!("old{round}")
}
