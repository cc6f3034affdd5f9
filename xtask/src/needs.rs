//! What must be installed, and what to type when it is not.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::step;

/// What `check` uses.
pub(crate) fn all() -> Result<()> {
    c_compiler()?;
    for (subcommand, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if !has_cargo(subcommand) {
            bail!("`cargo {subcommand}` is missing: `rustup component add {component}` installs it");
        }
    }
    let runner =
        if has_cargo("nextest") { "cargo nextest" } else { "cargo test (cargo-nextest is not installed)" };
    println!("    a C compiler, rustfmt, clippy; tests run with {runner}");
    if !has_postgresql() {
        println!(
            "    PostgreSQL is not installed, and the tests of its engine are skipped (with CI set: fail): \
             `apt-get install postgresql`"
        );
    }
    if step::output("redis-server", &["--version"]).is_err() {
        println!(
            "    Redis is not installed, and the tests of shared rate limits are skipped (with CI set: fail): \
             `apt-get install redis-server`"
        );
    }
    if step::output("openssl", &["version"]).is_err() {
        println!(
            "    OpenSSL's program is not installed, and the test of encrypted connections is skipped (with CI set: \
             fail): `apt-get install openssl`"
        );
    }
    Ok(())
}

/// Whether the tests of the PostgreSQL engine find the programs of a server, which they start themselves.
fn has_postgresql() -> bool {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut programs = versions.map(|version| version.path().join("bin/initdb"));
    programs.any(|program| program.is_file()) || step::output("initdb", &["--version"]).is_ok()
}

/// SQLite and ring have C in them. No other program is needed: no protoc, no cmake, no OpenSSL, no server.
pub(crate) fn c_compiler() -> Result<()> {
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    if compiles(&compiler) {
        return Ok(());
    }
    bail!(
        "`{compiler}` does not compile a C program that includes <stdlib.h>. Install a C compiler and the C library's \
         headers:\n  Debian, Ubuntu   apt-get install gcc libc6-dev\n  Fedora           dnf install gcc glibc-devel\n  \
         Alpine           apk add gcc musl-dev\n  macOS            xcode-select --install\n\
         or set CC to the compiler that shall be used."
    )
}

/// `CC` may be a command with arguments (`ccache gcc`), as the build scripts take it.
fn compiles(compiler: &str) -> bool {
    let mut words = compiler.split_whitespace();
    let Some(program) = words.next() else { return false };
    let started = Command::new(program)
        .args(words)
        .args(["-x", "c", "-fsyntax-only", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = started else { return false };
    let program = b"#include <stdlib.h>\nint main(void) { return EXIT_SUCCESS; }\n";
    let written = child.stdin.take().is_some_and(|mut stdin| stdin.write_all(program).is_ok());
    let ended = child.wait();
    written && ended.is_ok_and(|status| status.success())
}

/// Whether cargo has a subcommand.
pub(crate) fn has_cargo(subcommand: &str) -> bool {
    step::output(step::cargo_path(), &[subcommand, "--version"]).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_that_does_not_exist_is_noticed() {
        assert!(!compiles("no-such-compiler"));
        assert!(!compiles(""));
    }

    #[test]
    fn a_program_that_ignores_its_input_and_fails_is_no_compiler() {
        assert!(!compiles("false"));
    }
}
