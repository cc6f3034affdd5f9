//! Durable appends a second beside what SQLite and the disk give.
//!
//! Ours: so many callers, each with one commit under way, one event of 140 bytes a commit, an expected version,
//! 100,000 streams in random order, 300,000 events before. The limit, in turns with it: the same rows through plain
//! rusqlite with the same pragmas, at the right edge of one table, in batches as large as ours were.

use std::cell::Cell;

use anyhow::Result;
use purlin_bench::append::{Case, Kind, Layout, Load, Raw};
use purlin_bench::{Bench, Figure, Reading, Session, Unit, disk};

pub(crate) const BENCH: Bench =
    Bench { name: "append", about: "durable commits on SQLite, beside the same rows without a store", run };

const CASES: &[(Kind, &str, &[usize])] = &[
    (Kind::Spread, "sqlite commit", &[1, 16, 128, 1024]),
    (Kind::NewStream, "sqlite new stream", &[128, 1024]),
    (Kind::Handling, "sqlite handling", &[1, 128]),
];

fn run(session: &mut Session) -> Result<()> {
    disk(session)?;
    for (kind, name, callers) in CASES {
        for callers in *callers {
            let case = Case { kind: *kind, callers: *callers, events: 1 };
            measure(session, &format!("{name} {callers}"), &case)?;
        }
    }
    Ok(())
}

fn disk(session: &mut Session) -> Result<()> {
    let (folder, duration) = (session.folder("disk")?, session.duration());
    let figure = Figure::new(BENCH.name, "4 KiB overwrite fdatasync", Unit::PerSecond("syncs"))
        .ours(|| disk::overwrites(&folder, duration));
    session.figure("4 KiB overwrite fdatasync", figure)
}

fn measure(session: &mut Session, name: &str, case: &Case) -> Result<()> {
    if !session.wants(name) {
        return Ok(());
    }
    let (folder, duration) = (session.folder("append")?, session.duration());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let store = runtime.block_on(purlin_sqlite::open(folder.join("ours.db")))?;
    let ours = Load::new(&runtime, store)?;
    let mut raw = Raw::open(&folder, case.kind, Layout::RightEdge)?;
    // The limit is measured right behind ours, in batches of the size that ours had.
    let batch = Cell::new(1.0);
    let figure = Figure::new(BENCH.name, name, Unit::PerSecond("commits"))
        .ours(|| {
            let (calls, size) = ours.run(case, duration)?;
            batch.set(size);
            Ok(calls.reading(1).with("commits a sync", size))
        })
        .limit(|| raw.run(duration, batch.get()).map(Reading::from));
    session.figure(name, figure)?;
    ours.close();
    Ok(())
}
