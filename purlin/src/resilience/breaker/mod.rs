//! A circuit breaker: who calls a callee that keeps failing is refused at once, until the callee has had time
//! to recover and a few probes have shown that it did.
//!
//! - *Closed*: calls go through. `failure_threshold` failures among the last `window` calls open it.
//! - *Open*: calls are refused with [`Open`]. After `timeout` the next call may probe.
//! - *Half-open*: at most `success_threshold` probes are under way or have succeeded. When that many have
//!   succeeded it closes; one failure opens it again.
//!
//! A result counts only in the state that let its call through: an answer from before it opened says nothing
//! about the callee now. A permit that is dropped without a result gives the place of its probe back.
//!
//! ```
//! use purlin::resilience::{Breaker, BreakerConfig, BreakerState};
//! use tokio::time::Instant;
//!
//! let config = BreakerConfig { failure_threshold: 2, success_threshold: 1, ..BreakerConfig::default() };
//! let breaker = Breaker::new("payments", config);
//! let now = Instant::now();
//! for _ in 0..2 {
//!     breaker.admit(now).unwrap().failed(now);
//! }
//! let refused = breaker.admit(now).unwrap_err();
//! assert_eq!(refused.to_string(), "the circuit breaker for `payments` is open");
//!
//! let later = now + config.timeout;
//! breaker.admit(later).unwrap().succeeded();
//! assert_eq!(breaker.status(later).state, BreakerState::Closed);
//! ```

mod config;
mod machine;
mod permit;
mod registry;
mod shared;
#[cfg(test)]
mod tests;
mod window;

pub use config::BreakerConfig;
pub use machine::{BreakerState, Forced};
pub use permit::Permit;
pub use registry::Breakers;
pub use shared::{Breaker, BreakerStatus, Open};
