//! What a gateway is told: plain data, as a file or the program that embeds it gives them.

use std::collections::BTreeMap;

use purlin::resilience::Criticality;
use serde::{Deserialize, Serialize};

use crate::core::{Access, normal_path};

/// All of a gateway's configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Which requests go where; the longest matching path decides.
    pub routes: Vec<Route>,
    /// The services, each with the endpoints that answer for it.
    pub pools: BTreeMap<String, Pool>,
    /// How tokens are verified; without it every route must be public.
    pub tokens: Option<Tokens>,
    /// The rate limit of each caller (the user, else the address), over all routes.
    pub rate: Option<Rate>,
    /// Bounds on what comes from outside.
    pub limits: Limits,
}

/// Where a request goes and what it takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The beginning of the paths it is for, in whole segments: `/orders`; `{id}` is any one segment.
    pub path: String,
    /// Only this very path, nothing below it.
    #[serde(default)]
    pub exact: bool,
    /// The methods it is for; none: all. `GET` is for `HEAD` too.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Who may pass.
    pub access: Access,
    /// The pool that answers.
    pub pool: String,
    /// A further rate limit of each address on this route alone.
    #[serde(default)]
    pub rate: Option<Rate>,
    /// How long the service has until the head of its answer, instead of [`Limits::request_timeout_ms`].
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// How many requests of this route may be under way at once. Unless said, a route that shares its pool with others
    /// has half of [`Limits::requests_per_pool`], so that one that hangs leaves something to them.
    #[serde(default)]
    pub requests: Option<usize>,
    /// How much it hurts if a request of this route is refused (`x-criticality`); a caller can only say less.
    #[serde(default)]
    pub criticality: Criticality,
}

impl Route {
    /// A route for all methods of the paths that begin with `path`.
    pub fn new(path: impl Into<String>, access: Access, pool: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            exact: false,
            methods: Vec::new(),
            access,
            pool: pool.into(),
            rate: None,
            timeout_ms: None,
            requests: None,
            criticality: Criticality::default(),
        }
    }
}

/// The endpoints of one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// `host:port` of each; requests go to them in turn.
    pub endpoints: Vec<String>,
}

/// Which tokens hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokens {
    /// Where the keys are: `http://host:port/.well-known/jwks.json`.
    pub jwks_url: String,
    /// What `iss` must be.
    #[serde(default)]
    pub issuer: Option<String>,
    /// What `aud` must have.
    #[serde(default)]
    pub audience: Option<String>,
    /// How far the issuer's clock may be from ours, in seconds.
    #[serde(default)]
    pub skew_s: u32,
}

/// So many requests in the long run, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Requests a second.
    pub per_second: u32,
    /// Requests at once.
    pub burst: u32,
}

/// Bounds on what comes from outside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of a request's body.
    pub body_bytes: u64,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Connections at once; the next ones wait in the kernel's queue.
    pub connections: usize,
    /// Connections at once from one address (one IPv6 network of 64 bits); further ones are answered 503.
    pub connections_per_address: usize,
    /// Requests that one pool has in hand at once, up to the last byte of their answers; further ones are answered 503.
    /// It should leave connections to others: one caller with a connection for each request has
    /// `connections_per_address`.
    pub requests_per_pool: usize,
    /// Time from the first byte of a head to its last, and from a connection's start to its first byte.
    pub head_timeout_ms: u64,
    /// How long a connection may stay open between two requests.
    pub idle_timeout_ms: u64,
    /// How long a caller may take nothing of what is written to him, over HTTP/2 of a single answer: then he is cut off,
    /// and what a service had in hand for him with it. Over HTTP/2 a piece of up to 16 KiB is what he must have taken.
    pub write_timeout_ms: u64,
    /// How long a connection of HTTP/2 takes new streams; those that are open then may last as long again.
    pub http2_age_ms: u64,
    /// Time from a request's head to the head of its answer. A caller's `x-request-timeout-ms` or `grpc-timeout` can only
    /// shorten it.
    pub request_timeout_ms: u64,
    /// Time for a connection to an endpoint.
    pub connect_timeout_ms: u64,
    /// How long an endpoint that could not be reached is tried last.
    pub endpoint_pause_ms: u64,
    /// How long requests in hand may take once the gateway stops.
    pub drain_timeout_ms: u64,
    /// Callers whose rate is remembered at once.
    pub rate_keys: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 1 << 20,
            head_bytes: 16 << 10,
            connections: 10_000,
            connections_per_address: 2_000,
            requests_per_pool: 1_000,
            head_timeout_ms: 10_000,
            idle_timeout_ms: 60_000,
            write_timeout_ms: 30_000,
            http2_age_ms: 600_000,
            request_timeout_ms: 15_000,
            connect_timeout_ms: 1_000,
            endpoint_pause_ms: 1_000,
            drain_timeout_ms: 10_000,
            rate_keys: 100_000,
        }
    }
}

