//! One rate limit for many processes, counted by a Redis server.
//!
//! It is a [`Counter`](purlin::resilience::lease::Counter) of purlin: what is leased, when a process goes on alone and
//! how far off the processes may be together is said in [`purlin::resilience::lease`]. Here stands how a key is counted:
//! by one Lua script, atomically, by the server's own clock, in GCRA. No clock of a client is asked. A key is one string,
//! which is gone as soon as its quota is full again; a sorted set has the processes that were heard of in the last five
//! seconds. Names of keys are `{purlin}:limit:` and 32 hexadecimal digits, whatever callers call themselves; systems that
//! have nothing to do with each other take a database each (`redis://host/1`).
//!
//! It works on Redis 6 and later, and on what speaks and scripts as it does (Valkey); what is used is `EVALSHA`,
//! `SCRIPT LOAD`, `TIME`, `GET`, `SET PX`, `PEXPIRE` and four commands for the sorted set. It is one connection a
//! process, which is not encrypted: an URL that asks for TLS is refused. The server may lose all of it at any time, at the
//! price of one burst a key, and needs no persistence; give it a `maxmemory-policy` that evicts, such as
//! `volatile-ttl`, because every key has a time to live.
//!
//! ```no_run
//! use purlin::resilience::{RateLimit, RateLimitConfig, SharedLimits};
//! use purlin::telemetry::Metrics;
//! use purlin_redis::Redis;
//!
//! # async fn run() -> Result<(), purlin_redis::UrlError> {
//! let limits = SharedLimits::new(Redis::new("redis://127.0.0.1:6379")?, &Metrics::new());
//! let config = RateLimitConfig { per_second: 10.0, burst: 50, max_keys: 100_000 };
//! let logins = RateLimit::shared("logins", config, &limits);
//! // Serve with `logins.check(..)`, which never waits, and beside it:
//! limits.run().await;
//! # Ok(())
//! # }
//! ```

mod count;
mod line;
mod url;

pub use count::{CountError, Redis};
pub use url::UrlError;
