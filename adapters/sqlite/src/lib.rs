//! The SQLite engine of [`purlin::store`]: one file, one writer, group commit, nothing random in the commit path.
//!
//! Callers queue commits. One thread owns the one writing connection; it takes all that wait, checks each against
//! the others and against the heads it knows, applies them in one transaction and syncs once (WAL,
//! `synchronous=FULL`). Events go to the right edge of one table by position. Which positions belong to a stream
//! is kept in memory for the newest events and in sorted runs for the rest (`src/index`), so that no commit touches
//! a random page for it. Checkpoints and reads have connections of their own. Events, records and the index have
//! checksums: what does not match is an error that names it, and is never served. The table of tags has none: an event that
//! has not a tag by which it was found is such an error too, but one that is not found by a tag of its own is told by nobody
//! but [`check`] (which `purlin doctor --log` runs). What [`Engine::archive`](purlin::store::Engine::archive) moves lies in a
//! second file (`src/archive`), `<file>.archive` unless [`Options::archive`] says where.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let folder = std::env::temp_dir().join(format!("purlin-doc-{}", purlin::message::new_id()));
//! let store = purlin_sqlite::open(folder.join("orders.db")).await.unwrap();
//! assert_eq!(store.head(), purlin::store::Position::START);
//! store.close().await;
//! # std::fs::remove_dir_all(folder).unwrap();
//! # });
//! ```

mod ahead;
mod archive;
mod beside;
mod check;
mod checkpoint;
mod checksum;
mod chunks;
mod codec;
mod collection;
mod copy;
mod damage;
mod engine;
mod error;
mod files;
mod header;
mod index;
mod inspect;
mod lock;
mod log;
mod older;
mod part;
mod reader;
mod schema;
mod synchronous;
mod tag;
mod writer;

use std::path::PathBuf;

use purlin::store::Store;

pub use beside::open_beside;
pub use check::check;
pub use copy::restore;
pub use engine::{Options, Sqlite};
pub use error::OpenError;
pub use inspect::{ArchiveInspection, Inspection, in_use, inspect, inspect_with};
pub use synchronous::Synchronous;

/// Opens the store in a file, or makes it (and its folder) when it is not there.
///
/// A file that another process has open is refused, and so is one that a newer version wrote.
pub async fn open(file: impl Into<PathBuf>) -> Result<Store, OpenError> {
    Sqlite::open(Options::new(file)).await.map(Store::new)
}
