//! A limit on how much is under way at once, so that one slow callee does not take all there is.
//!
//! So many have a place, so many more wait in order and for a bounded time, the next one is refused. Lower classes of
//! [`Criticality`](super::Criticality) are refused first: each may fill only its part of the places, and of the queue;
//! when a place becomes free, the highest class that waits has it.
//!
//! With [`BulkheadConfig::adaptive`] the number of places is found by itself ([`adaptive`] says how), so that nobody has
//! to know what the callee can bear, and that it holds when the callee becomes slower.
//!
//! ```
//! use purlin::resilience::{Bulkhead, BulkheadConfig};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let two = Bulkhead::new(BulkheadConfig { max_under_way: 2, max_waiting: 0, ..BulkheadConfig::default() });
//! let (first, _second) = (two.enter().await.unwrap(), two.enter().await.unwrap());
//! assert!(two.enter().await.is_err());
//! drop(first);
//! assert!(two.enter().await.is_ok());
//! # });
//! ```

pub mod adaptive;
mod config;
mod crowd;
mod door;
mod gate;
#[cfg(test)]
mod interleavings;
mod measure;
mod place;
mod queue;
#[cfg(test)]
mod simulation;
mod sync;
#[cfg(test)]
mod tests;

pub use adaptive::AdaptiveConfig;
pub use config::BulkheadConfig;
pub use gate::{Bulkhead, BulkheadStatus, Full};
pub use place::Place;
