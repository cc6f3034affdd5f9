//! An API gateway: authentication, rate limits, routing, load balancing.
//!
//! Everything it decides is decided in [`core`], purely; listeners read connections strictly and upstreams carry what
//! was let through. [`auth`] verifies tokens, for the gateway and for the services behind it, which verify again.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use purlin_gateway::config::{Config, Pool, Route};
//! use purlin_gateway::core::Access;
//! use purlin_gateway::Gateway;
//!
//! let mut config = Config::default();
//! config.pools.insert("products".into(), Pool { endpoints: vec!["127.0.0.1:7001".into()] });
//! config.routes.push(Route::new("/products", Access::Public, "products"));
//! let gateway = Gateway::new(config).unwrap();
//!
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
//! let stop = async {};
//! assert!(gateway.serve(listener, stop).await);
//! # });
//! ```

mod answer;
pub mod auth;
pub mod config;
pub mod core;
mod exchange;
mod kept;
mod listener;
mod seen;
mod tasks;
mod unread;
mod upstream;

use std::sync::Arc;

use purlin::message::Clock;
use purlin::resilience::SharedLimits;
use purlin::telemetry::Metrics;
use tokio::net::TcpListener;

use crate::auth::{KeysUrl, Rules, Verifier};
use crate::config::{Config, ConfigError};
use crate::exchange::Exchanges;

/// A gateway, ready to serve; cheap to clone.
#[derive(Debug, Clone)]
pub struct Gateway {
    exchanges: Arc<Exchanges>,
}

impl Gateway {
    /// A gateway by the machine's clock, whose metrics nobody asks for.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        Self::with(config, Clock::system(), &Metrics::new())
    }

    /// A gateway that judges tokens by `clock` and counts in `metrics`.
    pub fn with(config: Config, clock: Clock, metrics: &Metrics) -> Result<Self, ConfigError> {
        Self::build(config, clock, metrics, None)
    }

    /// The same, whose rate limits are one with those of other gateways; whoever gives them runs them.
    pub fn sharing(
        config: Config,
        clock: Clock,
        metrics: &Metrics,
        limits: &SharedLimits,
    ) -> Result<Self, ConfigError> {
        Self::build(config, clock, metrics, Some(limits))
    }

    fn build(
        config: Config,
        clock: Clock,
        metrics: &Metrics,
        limits: Option<&SharedLimits>,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        let verifier = match &config.tokens {
            Some(tokens) => {
                let url = tokens.jwks_url.clone();
                let url: KeysUrl = url.parse().map_err(|_| ConfigError::JwksUrl { url })?;
                let (issuer, audience) = (tokens.issuer.clone(), tokens.audience.clone());
                Some(Verifier::from_url(url, Rules { issuer, audience, skew: tokens.skew_s }, clock))
            }
            None => None,
        };
        Ok(Self { exchanges: Arc::new(Exchanges::new(config, verifier, metrics, limits)) })
    }

    /// Answers the connections of `listener` until `shutdown` is ready, then takes no more and finishes the requests
    /// in hand. Says whether all of them were finished within the drain timeout.
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()>) -> bool {
        listener::serve(Arc::clone(&self.exchanges), listener, shutdown).await
    }

    /// Whether requests can be let through; why not, otherwise. `/readyz` says the same.
    pub fn readiness(&self) -> Result<(), &'static str> {
        self.exchanges.readiness()
    }
}
