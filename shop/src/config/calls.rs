//! How others are called: what the shop says of it, and what `shop.toml` says.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use purlin::resilience::policies::{PolicyError, PolicyInForce, Section};
use purlin::resilience::{BreakerConfig, Breakers, CallPolicy, Calls, Policies, Retry};
use purlin_gateway::calls;

use super::Role;

/// The processes of other roles, as a process is told of them.
pub type Peers = BTreeMap<Role, Vec<String>>;

/// The policies of all callees, with the table `calls` of the file.
pub fn policies(section: Option<Section>, file: &Path, peers: &Peers) -> anyhow::Result<Policies> {
    let own: Section = toml::from_str(include_str!("calls.toml")).expect("the shop's own policies are TOML");
    let behind = || Role::ALL.into_iter().filter(|role| role.is_behind_gateway());
    let hops = calls::section(behind().map(Role::name).chain([crate::breakers::POOL]));
    let policies = Policies::built_in().with("the gateway", hops);
    let of_breakers = behind().flat_map(|role| of_breakers(role, peers)).collect();
    let policies = policies.and_then(|policies| policies.with("the shop", of_breakers));
    let own = policies.and_then(|policies| policies.with("the shop", own));
    let own = own.expect("the shop's own policies make sense");
    let file = file.display().to_string();
    let policies = own.with(file.clone(), section.unwrap_or_default())?;
    refuse_what_does_nothing(&policies, &file)?;
    Ok(policies)
}

/// Refuses what a file says of a callee and what nobody would ever heed: it would be shown as if it held.
fn refuse_what_does_nothing(policies: &Policies, file: &str) -> Result<(), PolicyError> {
    // Without a call yet, the policies that are listed are those of the callees that are named.
    for named in Calls::new(policies.clone(), &Breakers::new()).in_force() {
        let callee = &named.callee;
        let refused = |key: String, what: String| Err(PolicyError { origin: file.to_owned(), key, what });
        if !is_called(callee) {
            let known = "users, products, inventory, orders, payments, shipping, card-network, model, token-keys, \
                         keys-<role>, gateway-<role>, breakers-<role>, and default for all";
            return refused(format!("calls.{callee}"), format!("nobody is called so: known are {known}"));
        }
        if let (Some(who), Some(part)) = (who_repeats(callee), said_of_repeats(&named, file)) {
            let what = format!(
                "it would have no effect, because calls of `{callee}` are never repeated here: {who}"
            );
            return refused(format!("calls.{callee}.{part}"), what);
        }
    }
    Ok(())
}

/// Whether any process of the shop calls somebody by this name.
fn is_called(callee: &str) -> bool {
    let is_of = |what: &str, of: &dyn Fn(Role) -> bool| {
        let role = callee.strip_prefix(what);
        role.is_some_and(|name| Role::ALL.into_iter().any(|role| of(role) && role.name() == name))
    };
    let asked = |role: Role| role.is_behind_gateway() && role != Role::Assistant;
    let takes_keys =
        |role: Role| matches!(role, Role::Users | Role::Orders | Role::Products | Role::Inventory);
    // Those that are asked for their breakers may have their endpoint behind the role, which only their gateway knows.
    let is_asked_for_breakers = |role: Role| {
        let rest = callee.strip_prefix(&breakers_of(role, None));
        role.is_behind_gateway() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    ["card-network", "model", calls::TOKEN_KEYS].contains(&callee)
        || callee == calls::callee(crate::breakers::POOL)
        || is_of("", &asked)
        || is_of("keys-", &takes_keys)
        || is_of(&calls::callee(""), &Role::is_behind_gateway)
        || Role::ALL.into_iter().any(is_asked_for_breakers)
}

/// Who repeats calls of a callee that failed, where that is never the call itself.
fn who_repeats(callee: &str) -> Option<&'static str> {
    match callee {
        "payments" | "shipping" => Some("the checkout whose step it is asks again, until its deadline"),
        "model" => Some("the model's own client does that"),
        calls::TOKEN_KEYS => Some("whoever needs keys asks again, and nobody else should"),
        hop if hop.starts_with(&calls::callee("")) => {
            Some("the gateway itself sends again what may be sent again")
        }
        _ => None,
    }
}

/// Which part of a policy a file says that is for repeated calls only, unless it says that there are to be none.
fn said_of_repeats(named: &PolicyInForce, file: &str) -> Option<&'static str> {
    if named.policy.hedge.is_some() {
        return Some("hedge");
    }
    let here = format!("calls.{} in {file}", named.callee);
    let said = named.values.iter().filter(|value| value.from == here);
    let mut said = said.filter(|value| value.key != "retry.max_attempts" || value.value != 1);
    said.find_map(|value| {
        ["retry", "budget"].into_iter().find(|part| value.key.split('.').next() == Some(part))
    })
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

#[cfg(test)]
mod tests {
    use purlin::resilience::Breaker;
    use tokio::time::Instant;

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

    fn read(text: &str) -> anyhow::Result<Policies> {
        policies(Some(toml::from_str(text)?), Path::new("shop.toml"), &Peers::new())
    }