/// The configuration contradicts itself; the text says where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A route's path is not in its one spelling.
    #[error("route `{path}`: write the path as `{meant}`")]
    Path {
        /// The path as written.
        path: String,
        /// What it should be.
        meant: String,
    },
    /// A route's method is none that the gateway lets through.
    #[error("route `{path}`: `{method}` is not one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")]
    Method {
        /// The route.
        path: String,
        /// The method.
        method: String,
    },
    /// A route names a pool that is not there.
    #[error("route `{path}`: there is no pool `{pool}`")]
    NoSuchPool {
        /// The route.
        path: String,
        /// The pool.
        pool: String,
    },
    /// A pool has no endpoints, or one that is not `host:port`.
    #[error("pool `{pool}`: every endpoint must be `host:port`, and there must be one")]
    Endpoints {
        /// The pool.
        pool: String,
    },
    /// A route asks for a token, and nothing says which tokens hold.
    #[error("route `{path}` asks for a token, but `tokens` is not configured")]
    NoTokens {
        /// The route.
        path: String,
    },
    /// The address of the keys is not a plain http URL.
    #[error("`{url}` is not the http:// address of a key set")]
    JwksUrl {
        /// What was given.
        url: String,
    },
    /// A limit that lets nothing pass.
    #[error("`{limit}` must be more than 0")]
    Zero {
        /// Its name.
        limit: &'static str,
    },
}

impl Config {
    /// Whether a gateway can work with this.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.limits.check()?;
        for (pool, Pool { endpoints }) in &self.pools {
            let good = |endpoint: &String| {
                endpoint.parse::<http::uri::Authority>().is_ok_and(|a| a.port().is_some())
            };
            if endpoints.is_empty() || !endpoints.iter().all(good) {
                return Err(ConfigError::Endpoints { pool: pool.clone() });
            }
        }
        if self.rate.is_some_and(Rate::is_zero) {
            return Err(ConfigError::Zero { limit: "rate" });
        }
        self.routes.iter().try_for_each(|route| self.check_route(route))
    }

    /// The room of the `at`th route, where it is less than its pool's.
    pub(crate) fn room_of(&self, at: usize) -> Option<usize> {
        let route = &self.routes[at];
        let of_pool = self.routes.iter().filter(|other| other.pool == route.pool).count();
        let half = || (of_pool > 1).then(|| self.limits.requests_per_pool.div_ceil(2));
        route.requests.or_else(half)
    }

    fn check_route(&self, route: &Route) -> Result<(), ConfigError> {
        let path = route.path.clone();
        let meant = normal_path(&path).unwrap_or_else(|_| "/".to_owned());
        if meant != path {
            return Err(ConfigError::Path { path, meant });
        }
        const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
        if let Some(method) = route.methods.iter().find(|method| !KNOWN.contains(&method.as_str())) {
            return Err(ConfigError::Method { path, method: method.clone() });
        }
        if !self.pools.contains_key(&route.pool) {
            return Err(ConfigError::NoSuchPool { path, pool: route.pool.clone() });
        }
        if route.rate.is_some_and(Rate::is_zero) {
            return Err(ConfigError::Zero { limit: "rate" });
        }
        if route.requests == Some(0) {
            return Err(ConfigError::Zero { limit: "requests" });
        }
        if route.access != Access::Public && self.tokens.is_none() {
            return Err(ConfigError::NoTokens { path });
        }
        Ok(())
    }
}

