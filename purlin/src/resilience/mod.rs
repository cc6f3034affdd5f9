//! What keeps the trouble of one service from becoming everybody's: deadlines and rate limits.
//!
//! A request has one [`Deadline`], which travels with it and never grows. A [`RateLimit`] gives each caller his
//! share. Decisions take the time as an argument; only the thin async parts around them read a clock, tokio's, so
//! that a test may stop it.
//!
//! ```
//! use std::time::Duration;
//! use purlin::resilience::{Deadline, RateLimit, RateLimitConfig, deadline};
//! use tokio::time::Instant;
//!
//! let limit = RateLimit::new(RateLimitConfig { per_second: 10.0, burst: 2, max_keys: 1000 });
//! let now = Instant::now();
//! assert_eq!(limit.check("ann", now).unwrap().remaining, 1);
//! assert!(limit.check("ann", now).is_ok());
//! assert_eq!(limit.check("ann", now).unwrap_err().retry_after, Duration::from_millis(100));
//! assert!(limit.check("bob", now).is_ok());
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let short = Deadline::after(Duration::from_millis(1));
//! let answer = deadline::within(short, async {
//!     let longer = Deadline::after(Duration::from_secs(60));
//!     longer.enforce(std::future::pending::<()>()).await
//! });
//! assert!(answer.await.is_err());
//! # });
//! ```

pub mod deadline;
mod rate_limit;

pub use deadline::{Deadline, DeadlineExceeded};
pub use rate_limit::{Limited, Quota, RateLimit, RateLimitConfig};
