//! What the disk itself can do, which no store can pass.

use anyhow::Result;
use purlin_bench::{Bench, Figure, Session, Unit, disk};

pub(crate) const BENCH: Bench =
    Bench { name: "disk", about: "4 KiB and fdatasync: appended, beside overwritten in place", run };

fn run(session: &mut Session) -> Result<()> {
    let case = "append fdatasync 1";
    let (folder, duration) = (session.folder("disk")?, session.duration());
    let figure = Figure::new(BENCH.name, case, Unit::PerSecond("syncs"))
        .ours(|| disk::appends(&folder, duration))
        .limit(|| disk::overwrites(&folder, duration));
    session.figure(case, figure)
}
