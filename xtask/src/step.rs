//! A step: something that can fail, with a name and a time.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A part of `check` or `test`.
pub(crate) struct Step {
    /// What it is called on the command line and in the summary.
    pub(crate) name: &'static str,
    /// What it makes sure of.
    pub(crate) about: &'static str,
    /// Does it.
    pub(crate) run: fn() -> Result<()>,
}

/// Runs all steps, whatever becomes of the earlier ones, and prints what each took.
pub(crate) fn run_all<'a>(steps: impl IntoIterator<Item = &'a Step>) -> Result<()> {
    let begun = Instant::now();
    let outcomes: Vec<Outcome> = steps.into_iter().map(run_one).collect();
    println!("\n{:<14}{:>9}  result", "step", "time");
    for outcome in &outcomes {
        let result = if outcome.passed { "ok" } else { "FAILED" };
        println!("{:<14}{:>9}  {result}", outcome.name, seconds(outcome.took));
    }
    println!("{:<14}{:>9}", "all", seconds(begun.elapsed()));
    let failed: Vec<&str> = outcomes.iter().filter(|o| !o.passed).map(|o| o.name).collect();
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

struct Outcome {
    name: &'static str,
    took: Duration,
    passed: bool,
}

fn run_one(step: &Step) -> Outcome {
    println!("\n==> {}: {}", step.name, step.about);
    let begun = Instant::now();
    let result = (step.run)();
    let took = begun.elapsed();
    match &result {
        Ok(()) => println!("==> {}: ok in {}", step.name, seconds(took)),
        Err(error) => println!("==> {}: FAILED after {}: {error:#}", step.name, seconds(took)),
    }
    Outcome { name: step.name, took, passed: result.is_ok() }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// Runs cargo in the workspace's folder and shows the command.
pub(crate) fn cargo<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<()> {
    cargo_with(&[], arguments)
}

/// As [`cargo`], with more environment.
pub(crate) fn cargo_with<'a>(
    environment: &[(&str, &str)],
    arguments: impl IntoIterator<Item = &'a str>,
) -> Result<()> {
    let arguments: Vec<&str> = arguments.into_iter().collect();
    let shown = format!("cargo {}", arguments.join(" "));
    println!("    {shown}");
    let status = Command::new(cargo_path())
        .args(&arguments)
        .envs(environment.iter().copied())
        .current_dir(workspace())
        .status()
        .with_context(|| format!("`{shown}` cannot be started"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}

/// What a program prints on its standard output, as text; an error when it fails.
pub(crate) fn output(program: impl AsRef<Path>, arguments: &[&str]) -> Result<String> {
    let program = program.as_ref();
    let shown = format!("{} {}", program.display(), arguments.join(" "));
    let output = Command::new(program)
        .args(arguments)
        .current_dir(workspace())
        .output()
        .with_context(|| format!("`{shown}` cannot be started"))?;
    if !output.status.success() {
        bail!("`{shown}` ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{shown}` printed something that is not UTF-8"))
}

/// The cargo that started us.
pub(crate) fn cargo_path() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// The folder of the workspace.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the manifest's folder lies in the workspace")
}
