//! Everything durable: one log of events and one set of records, changed only by one atomic [`Commit`].
//!
//! An aggregate, a saga, an agent's run is a *stream* of the log. A snapshot, a read-model row, a checkpoint, an
//! idempotency reply, a timer, a parked message is a *record* of a collection. A commit appends to streams at an
//! expected version and writes records at an expected revision; the store applies all of it or nothing.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use purlin::message::Envelope;
//! use purlin::store::{Commit, CommitError, Expected, Store, StreamId};
//!
//! let store = Store::memory();
//! let stream = StreamId::new("order", "4711").unwrap();
//! let placed = || Commit::new().append(stream.clone(), Expected::NoStream, [Envelope::raw("order.placed", "{}")]);
//! store.commit(placed()).await.unwrap();
//! assert!(matches!(store.commit(placed()).await, Err(CommitError::Conflict(_))));
//! assert_eq!(store.read_stream(&stream, 1, 10).await.unwrap().len(), 1);
//! # });
//! ```

pub mod ahead;
pub mod archive;
pub mod audit;
mod change;
mod commit;
mod connect;
mod engine;
mod error;
mod event_query;
mod field;
mod filter;
mod following;
mod handle;
mod layer;
mod limits;
pub mod memory;
mod name;
pub mod personal;
pub mod pool;
mod position;
mod reading;
mod record;
mod stream;
mod subscription;
mod tail;
mod tenant;
pub mod transfer;
mod unreadable;

pub use archive::Archived;
pub use change::Change;
pub use commit::{Append, Appended, Commit, Committed, Requirement, Write, WriteKind};
pub use connect::{OpenError, Stores};
pub use engine::{BoxFuture, Engine};
pub use error::{Cause, CommitError, Conflict, ReadError};
pub use event_query::{Condition, Criterion, EventQuery};
pub use field::{Field, FieldType, Indexed, Scalar};
pub use filter::{LogFilter, LogPage};
pub(crate) use following::Following;
pub(crate) use handle::LONGEST_NAME;
pub use handle::Store;
pub use layer::Layer;
pub use limits::Limits;
pub use position::{LogId, Position, TokenError};
pub use record::{Collection, Page, Query, Record, Revision, Row};
pub use stream::{Expected, Recorded, StreamId, StreamIdError};
pub use subscription::Subscription;
pub(crate) use tenant::own_of_any;
pub use unreadable::UnreadableEvent;
