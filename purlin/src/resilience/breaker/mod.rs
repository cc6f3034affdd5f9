//! A circuit breaker: who calls a callee that keeps failing is refused at once, until the callee has had time
//! to recover and a few probes have shown that it did.
//!
//! ```text
//!           too many failures, or too large a share
//!   closed -----------------------------> open <-----------.
//!     ^                                    |               |
//!     |                                    | timeout       | a probe fails, or is slow
//!     |                                    v               |
//!     '---------------------------- half-open -------------'
//!        success_threshold probes
//! ```
//!
//! - *Closed*: calls go through. It opens when `failure_threshold` of the last `window` calls failed (as many as
//!   the threshold: in a row), or when too large a share of the calls failed or was slow, over a window of calls
//!   or of time, and among a minimum of calls ([`RateConfig`]). Unless something is said of it ([`BreakerConfig`]), that is
//!   half of the last 100 calls, of at least 20, or 10 failures in a row.
//! - *Open*: calls are refused with [`Open`], which says for how long. After `timeout`, which may grow from one
//!   time to the next ([`Growth`]), the next call may probe.
//! - *Half-open*: no more probes are under way than are needed. `success_threshold` successes close it; one
//!   failure opens it again. A probe that is given up gives its place back; when all that may probe hang for
//!   `probe_timeout`, others take their places: it never stays half-open while somebody calls.
//!
//! What an answer says about the callee goes by the kind of its error, for [`Breaker::call`], for the layers by kind and
//! for a [`Caller`](crate::resilience::Caller) alike:
//!
//! | the answer | says | because |
//! |---|---|---|
//! | `Ok`, `Rejected`, `NotFound`, `Conflict` | good | no is an answer too |
//! | `Unavailable`, `Timeout` | a failure | it could not do its work |
//! | the same, [passed on](crate::message::Fault::is_passed_on) | good | it is there, and says that somebody whom it asked is not: what needs him not must not be closed for him |
//! | `Overloaded` | nothing | who sheds load is there and does what it can: a concurrency limit helps it, an open breaker would take the rest from it |
//! | `Bug` | nothing | it is one request's: whoever finds one that meets it must not close the callee to all others, and no probe that meets it shows that the callee is well again |
//!
//! A probe that is not waited for is given up, so that others may have its place, and its result is told with a
//! [`Ticket`] when it comes. It counts like any other: once, and in the same half-open state only.
//!
//! A result counts only in the state that let its call through: an answer from before it opened says nothing
//! about the callee now. A call that is given up counts as a failure if it was given up late, else as nothing.
//! An operator may hold it open or closed ([`Breaker::force_by`]). Who wants to hear of changes subscribes
//! ([`Breaker::changes`], [`Breakers::changes`]).
//!
//! ```
//! use purlin::message::{FaultKind, Refusal};
//! use purlin::resilience::{Breaker, BreakerConfig, BreakerState, CallError};
//! use tokio::time::{Instant, advance};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! let timeout = std::time::Duration::from_secs(30);
//! let config = BreakerConfig { failure_threshold: 2, success_threshold: 1, timeout, ..BreakerConfig::default() };
//! let breaker = Breaker::new("payments", config);
//! for _ in 0..2 {
//!     let down = Refusal::new(FaultKind::Unavailable, "down", "payments are down");
//!     assert!(breaker.call(async || Err::<(), _>(down)).await.is_err());
//! }
//! let refused = breaker.call(async || Ok::<_, Refusal>("paid")).await.unwrap_err();
//! assert!(matches!(&refused, CallError::Open(open) if open.retry_after > timeout / 2));
//! assert_eq!(refused.to_string(), "the circuit breaker for `payments` is open");
//!
//! advance(timeout).await;
//! assert_eq!(breaker.call(async || Ok::<_, Refusal>("paid")).await.unwrap(), "paid");
//! assert_eq!(breaker.status(Instant::now()).state, BreakerState::Closed);
//! # });
//! ```
//!
//! # Where it comes from
//!
//! The states are those of Michael Nygard's *Release It!* (2007). The windows and the slow calls are
//! Resilience4j's, the minimum of calls that looks at a share only when a call fails is Polly's, results with the
//! generation of their call are those of sony/gobreaker, probes that are not waited for are linkerd2-proxy's.
//! What lets a healthy callee cost next to nothing is our own and stands in `gate.rs`: a good call that would
//! change nothing writes nothing. Nothing takes a lock while it is closed but a bad call, and nothing reads the
//! clock but a call that waits; `docs/decisions/0015-breaker.md` has the figures.

mod buckets;
mod changes;
mod clock;
mod config;
mod gate;
#[cfg(test)]
mod interleavings;
mod keyed;
mod machine;
#[cfg(test)]
mod model;
mod open;
mod permit;
mod registry;
mod results;
mod shared;
mod status;
mod stripes;
mod sync;
#[cfg(test)]
mod tests;
mod ticket;
mod window;
mod word;

pub use changes::{Change, Changes, Operator, Reason};
pub use clock::BreakerClock;
pub use config::{BreakerConfig, BreakerConfigError, Growth, Over, RateConfig, SlowCalls};
pub use keyed::KeyedBreakers;
pub use machine::{BreakerState, Forced};
pub use open::{Callee, Open};
pub use permit::Permit;
pub(super) use permit::{OwnedPermit, Says};
pub use registry::Breakers;
pub use shared::Breaker;
pub use status::BreakerStatus;
pub use ticket::Ticket;
