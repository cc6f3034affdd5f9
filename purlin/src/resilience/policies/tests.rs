use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::resilience::{
    Breaker, BreakerConfig, BreakerState, Breakers, Bulkhead, Forced, HedgeAfter, RateConfig, Retry,
};
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
fn retries_that_are_switched_on_again_are_as_they_were_before() {
    let retry = |general: Value, particular: Value| {
        let of = policies(json!({ "default": { "retry": general }, "payments": { "retry": particular } }));
        of.of("payments")
    };
    let usual = Retry::default();
    let five = Retry { max_attempts: 5, first_delay: Duration::from_millis(10), ..usual };
    for (general, particular, expected) in [
        (json!(false), json!(true), usual),
        (json!({ "max_attempts": 1, "first_delay": "10ms" }), json!(true), Retry { max_attempts: 3, ..five }),
        (json!({ "max_attempts": 5, "first_delay": "10ms" }), json!(true), five),
        (json!(true), json!(false), Retry { max_attempts: 1, ..usual }),
        (json!(true), json!({ "max_attempts": 1 }), Retry { max_attempts: 1, ..usual }),
        (json!(false), json!({ "max_attempts": 2 }), Retry { max_attempts: 2, ..usual }),
    ] {
        assert_eq!(
            retry(general.clone(), particular.clone()).policy.retry,
            expected,
            "{general} {particular}"
        );
    }
    let shown = retry(json!(false), json!(true));
    let attempts = shown.values.iter().find(|value| value.key == "retry.max_attempts").unwrap();
    assert_eq!((&attempts.value, &*attempts.from), (&json!(3), "calls.payments in shop.toml"));

    // The program says how many for all, wants none of one, and its user does.
    let all = json!({ "max_attempts": 5, "first_delay": "10ms" });
    let one = section(json!({ "default": { "retry": all }, "payments": { "retry": false } }));
    let one = Policies::built_in().with("the program", one).unwrap();
    assert_eq!(one.of("payments").policy.retry, Retry { max_attempts: 1, ..five });
    let file = section(json!({ "payments": { "retry": true } }));
    assert_eq!(one.with("shop.toml", file.clone()).unwrap().of("payments").policy.retry, five);

    // A program of policies in code wants none of it, not even its pauses.
    let never = CallPolicy { retry: Retry::NEVER, ..CallPolicy::default() };
    let program = json!({ "default": { "retry": { "max_attempts": 5, "first_delay": "10ms" } } });
    let program = Policies::built_in().with("the program", section(program)).unwrap();
    let program = program.with("its part", Section::from_iter([("payments".to_owned(), never)])).unwrap();
    assert_eq!(program.of("payments").policy.retry, Retry::NEVER);
    assert_eq!(program.with("shop.toml", file).unwrap().of("payments").policy.retry, five);
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
            json!({ "a": { "concurrency": { "max_under_way": 3, "adaptive": true } } }),
            "`calls.a.concurrency.adaptive.min_under_way`",
            "from 1 to `max_under_way`, 3",
        ),
    ] {
        let told = refused(value);
        assert!(told.starts_with("shop.toml: ") && told.contains(key) && told.contains(what), "{told}");
    }
    assert!(serde_json::from_value::<Section>(json!({ "payments": 5 })).is_err());
}

#[test]
fn the_numbers_of_an_adaptive_limit_have_bounds_of_which_each_is_told() {
    let adaptive = |key: &str, value: Value| {
        let mut adaptive = Map::new();
        adaptive.insert(key.to_owned(), value);
        json!({ "a": { "concurrency": { "adaptive": adaptive } } })
    };
    for (key, wrong, right, what) in [
        ("min_under_way", json!(0), json!(1), "from 1 to `max_under_way`, 1024"),
        ("min_under_way", json!(1025), json!(20), "from 1 to `max_under_way`, 1024"),
        ("first_under_way", json!(3), json!(4), "at least `min_under_way`, 4"),
        ("tolerance", json!(1.0), json!(1.01), "more than 1, and at most 100"),
        ("tolerance", json!(100.1), json!(100.0), "more than 1, and at most 100"),
        ("window", json!("0s"), json!("1ms"), "longer than 0, and at most a minute"),
        ("window", json!("61s"), json!("3s"), "longer than 0, and at most a minute"),
        ("min_answers", json!(0), json!(1), "from 1 to a million"),
        ("min_answers", json!(1_000_001), json!(1_000_000), "from 1 to a million"),
        ("remeasure", json!("999ms"), json!("1s"), "at least ten times `window`, 100ms"),
    ] {
        let told = refused(adaptive(key, wrong));
        let of = format!("`calls.a.concurrency.adaptive.{key}`");
        assert!(told.contains(&of) && told.contains(what), "{told}");
        policies(adaptive(key, right));
    }
}

