//! What is by construction: capacities, rates, and how the middle service calls.

use std::time::Duration;

use purlin::resilience::{BulkheadConfig, CallPolicy};

/// The route that needs the callee.
pub(super) const NEEDS: &str = "/needs";
/// A route of the same service that does not.
pub(super) const OWN: &str = "/own";
/// A route of another service.
pub(super) const OTHER: &str = "/other";
/// The callee's method.
pub(super) const METHOD: &str = "/cascade.Callee/Work";

/// How much the callee does at once.
pub(super) const CALLEE_PLACES: usize = 8;
/// How long each piece of its work takes.
pub(super) const CALLEE_SERVICE_MS: u64 = 40;
/// How long it takes when it is slow.
pub(super) const SLOW_SERVICE_MS: u64 = 200;
/// What it can do a second.
pub(super) const CAPACITY: f64 = CALLEE_PLACES as f64 * 1000.0 / CALLEE_SERVICE_MS as f64;
/// What it can do a second when it is slow.
pub(super) const SLOW_CAPACITY: f64 = CALLEE_PLACES as f64 * 1000.0 / SLOW_SERVICE_MS as f64;

/// Every so many of its calls fail when it is flaky: fewer than what opens a breaker.
pub(super) const FLAKY_EACH: u64 = 6;

/// How much each of the other two does at once: far more than it is asked for.
pub(super) const OTHER_PLACES: usize = 64;
/// How long each piece of their work takes.
pub(super) const OTHER_SERVICE_MS: u64 = 40;
/// How often a second each of the routes that do not need the callee is asked.
pub(super) const OTHER_RATE: f64 = 150.0;

/// How long a client waits before it hangs up. It does not say so beforehand.
pub(super) const PATIENCE: Duration = Duration::from_millis(1000);

/// How long a client waits who never hangs up, as far as these measurements go.
pub(super) const PATIENT: Duration = Duration::from_secs(60);

/// How much the middle service has under way to the callee: twice what the callee does at once, so that it never idles.
pub(super) const BULKHEAD: BulkheadConfig = BulkheadConfig {
    max_under_way: 16,
    max_waiting: 16,
    max_wait: Duration::from_millis(100),
    adaptive: None,
};

/// How it calls: times and places that fit a callee who answers in 40 ms; all else, the breaker too, is as it is built in.
pub(super) fn policy() -> CallPolicy {
    CallPolicy {
        timeout: Duration::from_millis(900),
        attempt: Duration::from_millis(500),
        concurrency: BULKHEAD,
        ..CallPolicy::default()
    }
}

/// How long a client waits who asks again at once.
pub(super) const HASTE: Duration = Duration::from_millis(300);
