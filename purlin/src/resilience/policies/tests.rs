use std::time::Duration;

use serde_json::json;

use crate::resilience::{BreakerConfig, BreakerState, Breakers, Forced, HedgeAfter, Retry};
use crate::telemetry::Metrics;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn section(value: Value) -> Section {
    serde_json::from_value(value).unwrap()
}

fn policies(value: Value) -> Policies {
    Policies::built_in().with("shop.toml", section(value)).unwrap()
}

fn refused(value: Value) -> String {
    Policies::built_in().with("shop.toml", section(value)).unwrap_err().to_string()
}

#[test]
fn the_more_particular_goes_before_the_general_and_the_later_before_the_earlier() {
    let program = section(json!({
        "default": { "timeout": "9s", "attempt": "1s" },
        "payments": { "timeout": "8s", "retry": { "max_attempts": 7 } },
    }));
    let file = section(json!({
        "default": { "timeout": "6s", "hedge": { "after": "p99" } },
        "payments": { "retry": { "first_delay": "10ms" } },
    }));
    let policies =
        Policies::built_in().with("the program", program).unwrap().with("shop.toml", file).unwrap();
    let (payments, other) = (policies.of("payments"), policies.of("other").policy);
    assert_eq!((payments.policy.timeout, other.timeout), (8 * SECOND, 6 * SECOND));
    assert_eq!((payments.policy.attempt, other.attempt), (SECOND, SECOND));
    let retry = Retry { max_attempts: 7, first_delay: Duration::from_millis(10), ..Retry::default() };
    assert_eq!((payments.policy.retry, other.retry), (retry, Retry::default()));
    assert_eq!(other.hedge.unwrap().after, HedgeAfter::Quantile(0.99));
    let from = |key: &str| payments.values.iter().find(|value| value.key == key).unwrap().from.clone();
    assert_eq!(from("timeout"), "calls.payments in the program");
    assert_eq!(from("attempt"), "calls.default in the program");
    assert_eq!(from("retry.first_delay"), "calls.payments in shop.toml");
    assert_eq!(from("hedge.after"), "calls.default in shop.toml");
    assert_eq!(from("breaker.timeout"), "built in");
    let table = payments.to_string();
    assert!(table.starts_with("[calls.payments]\n"), "{table}");
    assert!(
        table.contains("retry.max_attempts") && table.contains("# calls.payments in the program"),
        "{table}"
    );
}

#[test]
fn parts_are_switched_on_and_off() {
    let on = json!({ "hedge": true, "concurrency": { "adaptive": true } });
    let policies = policies(json!({ "default": on, "payments": { "hedge": false, "retry": false } }));
    let (payments, other) = (policies.of("payments").policy, policies.of("other").policy);
    assert_eq!((payments.hedge, payments.retry.max_attempts), (None, 1));
    assert!(payments.concurrency.adaptive.is_some() && other.hedge.is_some());
}

#[test]
fn what_makes_no_sense_is_refused_by_its_key_and_told_what_is_allowed() {
    for (value, key, what) in [
        (json!({ "payments": { "tiemout": "5s" } }), "`calls.payments.tiemout`", "expected one of `timeout`"),
        (
            json!({ "payments": { "retry": { "tries": 3 } } }),
            "`calls.payments.retry.tries`",
            "`max_attempts`",
        ),
        (json!({ "default": { "timeout": "soon" } }), "`calls.default.timeout`", "duration"),
        (
            json!({ "payments": { "breaker": { "probe_timeout": "1s" } } }),
            "`calls.payments.breaker.probe_timeout`",
            "no shorter than `attempt`, 2s",
        ),
        (
            json!({ "default": { "attempt": "6s" } }),
            "`calls.default.attempt`",
            "no longer than `timeout`, 5s",
        ),
        (
            json!({ "default": { "retry": { "max_attempts": 0 } } }),
            "`calls.default.retry.max_attempts`",
            "at least 1",
        ),
        (json!({ "default": { "retry": { "jitter": 2 } } }), "`calls.default.retry.jitter`", "from 0 to 1"),
        (json!({ "a": { "hedge": { "after": "p10" } } }), "`calls.a.hedge.after`", "`p50`"),
        (
            json!({ "a": { "concurrency": { "max_under_way": 10, "adaptive": true } } }),
            "`calls.a.concurrency.adaptive.first_under_way`",
            "to `max_under_way`, 10",
        ),
    ] {
        let told = refused(value);
        assert!(told.starts_with("shop.toml: ") && told.contains(key) && told.contains(what), "{told}");
    }
    assert!(serde_json::from_value::<Section>(json!({ "payments": 5 })).is_err());
}

#[test]
fn a_callee_of_its_own_may_be_wrong_only_together_with_the_default() {
    let policies = policies(json!({ "payments": { "attempt": "4s" } }));
    let error = policies.with("late.toml", section(json!({ "default": { "timeout": "3s" } }))).unwrap_err();
    assert_eq!((&*error.origin, &*error.key), ("late.toml", "calls.payments.attempt"));
}

#[tokio::test(start_paused = true)]
async fn a_reload_holds_for_the_next_call_and_forgets_nothing_that_it_does_not_touch() {
    let calls = Calls::new(policies(json!({})), &Breakers::new());
    let (payments, shipping) = (calls.caller("payments"), calls.caller("shipping"));
    let now = tokio::time::Instant::now();
    for caller in [&payments, &shipping] {
        for _ in 0..BreakerConfig::default().failure_threshold {
            caller.breaker().admit(now).unwrap().failed(now);
        }
    }
    let changed = calls.reload(policies(json!({ "payments": { "timeout": "9s" } })));
    assert_eq!(changed, ["payments".into()]);
    assert_eq!((payments.policy().timeout, shipping.policy().timeout), (9 * SECOND, 5 * SECOND));
    assert_eq!(payments.breaker().status(now).state, BreakerState::Open, "its own part has not changed");
    calls.reload(policies(json!({ "payments": { "breaker": { "failure_threshold": 9 } } })));
    assert_eq!(payments.breaker().status(now).state, BreakerState::Closed);
    assert_eq!(shipping.breaker().status(now).state, BreakerState::Open);
    assert_eq!(calls.breakers().find("payments").unwrap().config().failure_threshold, 9);
    payments.breaker().force(Some(Forced::Open));
    calls.reload(policies(json!({})));
    assert_eq!(payments.breaker().status(now).forced, Some(Forced::Open), "what an operator holds stays");
}

#[tokio::test(start_paused = true)]
async fn those_who_call_one_callee_share_what_they_learn_and_all_is_listed() {
    let metrics = Metrics::new();
    let calls = Calls::observed(policies(json!({ "named": {} })), &Breakers::new(), &metrics);
    let (one, other) = (calls.caller("payments"), calls.caller("payments"));
    one.breaker().force(Some(Forced::Open));
    let answer = other.call(async || Ok::<_, std::convert::Infallible>(())).await;
    assert!(answer.is_err());
    let listed: Vec<_> = calls.in_force().into_iter().map(|policy| policy.callee).collect();
    assert_eq!(listed, ["named", "payments"]);
    assert_eq!(calls.status()[0].breaker, BreakerState::Open);
    let text = metrics.render();
    for line in
        ["purlin_call_limit{callee=\"payments\"} 1024", "purlin_call_retries_left{callee=\"payments\"} 100"]
    {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}
