//! Durable appends a second beside what the disk and SQLite give: `cargo xtask bench append`.
//!
//! Ours: so many callers, each with one commit under way, one event of 140 bytes a commit, an expected version,
//! 100,000 streams in random order. The limit, in the same run and in turns: the same rows through plain rusqlite
//! with the same pragmas, at the right edge of one table, in batches as large as ours were.

mod ours;
mod raw;

use std::path::Path;
use std::time::Duration;

use ours::Case;

/// How long each measurement of a round takes.
const SLICE: Duration = Duration::from_millis(700);
const ROUNDS: usize = 5;

fn main() {
    // Cargo hands over `--bench`; one more word chooses cases by name.
    let only = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let folder = std::env::var_os("PURLIN_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let folder = folder.join(format!("purlin-bench-{}", purlin::message::new_id()));
    std::fs::create_dir_all(&folder).expect("the folder for the benchmark can be made");
    println!("in {}: rounds of {SLICE:?}, medians of {ROUNDS}", folder.display());
    println!("{:<28} {:>12} {:>12} {:>8} {:>10}", "case", "ours/s", "limit/s", "ratio", "a batch");
    let overwrites = raw::overwrites(&folder, SLICE);
    line("4 KiB overwrite + fdatasync", overwrites, overwrites, 1.0);
    for case in Case::all() {
        if case.name().contains(&only) {
            measure(&folder, &case);
        }
    }
    let _ = std::fs::remove_dir_all(&folder);
}

fn measure(folder: &Path, case: &Case) {
    let mut ours = ours::Bench::open(folder, case);
    let mut raw = raw::Bench::open(folder, case);
    let (mut rates, mut limits, mut ratios, mut batches) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let (rate, batch) = ours.run(SLICE);
        let limit = raw.run(SLICE, batch);
        rates.push(rate);
        limits.push(limit);
        ratios.push(rate / limit);
        batches.push(batch);
    }
    ours.close();
    line(&case.name(), median(&mut rates), median(&mut limits), median(&mut batches));
    println!(
        "{}",
        serde_json::json!({
            "bench": "append", "case": case.name(), "ours": median(&mut rates).round(),
            "limit": median(&mut limits).round(), "peer": null,
            "ratio": (median(&mut ratios) * 1000.0).round() / 1000.0,
        })
    );
}

fn line(case: &str, ours: f64, limit: f64, batch: f64) {
    println!("{case:<28} {ours:>12.0} {limit:>12.0} {:>8.2} {batch:>10.1}", ours / limit);
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