#[test]
fn whoever_lowers_a_limit_need_not_know_where_it_would_have_begun() {
    let others = json!({ "adaptive": { "first_under_way": 64 } });
    let policies = policies(json!({
        "default": { "concurrency": others },
        "a": { "concurrency": { "max_under_way": 32 } },
    }));
    let concurrency = policies.of("a").policy.concurrency;
    assert_eq!(Bulkhead::new(concurrency).status().limit, 32);
}

#[test]
fn what_nobody_said_of_a_breaker_is_shown_as_it_holds() {
    let shown = |said: Value| {
        let of = policies(json!({ "payments": { "breaker": said } })).of("payments");
        let value = move |key: &str| {
            let value = of.values.iter().find(|value| value.key == format!("breaker.{key}"));
            value.map_or(json!("missing"), |value| json!([value.value, value.from]))
        };
        ["failure_threshold", "window", "rates.failures", "rates", "growth.max", "growth", "timeout"]
            .map(value)
    };
    let (built_in, said, none) = ("built in", "calls.payments in shop.toml", json!("missing"));
    let usual = [json!([10, built_in]), json!([10, built_in]), json!([0.5, built_in]), none.clone()];
    let grows = [json!(["2s", built_in]), none.clone(), json!(["500ms", built_in])];
    assert_eq!(shown(json!({})), [&usual[..], &grows[..]].concat()[..]);
    let plain = [json!([5, said]), json!([20, built_in]), none.clone(), json!([false, built_in])];
    let lasts = [none, json!([false, built_in]), json!(["30s", said])];
    let shown_plain = shown(json!({ "failure_threshold": 5, "timeout": "30s" }));
    assert_eq!(shown_plain, [&plain[..], &lasts[..]].concat()[..]);
    let by_rates = shown(json!({ "rates": { "failures": 0.2 } }));
    assert_eq!(by_rates[..3], [json!([false, built_in]), json!([20, built_in]), json!([0.2, said])]);
}

#[test]
fn what_is_switched_off_of_a_breaker_is_off_and_what_would_leave_nothing_is_refused() {
    let of = |said: Value| policies(json!({ "payments": { "breaker": said } })).of("payments");
    let holds = |said: Value| of(said).policy.breaker.in_force();
    let steady = holds(json!({ "growth": false, "timeout": "3s" }));
    let growth = steady.growth.unwrap();
    assert_eq!((growth.factor, steady.failure_threshold), (1.0, 10));
    let by_rates = holds(json!({ "failure_threshold": false }));
    assert_eq!(
        (by_rates.failure_threshold, by_rates.rates),
        (BreakerConfig::NEVER, Some(RateConfig::default()))
    );
    let plain = holds(json!({ "rates": false, "failure_threshold": 3 }));
    assert_eq!((plain.failure_threshold, plain.rates), (3, None));
    let shown = of(json!({ "growth": false, "failure_threshold": false }));
    for (key, value, from) in [
        ("breaker.failure_threshold", json!(false), "calls.payments in shop.toml"),
        ("breaker.rates.failures", json!(0.5), "built in"),
        ("breaker.growth.factor", json!(1.0), "calls.payments in shop.toml"),
    ] {
        let line = shown.values.iter().find(|line| line.key == key).unwrap();
        assert_eq!((&line.value, &*line.from), (&value, from), "{key}");
    }
    for nothing in [json!({ "rates": false }), json!({ "rates": false, "failure_threshold": false })] {
        let told = refused(json!({ "payments": { "breaker": nothing } }));
        assert!(
            told.starts_with("shop.toml: `calls.payments.breaker.rates`: `false` leaves nothing"),
            "{told}"
        );
    }
    let general = policies(json!({ "default": { "breaker": { "failure_threshold": 5, "rates": false } } }));
    let particular = json!({ "payments": { "breaker": { "failure_threshold": false } } });
    assert!(general.with("late.toml", section(particular)).is_err());
}

