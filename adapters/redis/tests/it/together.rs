//! Two processes' worth of shared limits, in one.

use std::time::Duration;

use purlin::resilience::{RateLimit, RateLimitConfig, SharedLimits, SharedLimitsConfig};
use purlin::telemetry::Metrics;
use purlin_redis::Redis;

use crate::server::Server;

/// Times for a machine that is busy with other tests: what they say of the bound is in the bound.
pub(crate) const PATIENT: SharedLimitsConfig = SharedLimitsConfig {
    deadline: Duration::from_secs(2),
    connect: Duration::from_secs(5),
    retry: Duration::from_millis(50),
    heartbeat: Duration::from_millis(100),
    life: Duration::from_secs(1),
    ahead: Duration::from_millis(100),
};

/// As they are by default, but soon back.
pub(crate) fn usual() -> SharedLimitsConfig {
    SharedLimitsConfig { retry: Duration::from_millis(50), ..SharedLimitsConfig::default() }
}

pub(crate) fn limits(url: &str, config: SharedLimitsConfig) -> SharedLimits {
    SharedLimits::with(Redis::new(url).expect("an URL of ours"), &Metrics::new(), config)
}

/// Does `work` while two hold their limits together.
pub(crate) async fn two<F: Future<Output = ()>>(
    server: &Server,
    config: SharedLimitsConfig,
    work: impl FnOnce([SharedLimits; 2]) -> F,
) {
    let both = [(); 2].map(|()| limits(&server.url(), config));
    let [one, other] = both.clone();
    let work = async {
        until(|| both.iter().all(|one| one.status().processes == 2)).await;
        work(both.clone()).await;
    };
    tokio::select! {
        () = one.run() => {}
        () = other.run() => {}
        () = work => {}
    }
}

/// A limit of that name at each of two.
pub(crate) fn limit(per_second: f64, burst: u32, both: &[SharedLimits; 2]) -> [RateLimit; 2] {
    let config = RateLimitConfig { per_second, burst, max_keys: 1000 };
    [&both[0], &both[1]].map(|limits| RateLimit::shared("calls", config, limits))
}

/// Waits until something is so, which nobody tells of: looks again every few milliseconds, for half a minute.
pub(crate) async fn until(is_so: impl Fn() -> bool) {
    let looked = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), looked).await.expect("it is never so");
}

/// Lets real time pass. Limits are about nothing else: what is counted by the server's clock, and how a caller who asks
/// at a certain pace fares, a test sees only in time that passes. No test waits with it for a state.
pub(crate) async fn real_time(span: Duration) {
    tokio::time::sleep(span).await;
}

/// How long a caller waits between his requests: the time in which a question of one is answered and known to the next.
pub(crate) async fn a_moment() {
    real_time(Duration::from_millis(20)).await;
}
