//! Puts the shop together: opens what it keeps, joins its roles by lines, runs them, and stops them in order.

mod addresses;
mod crash;
mod data;
mod doors;
mod greeting;
mod lines;
mod operator;
mod process;
mod rates;
mod roles;
mod served;
mod stores;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::pin::pin;

use anyhow::{Context, bail};
use purlin::message::{Clock, Uuid};
use purlin::service::Signals;
use purlin::telemetry::logs;

use crate::config::{Config, Role};
use addresses::Addresses;
use data::DataFolder;
use process::Process;
use stores::Opened;

/// Runs the program until it is told to stop.
pub async fn run(config: Config) -> anyhow::Result<()> {
    logs::init(config.log_format, &config.log).context("--log")?;
    // First of all: who is told to stop while he starts stops as cleanly as later.
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let roles = roles_of(&config)?;
    let _data = if roles.iter().any(|role| role.keeps_data()) {
        Some(DataFolder::open(&config.data, config.role)?)
    } else {
        None
    };
    warn_of_plain_peers(&config);
    let process = Process::new(&config, Clock::system())?;
    let stores = Opened::default();
    let mut told = pin!(process.on_signals(&mut signals));
    let started = tokio::select! {
        started = start(&process, &config, &roles, &stores) => Some(started),
        () = told.as_mut() => None,
    };
    if let Some(Ok(())) = started {
        told.await;
    }
    process.stop(config.drain).await;
    stores.close().await;
    started.transpose()?;
    match process.failure() {
        Some(failure) => bail!("stopped, because a task failed: {failure}"),
        None => Ok(()),
    }
}

/// Sets the roles to work and says so when they are ready.
async fn start(
    process: &Process,
    config: &Config,
    roles: &BTreeSet<Role>,
    stores: &Opened,
) -> anyhow::Result<()> {
    let mut addresses = Addresses::bind(config, roles).await?;
    let roles = roles::start(process, config, roles, &mut addresses, stores).await?;
    roles.prepare(process).await?;
    greeting::tell(config, &addresses);
    Ok(())
}

/// What goes to peers is not encrypted, and whoever reads it can do what those may whose tokens he has read.
fn warn_of_plain_peers(config: &Config) {
    let elsewhere = addresses::elsewhere(&config.peers);
    if !elsewhere.is_empty() {
        tracing::warn!(
            peers = elsewhere.join(", "),
            "these are called in plain http, with passwords and with the tokens of customers and of administrators: the \
             network between must be one that nobody else reads or writes (a private one, a tunnel, a service mesh)"
        );
    }
}

/// Which roles this process has; one that needs others to hear it needs a bus that others can reach.
fn roles_of(config: &Config) -> anyhow::Result<BTreeSet<Role>> {
    if config.bus != "embedded" {
        bail!("--bus {}: this build knows only `embedded`, within one process", config.bus);
    }
    let Some(role) = config.role else {
        refuse_to_leave_payments_behind(config)?;
        return Ok(Role::ALL.into_iter().filter(|role| !config.peers.contains_key(role)).collect());
    };
    if role.needs_bus() {
        bail!(
            "the role `{name}` exchanges events with other services, and `--bus embedded` reaches no other process: \
             run `shop` without a role, which has all of them in one process",
            name = role.name()
        );
    }
    Ok([role].into())
}

/// Payments that are elsewhere must be those that were here: others know nothing of the money that was taken, and would
/// take it again, or have none to give back.
fn refuse_to_leave_payments_behind(config: &Config) -> anyhow::Result<()> {
    let Some(file) = payments_file(config) else { return Ok(()) };
    if config.peers.contains_key(&Role::Payments) && file.exists() {
        bail!(
            "--peer payments=..: the payments of this shop are in {file}: stop both processes, move payments.db* and \
             card-network.db* to the folder of the process that has the payments from now on, and start it first",
            file = file.display()
        );
    }
    Ok(())
}

/// Whose orders were paid elsewhere needs the payments that were there. A file that is made here would be in the way of
/// theirs.
fn refuse_payments_that_know_nothing(config: &Config, paid: Uuid) -> anyhow::Result<()> {
    let Some(file) = payments_file(config).filter(|file| !file.exists()) else { return Ok(()) };
    bail!(
        "the orders here were paid with payments that are elsewhere, and there is no {file}: say where they are (--peer \
         payments=..), or stop them and move their payments.db* and card-network.db* here; if those are lost, say \
         --payments-ledger {paid}, and see docs/problems/other-ledger.md",
        file = file.display()
    )
}

/// Where the payments of this process have their data, if that is a file.
fn payments_file(config: &Config) -> Option<PathBuf> {
    let folder = config.store.strip_prefix("sqlite:")?;
    Some(Path::new(if folder.is_empty() { "." } else { folder }).join("payments.db"))
}
