//! The benchmarks, one a file.

mod append;
mod cascade;
mod disk;
mod orders;

use purlin_bench::Bench;

/// All of them, as `cargo xtask bench` lists them.
pub(crate) const ALL: &[Bench] = &[append::BENCH, cascade::BENCH, disk::BENCH, orders::BENCH];
