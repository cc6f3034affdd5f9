//! Faults by plan: a process that dies at a chosen commit.
//!
//! A crash in the wrong moment is what everything durable here is built against, and at random it takes long to meet.
//! [`CrashPoints`] counts the commits of all stores that it wraps, and ends the process before or after the one that
//! a [`CrashAt`] names; a test then walks through every one of them. Only builds for tests should wrap their stores.
//!
//! ```
//! use purlin::chaos::CrashPoints;
//! use purlin::message::Envelope;
//! use purlin::store::memory::Memory;
//! use purlin::store::{Commit, Expected, Store, StreamId};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! // Without a plan it only counts. `CrashPoints::at("before:2".parse()?)` ends the process at the second one.
//! let points = CrashPoints::counting();
//! let (orders, bus) = (points.wrap(Memory::new()), points.wrap(Memory::new()));
//! for store in [Store::new(orders), Store::new(bus)] {
//!     let (order, created) = (StreamId::new("order", 1).unwrap(), Envelope::raw("order.created", "{}"));
//!     store.commit(Commit::new().append(order, Expected::NoStream, [created])).await.unwrap();
//! }
//! assert_eq!(points.counted().applied, 2);
//! # });
//! ```

mod engine;
mod plan;
mod points;

pub use engine::Guarded;
pub use plan::{CrashAt, PlanError, Side};
pub use points::{Counted, CrashPoints};