impl Rate {
    fn is_zero(self) -> bool {
        self.per_second == 0 || self.burst == 0
    }
}

impl Limits {
    fn check(&self) -> Result<(), ConfigError> {
        let all = [
            ("limits.head_bytes", self.head_bytes as u64),
            ("limits.connections", self.connections as u64),
            ("limits.connections_per_address", self.connections_per_address as u64),
            ("limits.requests_per_pool", self.requests_per_pool as u64),
            ("limits.head_timeout_ms", self.head_timeout_ms),
            ("limits.idle_timeout_ms", self.idle_timeout_ms),
            ("limits.write_timeout_ms", self.write_timeout_ms),
            ("limits.http2_age_ms", self.http2_age_ms),
            ("limits.request_timeout_ms", self.request_timeout_ms),
            ("limits.connect_timeout_ms", self.connect_timeout_ms),
            ("limits.rate_keys", self.rate_keys as u64),
        ];
        match all.into_iter().find(|(_, value)| *value == 0) {
            Some((limit, _)) => Err(ConfigError::Zero { limit }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(change: impl FnOnce(&mut Value)) -> Result<Config, serde_json::Error> {
        let mut config = json!({
            "pools": { "orders": { "endpoints": ["127.0.0.1:7001", "[::1]:7002"] } },
            "tokens": { "jwks_url": "http://127.0.0.1:7000/.well-known/jwks.json" },
            "rate": { "per_second": 200, "burst": 400 },
            "routes": [
                { "path": "/", "access": "public", "pool": "orders" },
                { "path": "/orders", "methods": ["GET"], "access": "authenticated", "pool": "orders" },
                { "path": "/admin", "exact": true, "access": { "role": "admin" }, "pool": "orders" },
            ],
        });
        change(&mut config);
        serde_json::from_value(config)
    }

    #[test]
    fn a_configuration_is_plain_data() {
        let config = read(|_| {}).unwrap();
        assert_eq!(config.check(), Ok(()));
        assert_eq!(config.routes[2].access, Access::Role("admin".into()));
        assert_eq!(config.limits.body_bytes, 1 << 20);
        assert!(read(|config| config["routes"][0]["acces"] = json!("public")).is_err());
    }

    #[test]
    fn a_configuration_that_cannot_work_says_where() {
        let said = |change: &dyn Fn(&mut Value)| read(change).unwrap().check().unwrap_err().to_string();
        for (said, part) in [
            (said(&|config| config["routes"][1]["path"] = json!("/%6frders")), "write the path as `/orders`"),
            (said(&|config| config["routes"][1]["pool"] = json!("order")), "no pool `order`"),
            (said(&|config| config["routes"][1]["methods"] = json!(["get"])), "`get` is not one of"),
            (said(&|config| config["tokens"] = json!(null)), "`/orders` asks for a token"),
            (said(&|config| config["pools"]["orders"]["endpoints"] = json!([])), "pool `orders`"),
            (said(&|config| config["pools"]["orders"]["endpoints"] = json!(["localhost"])), "`host:port`"),
            (said(&|config| config["rate"]["burst"] = json!(0)), "`rate` must be more than 0"),
            (said(&|config| config["limits"] = json!({ "connections": 0 })), "`limits.connections`"),
        ] {
            assert!(said.contains(part), "{said}");
        }
    }
}
