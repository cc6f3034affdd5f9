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
//! use purlin::message::Event;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Clone, Default, Serialize, Deserialize)]
//! struct Counter { value: u32 }
//! #[derive(Serialize, Deserialize)]
//! enum Counted { Raised(u32) }
//! impl Event for Counted {}
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
//!
//! A snapshot is a state that was written down, so that loading folds only what came behind it. When one is written is
//! the aggregate's [`SnapshotPolicy`]; it travels with the commit of an update, which never fails for its sake, and
//! a reader makes up for those that are missing. One that is damaged, or was written by a program that knew another
//! shape of the state, is ignored: without snapshots nothing is lost but time.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! # use purlin::aggregate::{Aggregate, Repository, SnapshotPolicy, drop_snapshots};
//! # use purlin::message::Event;
//! # use serde::{Deserialize, Serialize};
//! # #[derive(Serialize, Deserialize)]
//! # enum Counted { Raised(u32) }
//! # impl Event for Counted {}
//! #[derive(Clone, Default, Serialize, Deserialize)]
//! struct Counter { value: u32 }
//!
//! impl Aggregate for Counter {
//!     const KIND: &'static str = "counter";
//!     const SNAPSHOTS: SnapshotPolicy = SnapshotPolicy::every(10);
//!     const SNAPSHOT_VERSION: u32 = 2; // was 1 when the value was called otherwise
//!     type Event = Counted;
//!     fn apply(&mut self, event: &Counted) { let Counted::Raised(by) = event; self.value += by; }
//! }
//!
//! let store = purlin::store::Store::memory();
//! let counters = Repository::<Counter>::new(&store);
//! for _ in 0..12 {
//!     counters.update("a", |_| Ok::<_, ()>(Counted::Raised(1))).await.unwrap();
//! }
//! let pruned = counters.prune_snapshots().await.unwrap(); // those of other versions
//! assert_eq!((pruned.removed, pruned.kept), (0, 1));
//! assert_eq!(drop_snapshots(&store, None).await.unwrap().removed, 1); // all that there are
//! assert_eq!(counters.load("a").await.unwrap().value, 12);
//! # });
//! ```

mod boundary;
mod error;
mod policy;
mod pruning;
mod repository;
mod root;
mod snapshot;
mod turns;

pub use boundary::{Boundary, DecideError};
pub use error::{LoadError, UpdateError};
pub use policy::SnapshotPolicy;
pub use pruning::{PruneError, Pruned, drop_snapshots};
pub use repository::{Change, Repository};
pub use root::{IntoEvents, Root};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::message::Event;

/// A thing whose state is the sum of its events.
pub trait Aggregate: Default + Clone + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What it is called: the prefix of its events' kinds, and the category of its streams.
    const KIND: &'static str;

    /// The category of its streams: for an aggregate that is called otherwise than when its first streams were written,
    /// what it was called then. The prefix of kinds that were written is nothing to a reader.
    const CATEGORY: &'static str = Self::KIND;

    /// When a snapshot is written.
    const SNAPSHOTS: SnapshotPolicy = SnapshotPolicy::DEFAULT;

    /// To be raised when the state's shape or `apply` changes: older snapshots are then ignored.
    const SNAPSHOT_VERSION: u32 = 1;

    /// What can happen to it: an enum with serde's default tagging, whose variants' names end the events' kinds, and
    /// which says how they were written before ([`Event::EVOLUTION`]).
    type Event: Event + Serialize + Send + Sync + 'static;

    /// Folds an event into the state. Pure, and never refuses: what happened, happened.
    fn apply(&mut self, event: &Self::Event);

    /// Whether an event is copied to the bus.
    fn is_public(_event: &Self::Event) -> bool {
        false
    }
}
