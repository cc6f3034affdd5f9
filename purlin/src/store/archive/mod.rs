//! Archiving: what is seldom read leaves the part of a store that is always in use, and is found as before.
//!
//! A stream that ended, or rested long, keeps its last event where it is; all before it moves to the store's *archive*,
//! which may lie on slower and cheaper storage. Nothing is lost and no position changes: every read of the stream, the
//! log and its tags gives what it gave before. Only when the archive is away does a read of what lies in it fail, and
//! say so; commits, and reads of everything else, go on.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use std::time::Duration;
//!
//! use purlin::message::Envelope;
//! use purlin::store::archive::Selection;
//! use purlin::store::{Commit, Expected, Store, StreamId};
//!
//! let store = Store::memory();
//! let order = StreamId::new("order", 4711).unwrap();
//! let events = ["order.placed", "order.shipped"].map(|kind| Envelope::raw(kind, "{}"));
//! store.commit(Commit::new().append(order.clone(), Expected::NoStream, events)).await.unwrap();
//!
//! let cold = Selection::category("order").idle_for(Duration::ZERO).ended_by(["order.shipped", "order.cancelled"]);
//! let done = store.archive(&cold, |_| ()).await.unwrap();
//! assert_eq!((done.seen, done.chosen, done.events), (1, 1, 1));
//! assert_eq!(store.read_stream(&order, 1, 10).await.unwrap().len(), 2);
//! # });
//! ```

mod run;
mod selection;

pub use run::{ArchiveError, Archiving, Progress};
pub use selection::Selection;

/// What became of a call of [`Engine::archive`](super::Engine::archive).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Archived {
    /// Events that were moved.
    pub events: u64,
    /// Bytes of their data.
    pub bytes: u64,
    /// Whether the limit left events where they were.
    pub more: bool,
    /// Events that are damaged and stay where they are, by name, the first of each stream; what comes behind them in their
    /// streams stays too.
    pub damaged: Vec<String>,
}
