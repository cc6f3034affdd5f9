//! What keeps the trouble of one service from becoming everybody's: deadlines, retries within a budget,
//! circuit breakers, bulkheads and rate limits.
//!
//! A request has one [`Deadline`], which travels with it and never grows. A [`Caller`] makes calls to one
//! callee: within the deadline, through a [`Breaker`], and repeated within a [`RetryBudget`]. A [`RateLimit`]
//! gives each of those who call us his share, of one process or of several ([`lease`]); a [`Bulkhead`] limits
//! what is under way at once. Decisions take the time as an argument; only the thin async parts around them read
//! a clock, tokio's, so that a test may stop it.
//!
//! ```
//! use purlin::resilience::{Breakers, CallPolicy, Caller, DeadlineExceeded};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let payments = Caller::new("payments", CallPolicy::default(), &Breakers::new());
//! let mut attempts = 0;
//! let charge = payments.call(|| {
//!     attempts += 1;
//!     let answer = if attempts == 1 { Err(DeadlineExceeded) } else { Ok("charged") };
//!     async move { answer }
//! });
//! assert_eq!(charge.await.unwrap(), "charged");
//! assert_eq!(attempts, 2);
//! # });
//! ```

mod breaker;
mod bulkhead;
mod caller;
pub mod deadline;
pub mod layer;
mod rate_limit;
mod retry;

pub use breaker::{Breaker, BreakerConfig, BreakerState, BreakerStatus, Breakers, Forced, Open, Permit};
pub use bulkhead::{Bulkhead, BulkheadConfig, Full, Place};
pub use caller::{CallError, CallPolicy, Caller};
pub use deadline::{Deadline, DeadlineExceeded};
pub use rate_limit::lease::{SharedLimits, SharedLimitsConfig, SharedLimitsStatus};
pub use rate_limit::{Limited, Quota, RateLimit, RateLimitConfig, lease};
pub(crate) use retry::dice;
pub use retry::{Retry, RetryBudget, RetryBudgetConfig};
