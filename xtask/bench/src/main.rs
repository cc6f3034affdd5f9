//! `cargo xtask bench <NAME>`.

mod benches;

use purlin_bench::Session;

fn main() -> anyhow::Result<()> {
    Session::main(benches::ALL, std::env::args().skip(1))
}
