//! What keeps the trouble of one service from becoming everybody's: all that stands around a call.
//!
//! A request has one [`Deadline`], which travels with it and never grows, and a [`Criticality`]. [`Calls`] has a
//! [`Caller`] for each callee, and makes calls as a file says: within their deadline, repeated within a
//! [`RetryBudget`], hedged, no more at once than a [`Bulkhead`] has places, through a [`Breaker`]; [`Caller`] says in
//! which order, and why. A [`RateLimit`] gives each of those who call us his share, of one process or of several
//! ([`lease`]). Decisions take the time as an
//! argument; only the thin async parts around them read a clock, tokio's, so that a test may stop it.
//!
//! ```
//! use purlin::resilience::{Breakers, CallError, Calls, DeadlineExceeded, Policies, policies::Section};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! // A table of the program's own file, most often TOML.
//! let section: Section = serde_json::from_str(
//!     r#"{ "default": { "timeout": "3s", "attempt": "1s" },
//!          "payments": { "retry": { "max_attempts": 2, "first_delay": "1ms" }, "hedge": { "after": "p95" } } }"#,
//! ).unwrap();
//! let calls = Calls::new(Policies::built_in().with("shop.toml", section).unwrap(), &Breakers::new());
//! let payments = calls.caller("payments");
//!
//! // What is idempotent, by nature or by a key, is repeated; what is not is called once.
//! let mut attempts = 0;
//! let charge = payments.call(|| {
//!     attempts += 1;
//!     let answer = if attempts == 1 { Err(DeadlineExceeded) } else { Ok("charged") };
//!     async move { answer }
//! });
//! assert_eq!(charge.await.unwrap(), "charged");
//! assert_eq!(attempts, 2);
//! let once = payments.call_once(async || Err::<(), _>(DeadlineExceeded)).await;
//! assert!(matches!(once, Err(CallError::Failed(_))));
//!
//! // What to answer when the callee cannot, for now.
//! let stale = payments.call_or(async || Err(DeadlineExceeded), async |_| Ok("what we knew an hour ago")).await;
//! assert_eq!(stale.unwrap(), "what we knew an hour ago");
//! print!("{}", calls.in_force()[0]); // the policy, value by value, and where each comes from
//! # });
//! ```

mod breaker;
mod budget;
pub mod bulkhead;
mod caller;
pub mod criticality;
pub mod deadline;
mod hedge;
pub mod layer;
mod per_thread;
pub mod policies;
mod rate_limit;
mod retry;

pub use breaker::{
    Breaker, BreakerClock, BreakerConfig, BreakerConfigError, BreakerState, BreakerStatus, Breakers, Callee,
    Change, Changes, Forced, Growth, KeyedBreakers, Open, Operator, Over, Permit, RateConfig, Reason,
    SlowCalls, Ticket,
};
pub use budget::{RetryBudget, RetryBudgetConfig};
pub use bulkhead::{AdaptiveConfig, Bulkhead, BulkheadConfig, Full, Place};
pub use caller::{CallError, CallPolicy, Caller, Judged, LineStatus, Verdict};
pub use criticality::Criticality;
pub use deadline::{Deadline, DeadlineExceeded};
pub use hedge::{HedgeAfter, HedgeConfig, MalformedHedgeAfter};
pub use policies::{Calls, Policies, PolicyError, PolicyInForce};
pub use rate_limit::lease::{SharedLimits, SharedLimitsConfig, SharedLimitsStatus};
pub use rate_limit::{Limited, Quota, RateLimit, RateLimitConfig, lease};
pub use retry::Retry;
pub(crate) use retry::dice;
