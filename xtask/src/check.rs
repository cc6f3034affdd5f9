//! `cargo xtask check`: the steps of CI, the quick ones first.

use anyhow::{Result, bail};

use crate::step::{self, Step};
use crate::{dependencies, docs, needs, paths, tests};

/// All steps.
pub(crate) const STEPS: &[Step] = &[
    Step { name: "needs", about: "the compilers and components that the other steps use", run: needs::all },
    Step { name: "format", about: "the code is formatted", run: format },
    Step {
        name: "paths",
        about: "no committed file mentions a path of somebody's machine",
        run: paths::check,
    },
    Step { name: "docs", about: "links lead somewhere, and each problem type has a page", run: docs::check },
    Step { name: "dependencies", about: "bans, licences, sources, duplicates", run: dependencies::check },
    Step { name: "clippy", about: "no warning from the compiler or clippy", run: clippy },
    Step { name: "tests", about: "unit and integration tests", run: tests::tests },
    Step { name: "doc-tests", about: "the examples of the documentation run", run: tests::doc_tests },
    Step { name: "examples", about: "the framework's examples run, without a server", run: tests::examples },
    Step { name: "rustdoc", about: "the documentation builds without a warning", run: rustdoc },
];

/// Runs the named steps, or all.
pub(crate) fn run(names: &[String]) -> Result<()> {
    if let Some(unknown) = names.iter().find(|name| STEPS.iter().all(|step| step.name != **name)) {
        bail!("there is no step `{unknown}`; `cargo xtask help` lists them");
    }
    step::run_all(STEPS.iter().filter(|step| names.is_empty() || names.iter().any(|name| name == step.name)))
}

fn format() -> Result<()> {
    step::cargo(["fmt", "--all", "--check"])?;
    // The package with the peers is formatted too; nothing of it is compiled or looked up.
    step::cargo(["fmt", "--manifest-path", "bench/Cargo.toml", "--check"])
}

fn clippy() -> Result<()> {
    let all = ["clippy", "--workspace", "--all-targets", "--features", tests::SWITCHES];
    let deny = ["--locked", "--", "-D", "warnings"];
    step::cargo(all.into_iter().chain(deny))?;
    // The program as it is shipped, without the switches of tests.
    step::cargo(["clippy", "--package", "purlin-shop"].into_iter().chain(deny))
}

fn rustdoc() -> Result<()> {
    let deny = [("RUSTDOCFLAGS", "-D warnings")];
    step::cargo_with(&deny, ["doc", "--workspace", "--no-deps", "--locked"])
}
