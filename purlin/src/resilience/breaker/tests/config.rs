//! What a configuration may say.

use super::*;

#[test]
fn a_configuration_is_read_as_it_is_written() {
    let read: BreakerConfig =
        serde_json::from_str(r#"{"failure_threshold": 2, "timeout": "1m 30s"}"#).unwrap();
    assert_eq!(
        read,
        BreakerConfig { failure_threshold: 2, timeout: 90 * SECOND, ..BreakerConfig::default() }
    );
    let written = serde_json::to_string(&read).unwrap();
    assert_eq!(serde_json::from_str::<BreakerConfig>(&written).unwrap(), read);
    assert!(serde_json::from_str::<BreakerConfig>(r#"{"treshold": 2}"#).is_err());
}

#[test]
fn a_configuration_that_makes_no_sense_says_why() {
    let usual = BreakerConfig::default();
    let rates = |rates| BreakerConfig { rates: Some(rates), ..usual };
    let share = |failures| RateConfig { failures: Some(failures), ..RateConfig::default() };
    let slow = |after, rate| RateConfig { slow: Some(SlowCalls { after, rate }), ..RateConfig::default() };
    let over = |over| RateConfig { over, ..RateConfig::default() };
    let growth = |factor, max| {
        let growth = Some(Growth { factor, max, ..Growth::default() });
        BreakerConfig { growth, timeout: 5 * SECOND, ..usual }
    };
    let wrong = [
        ("failure_threshold", BreakerConfig { failure_threshold: 0, ..usual }),
        ("failure_threshold", BreakerConfig { failure_threshold: 65_537, ..usual }),
        ("window", BreakerConfig { window: 21, ..usual }),
        ("window", BreakerConfig { window: 65_537, ..usual }),
        ("success_threshold", BreakerConfig { success_threshold: 0, ..usual }),
        ("probes", BreakerConfig { probes: Some(0), ..usual }),
        ("probe_timeout", BreakerConfig { probe_timeout: Duration::ZERO, ..usual }),
        ("growth.factor", growth(0.5, SECOND)),
        ("growth.factor", growth(f64::NAN, SECOND)),
        ("growth.max", growth(2.0, SECOND)),
        ("rates", rates(RateConfig { failures: None, ..RateConfig::default() })),
        ("rates.failures", rates(share(1.01))),
        ("rates.failures", rates(share(-0.1))),
        ("rates.failures", rates(share(f64::NAN))),
        ("rates.slow.rate", rates(slow(SECOND, 2.0))),
        ("rates.slow.after", rates(slow(Duration::ZERO, 0.5))),
        ("rates.minimum_calls", rates(RateConfig { minimum_calls: 0, ..RateConfig::default() })),
        ("rates.minimum_calls", rates(RateConfig { minimum_calls: 101, ..RateConfig::default() })),
        ("rates.over.calls", rates(RateConfig { minimum_calls: 1, ..over(Over::Calls(0)) })),
        ("rates.over.calls", rates(over(Over::Calls(65_537)))),
        ("rates.over.time", rates(over(Over::Time(Duration::from_millis(99))))),
        ("rates.over.time", rates(over(Over::Time(3601 * SECOND)))),
    ];
    for (field, config) in wrong {
        let error = config.validate().expect_err(field);
        assert_eq!(error.field, field, "{error}");
        let written = serde_json::to_string(&config).unwrap();
        let read = serde_json::from_str::<BreakerConfig>(&written);
        assert!(read.is_err(), "{written}");
    }
    let error = BreakerConfig { window: 70_000, ..usual }.validate().unwrap_err();
    assert_eq!(error.to_string(), "a breaker's `window` must be at most 65536");
    assert!(rates(share(0.0)).validate().and(rates(share(1.0)).validate()).is_ok());
}

#[test]
fn a_configuration_with_everything_is_read_as_it_is_written() {
    let text = r#"{"failure_threshold": 3, "probes": 1, "growth": {"factor": 2.0, "max": "1m"},
        "rates": {"over": {"time": "10s"}, "minimum_calls": 10, "slow": {"after": "500ms", "rate": 0.8}}}"#;
    let read: BreakerConfig = serde_json::from_str(text).unwrap();
    let rates = read.rates.unwrap();
    assert_eq!((rates.over, rates.failures), (Over::Time(10 * SECOND), Some(0.5)));
    let growth = read.growth.unwrap();
    assert_eq!((growth.factor, growth.max, read.probes), (2.0, 60 * SECOND, Some(1)));
    let written = serde_json::to_string(&read).unwrap();
    assert_eq!(serde_json::from_str::<BreakerConfig>(&written).unwrap(), read);
    assert!(
        serde_json::from_str::<BreakerConfig>(r#"{"rates": {"over": {"calls": 10}, "sloow": 1}}"#).is_err()
    );
}

#[test]
fn whoever_names_a_number_of_failures_gets_that_and_whoever_names_nothing_a_share_that_grows() {
    let read = |text: &str| serde_json::from_str::<BreakerConfig>(text).unwrap().in_force();
    let plain = read(r#"{"failure_threshold": 5, "success_threshold": 1, "timeout": "30s"}"#);
    assert_eq!((plain.failure_threshold, plain.window, plain.rates, plain.growth), (5, 20, None, None));
    let share = Some(RateConfig::default());
    for usual in [r"{}", r#"{"failure_threshold": null, "rates": null}"#] {
        let usual = read(usual);
        assert_eq!((usual.failure_threshold, usual.window, usual.rates), (10, 10, share));
        assert_eq!((usual.timeout, usual.growth), (SECOND / 2, Some(Growth::default())));
        assert_eq!(usual.in_force(), usual);
        assert_eq!(
            Breaker::new("callee", BreakerConfig::default()).config(),
            &usual,
            "what is shown is what holds"
        );
    }
    let rates = read(r#"{"rates": {"failures": 0.2}, "timeout": "1m"}"#);
    let steady = Some(Growth { max: 60 * SECOND, ..Growth::default() });
    assert_eq!((rates.failure_threshold, rates.growth), (BreakerConfig::NEVER, steady), "it is long already");
    let by_share = read(r#"{"failure_threshold": false}"#);
    assert_eq!((by_share.failure_threshold, by_share.rates), (BreakerConfig::NEVER, share));
    for wrong in ["true", "-1", "\"5\"", "4294967294", "4294967295"] {
        let wrong = &format!(r#"{{"failure_threshold": {wrong}}}"#);
        let error = serde_json::from_str::<BreakerConfig>(wrong).unwrap_err().to_string();
        assert!(error.contains("a number of failures, or `false`"), "{error}");
    }
    // In TOML all numbers have a sign.
    let signed = |number: i64| {
        use serde::de::value::{Error, MapDeserializer};
        let fields = [("failure_threshold", number)].into_iter();
        BreakerConfig::deserialize(MapDeserializer::<_, Error>::new(fields))
    };
    assert_eq!(signed(5).unwrap().failure_threshold, 5);
    for wrong in [-1, 4_294_967_294, 4_294_967_295, i64::MAX] {
        assert!(signed(wrong).unwrap_err().to_string().contains("a number of failures"), "{wrong}");
    }
}

#[test]
fn a_callee_of_which_one_call_in_three_fails_is_not_left_alone_and_one_that_is_away_soon_is() {
    let (breaker, now) = (Breaker::new("callee", BreakerConfig::default()), Instant::now());
    for call in 0..1001 {
        let permit = breaker.admit(now).unwrap();
        if call % 3 == 0 { permit.failed(now) } else { permit.succeeded() }
    }
    assert_eq!(breaker.status(now).failures, 33, "those of the share are remembered too");
    for failed in 1..=10 {
        assert_eq!(breaker.status(now).state, BreakerState::Closed, "{failed}");
        breaker.admit(now).unwrap().failed(now);
    }
    assert_eq!(breaker.status(now).state, BreakerState::Open);
    let half = Breaker::new("callee", BreakerConfig::default());
    let mut calls = 0;
    while let Ok(permit) = half.admit(now) {
        calls += 1;
        if calls % 2 == 1 { permit.failed(now) } else { permit.succeeded() }
    }
    assert_eq!(calls, 21, "half of them, and at least 20, told by one that fails");
}

#[test]
fn by_default_it_stays_open_for_longer_each_time_but_never_for_more_than_two_seconds() {
    let (breaker, mut now) = (Breaker::new("callee", BreakerConfig::default()), Instant::now());
    let mut spans = Vec::new();
    for _ in 0..3 {
        trip(&breaker, now);
        let mut wait = |now: &mut Instant| {
            let open = breaker.admit(*now).unwrap_err().retry_after;
            spans.push((open.as_secs_f64() * 10.0).round() / 10.0);
            *now += open;
        };
        wait(&mut now);
        breaker.admit(now).unwrap().failed(now);
        wait(&mut now);
        for _ in 0..2 {
            breaker.admit(now).unwrap().succeeded();
        }
        assert_eq!(breaker.status(now).state, BreakerState::Closed);
        now += SECOND;
    }
    assert_eq!(spans, [0.5, 1.0, 2.0, 2.0, 2.0, 2.0]);
    now += 60 * SECOND;
    trip(&breaker, now);
    assert!(breaker.admit(now).unwrap_err().retry_after < SECOND, "after a minute of quiet it begins anew");
}
