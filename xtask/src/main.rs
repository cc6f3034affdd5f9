//! `cargo xtask`: what CI does, the tests as the README gives them, and the benchmarks.
//!
//! ```text
//! cargo xtask check [STEP..]     all that CI asks, or only the named steps
//! cargo xtask test               the tests and doc examples; says what the machine lacks
//! cargo xtask bench [NAME ..]    a benchmark, in a release build; without a name, the list
//! ```

mod check;
mod dependencies;
mod docs;
mod needs;
mod paths;
mod step;
mod tests;

use std::process::ExitCode;

use anyhow::{Result, bail};

const HELP: &str = "\
Usage: cargo xtask <COMMAND>

Commands:
  check [STEP..]    do what CI does, or only the named steps
  test              run every test and doc example
  bench [NAME ..]   run a benchmark in a release build; without a name, list them

Steps of check, in their order:
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    match arguments.split_first().map(|(command, rest)| (command.as_str(), rest)) {
        Some(("check", steps)) => check::run(steps),
        Some(("test", [])) => tests::run(),
        Some(("test", [unknown, ..])) => {
            bail!(
                "`test` takes no argument, got `{unknown}`; `cargo test` and `cargo nextest run` take filters"
            )
        }
        Some(("bench", rest)) => bench(rest),
        None | Some(("help" | "-h" | "--help", _)) => {
            print!("{HELP}");
            check::STEPS.iter().for_each(|step| println!("  {:<14}{}", step.name, step.about));
            Ok(())
        }
        Some((unknown, _)) => bail!("there is no command `{unknown}`; `cargo xtask help` lists them"),
    }
}

/// Benchmarks that set the framework beside its peers; they are in a package outside the workspace.
const BESIDE_PEERS: &[(&str, &str)] = &[
    ("store", "the store on SQLite and PostgreSQL, beside raw inserts and other event stores"),
    ("resilience", "what a breaker and a whole caller add to a call, beside other circuit breakers"),
];

/// The benchmarks are packages of their own, which nobody compiles in release who does not measure.
fn bench(arguments: &[String]) -> Result<()> {
    let name = arguments.first().map(String::as_str);
    let package = match BESIDE_PEERS.iter().any(|(beside, _)| name == Some(*beside)) {
        true => ["--manifest-path", "bench/Cargo.toml"],
        false => ["--package", "purlin-bench"],
    };
    let fixed = ["run", "--quiet", "--release", "--locked"];
    let arguments = std::iter::once("--").chain(arguments.iter().map(String::as_str));
    step::cargo(fixed.into_iter().chain(package).chain(arguments))?;
    if matches!(name, None | Some("-h" | "--help")) {
        println!("\nBeside peers, whose crates are compiled first (minutes):\n");
        BESIDE_PEERS.iter().for_each(|(name, about)| println!("  {name:<12}{about}"));
    }
    Ok(())
}
