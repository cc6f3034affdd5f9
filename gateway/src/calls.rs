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

use purlin::resilience::policies::Section;
use serde_json::{Map, Value, json};

/// Whom the gateway asks for the keys of tokens, in `[calls.*]`.
pub const TOKEN_KEYS: &str = "token-keys";

/// What a pool is called in `[calls.*]` and among breakers: `gateway-orders`. Others who call the same service have
/// breakers of their own, for what keeps them from it need not keep us.
pub fn callee(pool: &str) -> String {
    format!("gateway-{pool}")
}

/// What holds for the calls of a gateway with these pools, unless the program or its file says otherwise.
///
/// A breaker opens for two seconds, when ten requests in a row failed, or half of twenty and more within ten seconds. A
/// caller who goes away says nothing about the service, however long he waited: somebody outside must not be able to
/// close a service to the others.
pub fn section<'a>(pools: impl IntoIterator<Item = &'a str>) -> Section {
    let pool = json!({
        "timeout": "10m",
        "attempt": "10m",
        "retry": false,
        "concurrency": { "max_under_way": 65536, "max_waiting": 0 },
        "breaker": {
            "failure_threshold": 10,
            "window": 10,
            "rates": { "over": { "time": "10s" }, "minimum_calls": 20, "failures": 0.5 },
            "timeout": "2s",
            "probe_timeout": "10m",
            "abandoned_after": "1h",
        },
    });
    // Whoever needs keys asks again, and again; nobody else should.
    let keys = json!({
        "timeout": "2s",
        "attempt": "2s",
        "retry": false,
        "breaker": { "failure_threshold": 5, "window": 5, "success_threshold": 1, "timeout": "1s" },
    });
    let pools = pools.into_iter().map(|name| (callee(name), pool.clone()));
    let all: Map<String, Value> = pools.chain([(TOKEN_KEYS.to_owned(), keys)]).collect();
    serde_json::from_value(Value::Object(all)).expect("tables by callee are a section")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use purlin::resilience::Policies;

    use super::*;

    #[test]
    fn what_a_file_says_of_all_does_not_reach_the_hops_and_what_it_says_of_one_does() {
        let file = json!({ "default": { "attempt": "1s" }, "gateway-orders": { "attempt": "3s" } });
        let file: Section = serde_json::from_value(file).unwrap();
        let policies = Policies::built_in().with("the gateway", section(["orders", "users"])).unwrap();
        let policies = policies.with("a file", file).unwrap();
        let attempt = |callee: &str| policies.of(callee).policy.attempt;
        assert_eq!(attempt("gateway-orders"), Duration::from_secs(3));
        assert_eq!(attempt("gateway-users"), Duration::from_secs(600));
        assert_eq!(attempt("payments"), Duration::from_secs(1));
        assert_eq!(attempt(TOKEN_KEYS), Duration::from_secs(2));
    }
}
