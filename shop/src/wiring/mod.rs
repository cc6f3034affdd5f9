//! Puts the shop together: opens what it keeps, joins its roles by lines, runs them, and stops them in order.

mod addresses;
mod crash;
mod data;
mod doors;
mod greeting;
mod lines;
mod operator;
mod process;
mod roles;
mod stores;

use std::collections::BTreeSet;

use anyhow::{Context, bail};
use purlin::message::Clock;
use purlin::telemetry::logs;

use crate::config::{Config, Role};
use addresses::Addresses;
use data::DataFolder;
use process::Process;

/// Runs the program until it is told to stop.
pub async fn run(config: Config) -> anyhow::Result<()> {
    logs::init(config.log_format, &config.log).context("--log")?;
    let roles = roles_of(&config)?;
    let _data = if roles.iter().any(|role| role.keeps_data()) {
        Some(DataFolder::open(&config.data, config.role)?)
    } else {
        None
    };
    let mut addresses = Addresses::bind(&config, &roles).await?;
    let process = Process::new(&config, Clock::system())?;
    let roles = roles::start(&process, &config, &roles, &mut addresses).await?;
    let started = async {
        roles.prepare(&process).await?;
        greeting::tell(&config, &addresses);
        Ok::<_, anyhow::Error>(())
    };
    let outcome = tokio::select! {
        outcome = started => outcome,
        () = process.stopping() => Ok(()),
        signals = process.on_signals() => signals.context("cannot listen for signals"),
    };
    if outcome.is_ok() {
        process.on_signals().await.context("cannot listen for signals")?;
    }
    process.stop(config.drain).await;
    roles.close().await;
    outcome?;
    if process.has_failed() { bail!("a task failed that the process cannot do without") } else { Ok(()) }
}

/// Which roles this process has; one that needs others to hear it needs a bus that others can reach.
fn roles_of(config: &Config) -> anyhow::Result<BTreeSet<Role>> {
    if config.bus != "embedded" {
        bail!("--bus {}: this build knows only `embedded`, within one process", config.bus);
    }
    let Some(role) = config.role else { return Ok(Role::ALL.into_iter().collect()) };
    if role.needs_bus() {
        bail!(
            "the role `{name}` exchanges events with other services, and `--bus embedded` reaches no other process: \
             run `shop` without a role, which has all of them in one process",
            name = role.name()
        );
    }
    Ok([role].into())
}
