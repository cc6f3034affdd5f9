//! How others are called: what the shop says of it, and what `shop.toml` says.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use purlin::resilience::policies::Section;
use purlin::resilience::{BreakerConfig, CallPolicy, Policies, Retry};
use purlin_gateway::calls;

use super::{DEFAULT_FILE, Role, read_file};

/// The processes of other roles, as a process is told of them.
pub type Peers = BTreeMap<Role, Vec<String>>;

/// The policies of all callees, with the table `calls` of the file.
pub(super) fn policies(section: Option<Section>, file: &Path, peers: &Peers) -> anyhow::Result<Policies> {
    let own: Section = toml::from_str(include_str!("calls.toml")).expect("the shop's own policies are TOML");
    let behind = || Role::ALL.into_iter().filter(|role| role.is_behind_gateway());
    let hops = calls::section(behind().map(Role::name).chain([crate::breakers::POOL]));
    let policies = Policies::built_in().with("the gateway", hops);
    let of_breakers = behind().flat_map(|role| of_breakers(role, peers)).collect();
    let policies = policies.and_then(|policies| policies.with("the shop", of_breakers));
    let own = policies.and_then(|policies| policies.with("the shop", own));
    let own = own.expect("the shop's own policies make sense");
    Ok(own.with(file.display().to_string(), section.unwrap_or_default())?)
}

/// What a process that is asked for its breakers is called: by its role, and where several have one, by its endpoint too,
/// so that one that is away does not keep us from another.
pub fn breakers_of(role: Role, endpoint: Option<&str>) -> String {
    match endpoint {
        Some(endpoint) => format!("breakers-{}-{endpoint}", role.name()),
        None => format!("breakers-{}", role.name()),
    }
}

/// How the processes of a role are asked for their breakers: an administrator waits, and one that is away is said to be
/// away. Every value is named, so that what is said of all callees changes none.
fn of_breakers(role: Role, peers: &Peers) -> impl Iterator<Item = (String, CallPolicy)> {
    const SHORT: Duration = Duration::from_secs(1);
    let policy = CallPolicy {
        timeout: SHORT,
        attempt: SHORT,
        retry: Retry { max_attempts: 1, ..Retry::default() },
        breaker: BreakerConfig {
            failure_threshold: 3,
            window: 3,
            success_threshold: 1,
            timeout: Duration::from_secs(2),
            ..BreakerConfig::default()
        },
        ..CallPolicy::default()
    };
    let endpoints = peers.get(&role).into_iter().flatten().map(|endpoint| Some(endpoint.as_str()));
    endpoints.chain([None]).map(move |endpoint| (breakers_of(role, endpoint), policy))
}

/// The policies again, as the file says now.
pub fn reread(file: &Path, peers: &Peers) -> anyhow::Result<Policies> {
    let options = read_file(file, file != Path::new(DEFAULT_FILE))?;
    policies(options.calls, file, peers).context("the policies are as before")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_of_a_role_is_asked_for_its_breakers_alike() {
        let peers = Peers::from([(Role::Users, vec!["a:1".into(), "b:2".into()])]);
        let file: Section = toml::from_str("[default]\nconcurrency = { adaptive = true }").unwrap();
        let policies = policies(Some(file), Path::new("shop.toml"), &peers).unwrap();
        let of = |endpoint| policies.of(&breakers_of(Role::Users, endpoint)).policy;
        assert_eq!(of(None).timeout, Duration::from_secs(1));
        assert_eq!((of(Some("a:1")), of(Some("b:2"))), (of(None), of(None)));
        assert_eq!(of(None).concurrency.adaptive, None);
    }
}
