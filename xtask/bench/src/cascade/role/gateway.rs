//! The gateway, as it is configured unless somebody says otherwise.

use anyhow::{Context, Result};
use purlin::message::Clock;
use purlin::telemetry::Metrics;
use purlin_gateway::Gateway;
use purlin_gateway::config::{Config, Pool, Route};
use purlin_gateway::core::Access;
use tokio::net::TcpListener;

use super::{Care, obey, say};
use crate::cascade::plan::{NEEDS, OTHER, OWN};

/// Serves until told to end; a careless one lets a service have as many requests in hand as come.
pub(super) async fn be(middle: &str, other: &str, care: Care) -> Result<()> {
    let mut config = Config::default();
    if care == Care::Careless {
        config.limits.requests_per_pool = usize::MAX;
    }
    for (pool, endpoint) in [("middle", middle), ("other", other)] {
        config.pools.insert(pool.into(), Pool { endpoints: vec![endpoint.to_owned()] });
    }
    for (path, pool) in [(NEEDS, "middle"), (OWN, "middle"), (OTHER, "other")] {
        config.routes.push(Route::new(path, Access::Public, pool));
    }
    let metrics = Metrics::new();
    let gateway = Gateway::with(config, Clock::system(), &metrics)?;
    let listener = TcpListener::bind("127.0.0.1:0").await.context("listening")?;
    let address = listener.local_addr()?;
    tokio::select! {
        _ = gateway.serve(listener, std::future::pending()) => Ok(()),
        () = say(address, || vec![("connections", read(&metrics, "gateway_connections "))]) => Ok(()),
        ended = obey(|_| {}) => ended,
    }
}

/// The number behind this text in the rendered metrics.
fn read(metrics: &Metrics, text: &str) -> f64 {
    let rendered = metrics.render();
    let number = rendered.lines().find_map(|line| line.strip_prefix(text)?.parse().ok());
    number.unwrap_or_default()
}
