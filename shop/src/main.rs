//! The shop: the reference system of purlin. One program, a role per process or all roles in one.
//!
//! `contracts` is all that its services share; each of the others is a service that keeps its own data, `wiring`
//! puts them together, and `config` says how.
#![allow(unreachable_pub, reason = "a program has no outside: `pub` means that another room may use it")]

mod assistant;
mod breakers;
mod config;
mod console;
mod contracts;
mod inventory;
mod orders;
mod payments;
mod products;
mod shipping;
mod users;
mod wiring;

use std::process::ExitCode;

/// A password takes 19 MiB for a moment, on whichever thread hashes it. The system's allocator keeps that for each
/// thread that ever did.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shop: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> anyhow::Result<()> {
    let config = config::Config::read()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(wiring::run(config));
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    outcome
}
