//! The benchmarks, one a file.

mod append;
mod disk;
mod orders;

use purlin_bench::Bench;

/// All of them, as `cargo xtask bench` lists them.
pub(crate) const ALL: &[Bench] = &[append::BENCH, disk::BENCH, orders::BENCH];
