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

/// The benchmarks are a package of their own, which nobody compiles in release who does not measure.
fn bench(arguments: &[String]) -> Result<()> {
    let fixed = ["run", "--quiet", "--release", "--locked", "--package", "purlin-bench", "--"];
    step::cargo(fixed.into_iter().chain(arguments.iter().map(String::as_str)))
}
