//! Milliseconds from the call of a commit until a subscriber in the same process has the event: p99, and p50 beside it.
//!
//! `behind the answer` is how much later than the caller's answer the subscriber had it. The commit's own p99, measured
//! in the same moment, is what no subscriber can pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use purlin::message::Envelope;
use purlin::store::{Commit, Expected, LogFilter, Position, Store, StreamId};
use purlin_bench::append::{Dice, KIND, STREAMS, key, payload};
use purlin_bench::{Calls, Figure, Reading, Session, Tally, Unit};
use tokio::runtime::Runtime;

use super::BENCH;
use super::postgres::Postgres;

/// Callers; one takes a rest of a millisecond between his commits, many take none.
const CALLERS: [usize; 3] = [1, 16, 128];

/// Events that a second of a measurement may have.
const EVENTS: usize = 500_000;

pub(crate) fn run(session: &mut Session, runtime: &Runtime, postgres: &mut Postgres) -> Result<()> {
    for (engine, callers) in ["sqlite", "postgres"].into_iter().flat_map(|e| CALLERS.map(|c| (e, c))) {
        let name = format!("commit to subscriber {engine} {callers}");
        if !session.wants(&name) {
            continue;
        }
        let store = match engine {
            "sqlite" => runtime.block_on(purlin_sqlite::open(session.folder("tail")?.join("ours.db")))?,
            _ => match postgres.server(session)? {
                Some(server) => runtime.block_on(server.store(&format!("tail_{callers}")))?,
                None => return Ok(()),
            },
        };
        let time = session.duration();
        let figure = Figure::new(BENCH.name, &name, Unit::Cost("ms p99"))
            .ours(|| measure(runtime, &store, callers, time));
        session.figure(&name, figure)?;
        runtime.block_on(store.close());
    }
    Ok(())
}

/// When each event was sent, answered and seen, in nanoseconds, by its distance from the first.
struct Times {
    begun: Instant,
    first: u64,
    sent: Vec<AtomicU64>,
    answered: Vec<AtomicU64>,
}

impl Times {
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn note(&self, times: &[AtomicU64], position: Position, at: u64) -> Result<()> {
        let index = position.0.checked_sub(self.first).context("a position before the first")?;
        times.get(index as usize).context("more events than are kept")?.store(at, Ordering::Relaxed);
        Ok(())
    }
}

fn measure(runtime: &Runtime, store: &Store, callers: usize, time: Duration) -> Result<Reading> {
    let events = EVENTS * time.as_secs_f64().ceil() as usize;
    let empty = || (0..events).map(|_| AtomicU64::new(0)).collect();
    let start = store.head();
    let times = Times { begun: Instant::now(), first: start.0 + 1, sent: empty(), answered: empty() };
    let times = Arc::new(times);
    let subscriber = runtime.spawn(subscribe(store.clone(), Arc::clone(&times), start));
    let caller = |caller, tally| commit(caller, callers, store.clone(), Arc::clone(&times), tally);
    let calls = Calls::made(runtime, callers, time, caller)?;
    let seen = runtime.block_on(async {
        let last =
            Commit::new().append(StreamId::new("end", "of it")?, Expected::Any, [Envelope::raw("end", "0")]);
        store.commit(last).await?;
        subscriber.await.context("the subscriber panicked")?
    })?;
    let mut from_call = Vec::new();
    let mut from_answer = Vec::new();
    for ((seen, sent), answered) in seen.iter().zip(&times.sent).zip(&times.answered) {
        let (sent, answered) = (sent.load(Ordering::Relaxed), answered.load(Ordering::Relaxed));
        from_call.push(seen.saturating_sub(sent) as f64 / 1e6);
        from_answer.push(seen.saturating_sub(answered) as f64 / 1e6);
    }
    ensure!(!from_call.is_empty(), "no event was seen");
    let reading = Reading::from(quantile(&mut from_call, 0.99))
        .with("p50 ms", quantile(&mut from_call, 0.5))
        .with("behind the answer p99 ms", quantile(&mut from_answer, 0.99))
        .with("commit p99 ms", calls.quantile(0.99))
        .with("events/s", calls.rate);
    Ok(reading)
}

async fn commit(
    caller: usize,
    callers: usize,
    store: Store,
    times: Arc<Times>,
    mut tally: Tally,
) -> Result<Tally> {
    let mut dice = Dice::new(caller);
    while tally.goes_on() {
        let n = dice.own(caller, callers, STREAMS);
        let stream = StreamId::new("order", key(n))?;
        let commit = Commit::new().append(stream, Expected::Any, [Envelope::raw(KIND, payload(n))]);
        let sent = times.now();
        let committed = tally.time(store.commit(commit)).await?;
        let position = committed.appended.first().context("an append")?.first;
        times.note(&times.answered, position, times.now())?;
        times.note(&times.sent, position, sent)?;
        if callers == 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    Ok(tally)
}

/// Follows the log until the event that ends it; when it saw each.
async fn subscribe(store: Store, times: Arc<Times>, mut position: Position) -> Result<Vec<u64>> {
    let mut watch = store.watch();
    let mut seen = Vec::new();
    loop {
        let head = *watch.borrow_and_update();
        while position < head {
            let page = store.read_log(position, &LogFilter::all(), 1000).await?;
            let now = times.now();
            for event in &page.events {
                if event.stream.category() == "end" {
                    return Ok(seen);
                }
                seen.push(now);
            }
            position = page.through;
        }
        watch.changed().await.context("the store is closed")?;
    }
}

fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * part).round() as usize]
}
