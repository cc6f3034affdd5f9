//! `cargo xtask bench store` and `resilience`: the benchmarks that set purlin beside its peers.
//!
//! A package outside the workspace, with a lock file of its own, so that nobody compiles the peers who does not measure.

mod resilience;
mod store;

use purlin_bench::Session;

fn main() -> anyhow::Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    store::growth::instead(&mut arguments)?;
    Session::main(&[store::BENCH, store::growth::BENCH, resilience::BENCH], arguments.into_iter())
}
