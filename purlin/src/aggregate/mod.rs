//! Aggregates: things whose state is the sum of their events, and which decide what may happen next.
//!
//! An aggregate is a plain struct. `apply` folds an event into it; decisions are its own methods, pure and
//! synchronous, which look at the state and answer with events or with a refusal. A [`Repository`] loads it from
//! its stream, lets it decide, appends what was decided at the version that was loaded, and decides anew when
//! somebody else was faster.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use purlin::aggregate::{Aggregate, Repository};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Clone, Default, Serialize, Deserialize)]
//! struct Counter { value: u32 }
//! #[derive(Serialize, Deserialize)]
//! enum Counted { Raised(u32) }
//!
//! impl Aggregate for Counter {
//!     const KIND: &'static str = "counter";
//!     type Event = Counted;
//!     fn apply(&mut self, event: &Counted) { let Counted::Raised(by) = event; self.value += by; }
//! }
//! impl Counter {
//!     fn raise(&self, by: u32) -> Result<Counted, &'static str> {
//!         if self.value + by > 10 { Err("ten is enough") } else { Ok(Counted::Raised(by)) }
//!     }
//! }
//!
//! let counters = Repository::<Counter>::new(&purlin::store::Store::memory());
//! assert_eq!(counters.update("a", |counter| counter.raise(7)).await.unwrap().value, 7);
//! assert!(counters.update("a", |counter| counter.raise(7)).await.is_err());
//! # });
//! ```

mod boundary;
mod repository;
mod root;
mod snapshot;
mod turns;

pub use boundary::{Boundary, DecideError};
pub use repository::{Change, LoadError, Repository, UpdateError};
pub use root::{IntoEvents, Root};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A thing whose state is the sum of its events.
pub trait Aggregate: Default + Clone + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What it is called: the category of its streams and the prefix of its events' kinds.
    const KIND: &'static str;

    /// A snapshot is written with the update that makes so many events since the last one; 0: never.
    const SNAPSHOT_EVERY: u64 = 100;

    /// To be raised when the state's shape or `apply` changes: older snapshots are then ignored.
    const SNAPSHOT_VERSION: u32 = 1;

    /// What can happen to it: an enum with serde's default tagging, whose variants' names end the events' kinds.
    type Event: Serialize + DeserializeOwned + Send + Sync + 'static;

    /// Folds an event into the state. Pure, and never refuses: what happened, happened.
    fn apply(&mut self, event: &Self::Event);

    /// Whether an event is copied to the bus.
    fn is_public(_event: &Self::Event) -> bool {
        false
    }
}