    #[test]
    fn what_could_have_no_effect_for_a_callee_is_refused_by_its_key_and_told_why() {
        for (text, key, why) in [
            ("[payments]\nretry = { max_attempts = 5 }", "calls.payments.retry", "the checkout"),
            ("[payments.retry]\nfirst_delay = \"1s\"", "calls.payments.retry", "the checkout"),
            ("[shipping]\nhedge = true", "calls.shipping.hedge", "the checkout"),
            ("[shipping]\nhedge = { after = \"p99\" }", "calls.shipping.hedge", "the checkout"),
            ("[model]\nbudget = { ratio = 0.5 }", "calls.model.budget", "own client"),
            ("[token-keys]\nretry = { max_attempts = 3 }", "calls.token-keys.retry", "asks again"),
            (
                "[gateway-orders]\nretry = { max_attempts = 2 }",
                "calls.gateway-orders.retry",
                "the gateway itself",
            ),
            ("[gateway-breakers]\nhedge = true", "calls.gateway-breakers.hedge", "the gateway itself"),
            ("[paymets]\nattempt = \"1s\"", "calls.paymets", "known are users"),
            ("[keys-payments]\nattempt = \"1s\"", "calls.keys-payments", "known are users"),
            ("[gateway-console]\nattempt = \"1s\"", "calls.gateway-console", "known are users"),
            ("[breakers-gateway]\nattempt = \"1s\"", "calls.breakers-gateway", "known are users"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("shop.toml: `{key}`: ")) && error.contains(why),
                "{text}: {error}"
            );
        }
        for text in [
            "[payments]\nretry = false\nhedge = false\ntimeout = \"9s\"",
            "[default]\nretry = { max_attempts = 5 }\nhedge = true\nbudget = { ratio = 0.5 }",
            "[users]\nretry = { max_attempts = 5 }\nhedge = true\nbudget = { ratio = 0.5 }",
            "[card-network]\nretry = { max_attempts = 2 }",
            "[gateway-orders]\nattempt = \"3s\"",
            "[keys-users]\nretry = { max_attempts = 2 }",
            "[breakers-users]\ntimeout = \"2s\"",
            "[\"breakers-users-10.0.0.7:8081\"]\nattempt = \"2s\"",
        ] {
            let policies = read(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            // What is shown of them is what holds.
            for callee in ["payments", "shipping", "model", "token-keys", "gateway-orders"] {
                let policy = policies.of(callee).policy;
                assert_eq!((policy.retry.max_attempts, policy.hedge), (1, None), "{text}: {callee}");
            }
        }
    }

    #[test]
    fn whoever_lowers_how_many_calls_are_under_way_need_not_know_with_how_many_they_begin() {
        for callee in ["users", "products"] {
            let text = format!("[{callee}]\nconcurrency = {{ max_under_way = 32 }}");
            let concurrency = read(&text).unwrap().of(callee).policy.concurrency;
            assert_eq!(concurrency.max_under_way, 32, "{callee}");
            assert!(concurrency.adaptive.is_some(), "{callee}");
        }
    }

    #[test]
    fn what_was_added_to_a_number_of_failures_that_the_shop_no_longer_says_is_refused_and_told_what_to_say() {
        for callee in LONG {
            for said in ["window = 8", "rates = false"] {
                let error = read(&format!("[{callee}]\nbreaker = {{ {said} }}")).unwrap_err().to_string();
                assert!(error.contains("failure_threshold"), "{error}");
                read(&format!("[{callee}]\nbreaker = {{ failure_threshold = 5, {said} }}")).unwrap();
            }
        }
    }

    /// Whose calls last long.
    const LONG: [&str; 3] = ["payments", "card-network", "model"];

    #[tokio::test(start_paused = true)]
    async fn one_call_in_six_that_fails_leaves_nobody_alone_and_ten_that_hang_do() {
        let policies = read("").unwrap();
        for callee in LONG {
            let policy = policies.of(callee).policy;
            let breaker = Breaker::new(callee, policy.breaker);
            let mut dice = 22_u64;
            for call in 0..20_000 {
                // Every sixth, and then one in six by chance.
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let fails = if call < 10_000 { call % 6 == 0 } else { (dice >> 33).is_multiple_of(6) };
                tokio::time::advance(Duration::from_millis(100)).await;
                let now = Instant::now();
                let permit = breaker.admit(now).unwrap_or_else(|_| panic!("{callee}: open at call {call}"));
                if fails { permit.failed(now) } else { permit.succeeded() }
            }
            // Of one that hangs two callers who ask again and again find out, however long each waits.
            let begun = Instant::now();
            while breaker.is_closed() {
                tokio::time::advance(policy.attempt).await;
                let now = Instant::now();
                for permit in [breaker.admit(now), breaker.admit(now)] {
                    permit.map(|permit| permit.failed(now)).ok();
                }
                assert!(begun.elapsed() <= 5 * policy.attempt, "{callee}");
            }
        }
    }
}
