//! `cargo xtask test`: every test and every example of the documentation.

use std::fs;

use anyhow::{Context, Result};

use crate::needs;
use crate::step::{self, Step};

const STEPS: &[Step] = &[
    Step { name: "tests", about: "unit and integration tests", run: tests },
    Step { name: "doc-tests", about: "the examples of the documentation run", run: doc_tests },
];

/// Features that only builds for tests have.
pub(crate) const SWITCHES: &str = "purlin-shop/crash-points";

/// Looks for what is needed first, so that a missing compiler is one sentence and not a page of linker errors.
pub(crate) fn run() -> Result<()> {
    needs::c_compiler()?;
    step::run_all(STEPS)
}

/// All but the documentation's examples: with nextest where it is installed, which runs them side by side.
pub(crate) fn tests() -> Result<()> {
    if needs::has_cargo("nextest") {
        step::cargo(["nextest", "run", "--workspace", "--features", SWITCHES, "--locked", "--no-fail-fast"])
    } else {
        let all = ["test", "--workspace", "--all-targets", "--features", SWITCHES];
        step::cargo(all.into_iter().chain(["--locked", "--no-fail-fast"]))
    }
}

/// The documentation's examples, which nextest does not run.
pub(crate) fn doc_tests() -> Result<()> {
    step::cargo(["test", "--workspace", "--doc", "--locked", "--no-fail-fast"])
}

/// The framework's examples, each as somebody would try it.
pub(crate) fn examples() -> Result<()> {
    let folder = step::workspace().join("purlin/examples");
    let files = fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))?;
    let mut names: Vec<String> = files
        .filter_map(|file| Some(file.ok()?.path()))
        .filter(|file| file.extension().is_some_and(|extension| extension == "rs"))
        .filter_map(|file| Some(file.file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    names.iter().try_for_each(|name| {
        step::cargo(["run", "--quiet", "--package", "purlin", "--locked", "--example", name.as_str()])
    })
}
