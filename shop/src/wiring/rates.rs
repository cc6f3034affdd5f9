//! Where gateways count the requests of their callers.

use anyhow::{Context, bail};
use purlin::resilience::SharedLimits;
use purlin_redis::Redis;

use super::process::Process;

/// `memory:` is each gateway for itself, `redis://..` all of them together; what is shared runs from now on.
pub fn open(process: &Process, url: &str) -> anyhow::Result<Option<SharedLimits>> {
    let scheme = url.split(':').next().unwrap_or_default();
    let counter = match scheme {
        "memory" => return Ok(None),
        "redis" | "rediss" => Redis::new(url).context("--rate-limits")?,
        // The URL may have a password in it.
        other => bail!("--rate-limits {other}:..: known are memory: and redis://HOST:PORT"),
    };
    let limits = SharedLimits::new(counter, &process.metrics);
    let running = limits.clone();
    process.run_until_closed("rate limits".into(), move || {
        let running = running.clone();
        async move {
            running.run().await;
            Ok::<_, std::convert::Infallible>(())
        }
    });
    Ok(Some(limits))
}
