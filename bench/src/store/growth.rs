//! The same figures with 10 million events in as many streams before, beside those with 10 thousand; and what an event
//! takes of the disk, beside twice its payload and 150 bytes.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use purlin_bench::append::{Case, Kind, Load, payload};
use purlin_bench::{Bench, Comparison, Figure, Reading, Session, Unit};
use tokio::runtime::Runtime;

use super::postgres::{Postgres, Server};
use super::replay::{replay, timed};

pub(crate) const BENCH: Bench = Bench {
    name: "growth",
    about: "`store --growth[=EVENTS]`: with 10 million events before beside 10 thousand; minutes, gigabytes",
    run,
};

const FEW: u64 = 10_000;
const MANY: u64 = 10_000_000;

/// What is committed, by how many callers, and the events of a commit.
const COMMITS: [(Kind, &str, usize, usize); 6] = [
    (Kind::Spread, "commit", 1, 1),
    (Kind::Spread, "commit", 128, 1),
    (Kind::Spread, "commit", 1024, 1),
    (Kind::Spread, "batch of 10", 128, 10),
    (Kind::NewStream, "new stream", 128, 1),
    (Kind::NewStream, "new stream", 1024, 1),
];

static ASKED: OnceLock<u64> = OnceLock::new();

/// `store --growth` is another benchmark than `store`.
pub(crate) fn instead(arguments: &mut Vec<String>) -> Result<()> {
    let Some(at) = arguments.iter().position(|argument| argument.starts_with("--growth")) else {
        return Ok(());
    };
    let option = arguments.remove(at);
    let many = match option.strip_prefix("--growth=") {
        Some(number) => number.parse().context("`--growth=` takes a number of events")?,
        None => MANY,
    };
    if many <= FEW {
        bail!("`--growth=` takes more than {FEW} events");
    }
    match arguments.first_mut() {
        Some(name) if name == super::BENCH.name => BENCH.name.clone_into(name),
        _ => bail!("`--growth` is an option of `store`"),
    }
    ASKED.get_or_init(|| many);
    Ok(())
}

fn run(session: &mut Session) -> Result<()> {
    let (runtime, many) = (super::runtime()?, *ASKED.get_or_init(|| MANY));
    if wants(session, "sqlite") {
        let folder = session.folder("growth")?;
        let [few, many] = [FEW, many].map(|events| sqlite(&runtime, &folder, events));
        let ((few, _), (many, file)) = (few?, many?);
        measure(session, &runtime, "sqlite", &few, &many)?;
        few.close();
        let events = many.store().head().0;
        // A store that is closed has moved its log into its file.
        many.close();
        disk(session, "sqlite", bytes_of(&file)?, events)?;
    }
    if wants(session, "postgres") {
        let mut postgres = Postgres::with_memory()?;
        let Some(server) = postgres.server(session)? else { return Ok(()) };
        let few = postgres_store(&runtime, server, "few", FEW)?;
        let many = postgres_store(&runtime, server, "many", many)?;
        measure(session, &runtime, "postgres", &few, &many)?;
        let events = many.store().head().0;
        let bytes = runtime.block_on(async {
            let sum = "SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c \
                       JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'many' AND c.relkind = 'r'";
            let sum: i64 = server.client().await?.query_one(sum, &[]).await?.try_get(0)?;
            anyhow::Ok(sum.unsigned_abs())
        })?;
        disk(session, "postgres", bytes, events)?;
        few.close();
        many.close();
    }
    Ok(())
}

/// Whether any case of an engine is asked for.
fn wants(session: &Session, engine: &str) -> bool {
    let commits = COMMITS.iter().map(|(_, what, callers, _)| format!("{what} {callers}"));
    commits
        .chain(["replay".into(), "disk".into()])
        .any(|what| session.wants(&format!("growth {engine} {what}")))
}

fn sqlite<'a>(runtime: &'a Runtime, folder: &Path, events: u64) -> Result<(Load<'a>, PathBuf)> {
    let file = folder.join(format!("{events}.db"));
    let store = runtime.block_on(purlin_sqlite::open(&file))?;
    Ok((fill(runtime, "sqlite", store, events)?, file))
}

fn postgres_store<'a>(runtime: &'a Runtime, server: &Server, name: &str, events: u64) -> Result<Load<'a>> {
    fill(runtime, "postgres", runtime.block_on(server.store(name))?, events)
}

/// A store with as many events as streams; says how far it is.
fn fill<'a>(
    runtime: &'a Runtime,
    engine: &str,
    store: purlin::store::Store,
    events: u64,
) -> Result<Load<'a>> {
    let begun = Instant::now();
    Load::filled(runtime, store, events, events, |there| {
        if there % 500_000 == 0 || there == events {
            let rate = there as f64 / begun.elapsed().as_secs_f64();
            eprintln!("{engine}: {there} of {events} events, {rate:.0} a second");
        }
    })
}

fn measure(
    session: &mut Session,
    runtime: &Runtime,
    engine: &str,
    few: &Load<'_>,
    many: &Load<'_>,
) -> Result<()> {
    let time = session.duration();
    for (kind, what, callers, events) in COMMITS {
        let name = format!("growth {engine} {what} {callers}");
        let run = |load: &Load<'_>| {
            let (calls, _) = load.run(&Case { kind, callers, events }, time)?;
            Ok(calls.reading(events))
        };
        let comparison = Comparison::new(BENCH.name, Unit::PerSecond("events"), || run(many));
        session.comparison(&name, comparison.limit(&name, || run(few)))?;
    }
    let name = format!("growth {engine} replay");
    let run = |load: &Load<'_>| timed(|| runtime.block_on(replay(load.store())));
    let comparison = Comparison::new(BENCH.name, Unit::PerSecond("events"), || run(many));
    session.comparison(&name, comparison.limit(&name, || run(few)))
}

/// What an event takes, beside twice its payload and 150 bytes.
fn disk(session: &mut Session, engine: &str, bytes: u64, events: u64) -> Result<()> {
    let name = format!("growth {engine} disk");
    let allowed = 2.0 * payload(MANY).len() as f64 + 150.0;
    let figure = Figure::new(BENCH.name, &name, Unit::Cost("bytes an event"))
        .ours(move || Ok(Reading::from(bytes as f64 / events as f64).with("events", events as f64)))
        .limit(move || Ok(allowed.into()));
    session.figure(&name, figure)
}

/// The file and what stands beside it.
fn bytes_of(file: &Path) -> Result<u64> {
    let name = file.file_name().context("a file has a name")?.to_string_lossy().into_owned();
    let mut bytes = 0;
    for entry in std::fs::read_dir(file.parent().context("a file is in a folder")?)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&name) {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}
