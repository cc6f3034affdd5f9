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
pub mod calls;
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
use purlin::resilience::{Breakers, Calls, Policies, SharedLimits};
use purlin::telemetry::Metrics;
use tokio::net::TcpListener;

use crate::auth::{KeysUrl, Rules, Verifier};
use crate::config::{Config, ConfigError};
use crate::exchange::Exchanges;

/// What a gateway works with, beside its configuration.
#[derive(Debug, Clone, Default)]
pub struct Means {
    /// What tokens are judged by.
    pub clock: Clock,
    /// Where it counts.
    pub metrics: Metrics,
    /// Rate limits that are one with those of other gateways; whoever gives them runs them.
    pub limits: Option<SharedLimits>,
    /// How services are called, in whose policies [`calls::section`] should stand below what a file says. None: by that
    /// section alone, with breakers that are seen in metrics only.
    pub calls: Option<Calls>,
}

/// A gateway, ready to serve; cheap to clone.
#[derive(Debug, Clone)]
pub struct Gateway {
    exchanges: Arc<Exchanges>,
}

impl Gateway {
    /// A gateway by the machine's clock, whose metrics nobody asks for.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        Self::by(config, Means::default())
    }

    /// A gateway that judges tokens by `clock` and counts in `metrics`.
    pub fn with(config: Config, clock: Clock, metrics: &Metrics) -> Result<Self, ConfigError> {
        Self::by(config, Means { clock, metrics: metrics.clone(), ..Means::default() })
    }

    /// The same, whose rate limits are one with those of other gateways; whoever gives them runs them.
    pub fn sharing(
        config: Config,
        clock: Clock,
        metrics: &Metrics,
        limits: &SharedLimits,
    ) -> Result<Self, ConfigError> {
        let limits = Some(limits.clone());
        Self::by(config, Means { clock, metrics: metrics.clone(), limits, ..Means::default() })
    }

    /// A gateway that works with these.
    pub fn by(config: Config, means: Means) -> Result<Self, ConfigError> {
        config.check()?;
        let calls = means.calls.unwrap_or_else(|| own_calls(&config, &means.metrics));
        let verifier = match &config.tokens {
            Some(tokens) => {
                let url = tokens.jwks_url.clone();
                let url: KeysUrl = url.parse().map_err(|_| ConfigError::JwksUrl { url })?;
                let (issuer, audience) = (tokens.issuer.clone(), tokens.audience.clone());
                let rules = Rules { issuer, audience, skew: tokens.skew_s };
                Some(Verifier::calling(url, rules, means.clock, calls.caller(calls::TOKEN_KEYS)))
            }
            None => None,
        };
        let exchanges = Exchanges::new(config, verifier, (&calls, &means.metrics), means.limits.as_ref());
        Ok(Self { exchanges: Arc::new(exchanges) })
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

/// Calls that nobody else makes.
fn own_calls(config: &Config, metrics: &Metrics) -> Calls {
    let section = calls::section(config.pools.keys().map(String::as_str));
    let policies = Policies::built_in().with("the gateway", section).expect("our own policies make sense");
    let breakers = Breakers::new();
    breakers.observe(metrics);
    Calls::observed(policies, &breakers, metrics)
}
