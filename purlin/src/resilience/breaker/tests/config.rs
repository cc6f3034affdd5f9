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
    let growth = |factor, max| BreakerConfig { growth: Growth { factor, max, ..Growth::default() }, ..usual };
    let wrong = [
        ("failure_threshold", BreakerConfig { failure_threshold: 0, ..usual }),
        ("failure_threshold", BreakerConfig { failure_threshold: 65_537, ..usual }),
        ("failure_threshold", BreakerConfig { failure_threshold: BreakerConfig::NEVER, ..usual }),
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
    assert_eq!((read.growth.factor, read.growth.max, read.probes), (2.0, 60 * SECOND, Some(1)));
    let written = serde_json::to_string(&read).unwrap();
    assert_eq!(serde_json::from_str::<BreakerConfig>(&written).unwrap(), read);
    assert!(
        serde_json::from_str::<BreakerConfig>(r#"{"rates": {"over": {"calls": 10}, "sloow": 1}}"#).is_err()
    );
}
