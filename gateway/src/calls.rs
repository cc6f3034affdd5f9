//! How the gateway calls others: a callee for each pool, and one for the keys of tokens.
//!
//! Around a request that goes on to a service stands what stands around every call of the house
//! ([`Caller`](purlin::resilience::Caller)): above all the breaker, so that a service that is away is not asked by every
//! request anew, and whoever wants it is told so at once. How long a request may take, and how many may be under way,
//! the routes and [`Limits`](crate::config::Limits) say; a policy can only say less.
//!
//! ```
//! use purlin::resilience::Policies;
//!
//! let policies = Policies::built_in().with("the gateway", purlin_gateway::calls::section(["orders"])).unwrap();
//! let orders = policies.of(&purlin_gateway::calls::callee("orders")).policy;
//! assert_eq!(orders.retry.max_attempts, 1, "what is sent again, and when, the upstream itself knows best");
//! ```

use std::time::Duration;

use purlin::resilience::policies::Section;
use purlin::resilience::{BreakerConfig, BulkheadConfig, CallPolicy, Over, RateConfig, Retry};

/// Whom the gateway asks for the keys of tokens, in `[calls.*]`.
pub const TOKEN_KEYS: &str = "token-keys";

/// What a pool is called in `[calls.*]` and among breakers: `gateway-orders`. Others who call the same service have
/// breakers of their own, for what keeps them from it need not keep us.
pub fn callee(pool: &str) -> String {
    format!("gateway-{pool}")
}

/// What holds for the calls of a gateway with these pools, unless the program or its file says otherwise of one of them.
/// Every value is named, so that what is said of all callees changes none.
///
/// A breaker opens for two seconds, when ten requests in a row failed, or half of twenty and more within ten seconds. A
/// caller who goes away says nothing about the service, however long he waited: somebody outside must not be able to
/// close a service to the others. A probe is waited for a second, whatever the policy says: then others may probe, while
/// it goes on.
pub fn section<'a>(pools: impl IntoIterator<Item = &'a str>) -> Section {
    let pools = pools.into_iter().map(|name| (callee(name), hop()));
    pools.chain([(TOKEN_KEYS.to_owned(), keys())]).collect()
}

/// How long a request may take, and how many may be under way, the routes say.
fn hop() -> CallPolicy {
    const LONG: Duration = Duration::from_secs(600);
    let rates = RateConfig {
        over: Over::Time(Duration::from_secs(10)),
        minimum_calls: 20,
        failures: Some(0.5),
        slow: None,
    };
    CallPolicy {
        timeout: LONG,
        attempt: LONG,
        retry: Retry { max_attempts: 1, ..Retry::default() },
        concurrency: BulkheadConfig { max_under_way: 65536, max_waiting: 0, ..BulkheadConfig::default() },
        breaker: BreakerConfig {
            failure_threshold: 10,
            window: 10,
            rates: Some(rates),
            timeout: Duration::from_secs(2),
            probe_timeout: LONG,
            abandoned_after: Duration::from_secs(3600),
            ..BreakerConfig::default()
        },
        ..CallPolicy::default()
    }
}

/// Whoever needs keys asks again, and again; nobody else should.
fn keys() -> CallPolicy {
    const SHORT: Duration = Duration::from_secs(2);
    CallPolicy {
        timeout: SHORT,
        attempt: SHORT,
        retry: Retry { max_attempts: 1, ..Retry::default() },
        breaker: BreakerConfig {
            failure_threshold: 5,
            window: 5,
            success_threshold: 1,
            timeout: Duration::from_secs(1),
            ..BreakerConfig::default()
        },
        ..CallPolicy::default()
    }
}

#[cfg(test)]
mod tests {
    use purlin::resilience::Policies;
    use serde_json::{Value, json};

    use super::*;

    fn read(file: Value) -> Policies {
        let file: Section = serde_json::from_value(file).unwrap();
        let policies = Policies::built_in().with("the gateway", section(["orders", "users"])).unwrap();
        policies.with("a file", file).unwrap()
    }

    #[test]
    fn what_a_file_says_of_all_does_not_reach_the_hops_and_what_it_says_of_one_does() {
        let of_all = json!({
            "timeout": "3s",
            "attempt": "1s",
            "retry": { "max_attempts": 5, "first_delay": "1ms", "max_delay": "2ms", "jitter": 0.5 },
            "budget": { "ratio": 0.9, "per_second": 1.0, "saved": 2.0 },
            "concurrency": { "max_under_way": 256, "max_waiting": 7, "max_wait": "9s", "adaptive": true },
            "hedge": { "after": "p95" },
            "breaker": {
                "failure_threshold": 1,
                "window": 1,
                "memory": "1s",
                "rates": {
                    "over": { "calls": 7 },
                    "minimum_calls": 3,
                    "slow": { "after": "1ms", "rate": 0.1 },
                },
                "success_threshold": 9,
                "probes": 1,
                "probe_timeout": "1s",
                "timeout": "9s",
                "growth": { "factor": 2.0, "max": "60s", "calm": "5s" },
                "abandoned_after": "1ms",
            },
        });
        let said = read(json!({ "default": of_all, "gateway-orders": { "attempt": "3s" } }));
        assert_eq!((said.of("gateway-users").policy, said.of(TOKEN_KEYS).policy), (hop(), keys()));
        let orders = CallPolicy { attempt: Duration::from_secs(3), ..hop() };
        assert_eq!(said.of("gateway-orders").policy, orders);
        assert_eq!(said.of("payments").policy.attempt, Duration::from_secs(1));
    }
}
