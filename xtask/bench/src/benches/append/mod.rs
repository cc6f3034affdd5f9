//! Durable appends a second beside what SQLite and the disk give.
//!
//! Ours: so many callers, each with one commit under way, one event of 140 bytes a commit, an expected version,
//! 100,000 streams in random order, 300,000 events before. The limit, in turns with it: the same rows through plain
//! rusqlite with the same pragmas, at the right edge of one table, in batches as large as ours were.

mod ours;
mod raw;

use std::cell::Cell;

use anyhow::Result;
use purlin_bench::{Bench, Figure, Reading, Session, Unit, disk};

use ours::{Case, Kind};

pub(crate) const BENCH: Bench =
    Bench { name: "append", about: "durable commits on SQLite, beside the same rows without a store", run };

const CASES: &[(Kind, &[usize])] =
    &[(Kind::Spread, &[1, 16, 128, 1024]), (Kind::NewStream, &[128, 1024]), (Kind::Handling, &[1, 128])];

fn run(session: &mut Session) -> Result<()> {
    disk(session)?;
    for (kind, callers) in CASES {
        for callers in *callers {
            measure(session, &Case { kind: *kind, callers: *callers })?;
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

fn measure(session: &mut Session, case: &Case) -> Result<()> {
    let name = case.name();
    if !session.wants(&name) {
        return Ok(());
    }
    let (folder, duration) = (session.folder("append")?, session.duration());
    let (mut ours, mut raw) = (ours::Bench::open(&folder, case)?, raw::Bench::open(&folder, case)?);
    // The limit is measured right behind ours, in batches of the size that ours had.
    let batch = Cell::new(1.0);
    let figure = Figure::new(BENCH.name, &name, Unit::PerSecond("commits"))
        .ours(|| {
            let (rate, size) = ours.run(duration)?;
            batch.set(size);
            Ok(Reading::from(rate).with("commits a sync", size))
        })
        .limit(|| raw.run(duration, batch.get()).map(Reading::from));
    session.figure(&name, figure)?;
    ours.close();
    Ok(())
}
