//! How others are called: what the shop says of it, and what `shop.toml` says.

use std::path::Path;

use anyhow::Context;
use purlin::resilience::Policies;
use purlin::resilience::policies::Section;
use purlin_gateway::calls;
use serde_json::{Value, json};

use super::{DEFAULT_FILE, Role, read_file};

/// The policies of all callees, with the table `calls` of the file.
pub(super) fn policies(section: Option<Section>, file: &Path) -> anyhow::Result<Policies> {
    let own: Section = toml::from_str(include_str!("calls.toml")).expect("the shop's own policies are TOML");
    let behind = || Role::ALL.into_iter().filter(|role| role.is_behind_gateway()).map(Role::name);
    let hops = calls::section(behind().chain([crate::breakers::POOL]));
    let policies = Policies::built_in().with("the gateway", hops);
    let policies = policies.and_then(|policies| policies.with("the shop", of_breakers(behind())));
    let own = policies.and_then(|policies| policies.with("the shop", own));
    let own = own.expect("the shop's own policies make sense");
    Ok(own.with(file.display().to_string(), section.unwrap_or_default())?)
}

/// How other processes are asked for their breakers: an administrator waits, and one that is away is said to be away.
fn of_breakers(roles: impl Iterator<Item = &'static str>) -> Section {
    let policy = json!({
        "timeout": "1s", "attempt": "1s", "retry": false,
        "breaker": { "failure_threshold": 3, "window": 3, "success_threshold": 1, "timeout": "2s" },
    });
    let all: serde_json::Map<String, Value> =
        roles.map(|role| (format!("breakers-{role}"), policy.clone())).collect();
    serde_json::from_value(Value::Object(all)).expect("tables by callee are a section")
}

/// The policies again, as the file says now.
pub fn reread(file: &Path) -> anyhow::Result<Policies> {
    let options = read_file(file, file != Path::new(DEFAULT_FILE))?;
    policies(options.calls, file).context("the policies are as before")
}
