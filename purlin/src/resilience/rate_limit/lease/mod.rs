//! Token leases: how many processes keep one rate limit together, without a request that waits for another machine.
//!
//! A [`Counter`] keeps one count a key for all processes (an adapter asks a server; [`Memory`] is within one process).
//! What a request takes comes out of what this process holds a *lease* of, which is fetched ahead in the background, in
//! amounts that follow the use of the key: none for a request now and then, what 200 ms take of a busy one. Or it comes
//! out of this process's *own part*, which is the rate and the burst divided by the number of processes (the burst
//! rounded up), and the counter is told afterwards. Tokens of a lease that are not used within its life are lost.
//!
//! When the counter does not answer within its deadline, each process goes on with its own part, by the number of
//! processes that was last known, and says so: [`SharedLimits::status`], metrics, a line in the log. One that never
//! heard of the counter has the whole limit. It asks again by itself, and is back with the first answer.
//!
//! How far off they are: in any stretch of time `t`, all processes together let through no more than
//! `burst + rate * (t + life + deadline)`, and their own parts of the burst, which are one more burst and less than one
//! more request a process. What comes out of an own part is counted nevertheless, so that it is not had twice: in the
//! long run it is the rate. Each time the counter is lost, or loses what it knew, costs at most one burst more. A process
//! that dies is counted for some seconds more, which makes the others' parts smaller; one that starts is not known to
//! the others for one heartbeat.
//!
//! A caller may be refused although there is room in two cases: he has used up the own part before the counter answered,
//! and waits for that answer (some milliseconds), or another process holds a lease of his that it does not use.
//!
//! ```
//! use purlin::resilience::lease::Memory;
//! use purlin::resilience::{RateLimit, RateLimitConfig, SharedLimits};
//! use purlin::telemetry::Metrics;
//! use tokio::time::Instant;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let limits = SharedLimits::new(Memory::new(), &Metrics::new());
//! let config = RateLimitConfig { per_second: 10.0, burst: 1, max_keys: 1000 };
//! let logins = RateLimit::shared("logins", config, &limits);
//! assert!(logins.check("ann", Instant::now()).is_ok());
//! assert!(logins.check("ann", Instant::now()).is_err());
//! // A program runs this under its supervisor, next to what it serves.
//! tokio::select! {
//!     () = limits.run() => {}
//!     () = limits.until_shared() => assert!(limits.status().shared),
//! }
//! # });
//! ```

mod asks;
mod cell;
mod counter;
mod key;
mod limits;
mod memory;
mod shared;
mod status;
#[cfg(test)]
mod tests;

pub use counter::{Answer, Ask, Counter, Grant};
pub use key::Key;
pub use limits::{SharedLimits, SharedLimitsConfig};
pub use memory::Memory;
pub(super) use shared::{Shared, nanos};
pub use status::SharedLimitsStatus;
