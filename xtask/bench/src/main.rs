//! `cargo xtask bench <NAME>`.

mod benches;

use purlin_bench::{Session, cascade};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // The program starts itself again as the services that it measures.
    if let Some((cascade::ROLE, rest)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return cascade::be(rest);
    }
    Session::main(benches::ALL, arguments.into_iter())
}
