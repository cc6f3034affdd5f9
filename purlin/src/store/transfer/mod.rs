//! Moving a log: out as JSON Lines, in again with the same positions, ids and times, and compared afterwards.
//!
//! An export is a header (which log, how far, which collections), a line for each event in the order of positions, a
//! line for each record, and a trailer with counts and a SHA-256 of all before it, so that a file that was cut is
//! noticed. An import takes it into a store that is empty, and gives the log its identity again: relays and consumer
//! groups that followed the old one follow the new. What is not moved: the revisions of records, which are a store's
//! own.
//!
//! Both are for a log that nobody writes at the time. An import that was cut off leaves a mark, and
//! [`Stores`](super::Stores) refuses the store until the same export was imported to its end ([`unfinished`]).
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use purlin::message::{Clock, Envelope};
//! use purlin::store::memory::Memory;
//! use purlin::store::{Commit, Expected, Store, StreamId, transfer};
//!
//! let store = Store::memory();
//! let placed = Envelope::raw("order.placed", "{}");
//! store.commit(Commit::new().append(StreamId::new("order", 1).unwrap(), Expected::Any, [placed])).await.unwrap();
//!
//! let mut lines = Vec::new();
//! transfer::export(&store, &mut lines, |_| ()).await.unwrap();
//! let other = Store::new(Memory::of_log(store.log_id(), Clock::system()));
//! transfer::import(&other, &lines[..], |_| ()).await.unwrap();
//! assert_eq!(transfer::compare(&store, &other, |_| ()).await.unwrap().events, 1);
//! # });
//! ```

mod compare;
mod export;
mod import;
mod line;
mod unfinished;

pub use compare::{CompareError, compare};
pub use export::{ExportError, export};
pub use import::{ImportError, Importer, import};
pub use line::{FORMAT, Header};
pub use unfinished::{HalfImported, half_imported, unfinished};

/// How far it has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Events that were moved, those of an earlier attempt included.
    pub events: u64,
    /// How many there are.
    pub of: u64,
    /// Records that were moved.
    pub records: u64,
    /// Bytes of the lines.
    pub bytes: u64,
}

/// What was moved, or compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Events, which is also the last position.
    pub events: u64,
    /// Records of all collections.
    pub records: u64,
    /// Bytes of the lines.
    pub bytes: u64,
}