#[test]
fn what_is_shown_of_a_breaker_can_be_said_and_holds_then_as_before() {
    for said in [
        json!({}),
        json!({ "timeout": "5s" }),
        json!({ "growth": false }),
        json!({ "failure_threshold": false }),
        json!({ "failure_threshold": 5, "timeout": "30s" }),
        json!({ "rates": { "failures": 0.2 }, "timeout": "1m" }),
    ] {
        let shown = policies(json!({ "payments": { "breaker": said } })).of("payments");
        let mut again = Map::new();
        for line in shown.values {
            let mut path: Vec<_> = line.key.split('.').collect();
            let leaf = path.pop().unwrap().to_owned();
            let mut table = &mut again;
            for part in path {
                table = table.entry(part).or_insert_with(|| json!({})).as_object_mut().unwrap();
            }
            table.insert(leaf, line.value);
        }
        let again = policies(json!({ "payments": again })).of("payments").policy.breaker;
        let (breaker, holds) = (Breaker::new("payments", again), shown.policy.breaker.in_force());
        let without = |config: BreakerConfig| BreakerConfig {
            growth: config.growth.filter(|growth| growth.factor > 1.0),
            ..config
        };
        assert_eq!(without(*breaker.config()), without(holds), "{said}");
        assert_eq!(
            Breaker::new("payments", shown.policy.breaker).config(),
            &holds,
            "what is shown is what holds: {said}"
        );
    }
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
        for _ in 0..BreakerConfig::default().in_force().failure_threshold {
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

/// What each of so many threads, more than have a line of their own, finds between two moments.
fn on_all_threads<T: Send>(look: impl Fn() -> T + Sync, meanwhile: impl FnOnce()) -> Vec<(T, T)> {
    const THREADS: usize = 24;
    let (before, after) = (Barrier::new(THREADS + 1), Barrier::new(THREADS + 1));
    thread::scope(|scope| {
        let one = || {
            let first = look();
            before.wait();
            // None of them ends and gives its line to another before all have looked.
            after.wait();
            (first, look())
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(one)).collect();
        before.wait();
        meanwhile();
        after.wait();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn a_reload_holds_for_the_next_call_of_every_thread() {
    let calls = Calls::new(policies(json!({})), &Breakers::new());
    let payments = calls.caller("payments");
    let looks = || (payments.policy().timeout, payments.breaker().config().failure_threshold);
    let reload = || {
        let changed = json!({ "payments": { "timeout": "9s", "breaker": { "failure_threshold": 7 } } });
        assert_eq!(calls.reload(policies(changed)), ["payments".into()]);
    };
    for found in on_all_threads(looks, reload) {
        assert_eq!(found, ((5 * SECOND, 10), (9 * SECOND, 7)));
    }
    payments.breaker().force(Some(Forced::Open));
    let held = on_all_threads(|| payments.breaker().status(tokio::time::Instant::now()).forced, || {});
    assert!(held.into_iter().all(|(one, other)| one.is_some() && one == other), "it is one breaker");
}

#[test]
fn of_reloads_at_the_same_time_one_is_the_last_for_all_threads() {
    let calls = Calls::new(policies(json!({})), &Breakers::new());
    let payments = calls.caller("payments");
    for _ in 0..50 {
        let reload = |timeout: &str| {
            calls.reload(policies(json!({ "payments": { "timeout": timeout } })));
        };
        let found = on_all_threads(
            || payments.policy().timeout,
            || {
                thread::scope(|scope| {
                    scope.spawn(|| reload("7s"));
                    reload("8s");
                });
            },
        );
        let last = payments.policy().timeout;
        assert!(found.into_iter().all(|(_, timeout)| timeout == last));
    }
}
