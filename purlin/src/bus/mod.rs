//! Events between services: at least once on the wire, exactly once in effect, one order per key.
//!
//! A service's log is its outbox: the relay copies the public events to the bus, with its cursor in the same commit. A
//! consumer group handles the messages of its subjects; a handler returns its effects as a commit in its own store,
//! and the group adds its mark to it, so that an effect and the memory of it are one. A message that fails is parked
//! and tried again with pauses; later messages *of the same key* wait behind it in order, other keys flow.
//!
//! An async closure that captures something cannot be a handler (its future would borrow from it);
//! [`Group::on_with`] gives the handler a clone of what it works with.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use purlin::bus::{Bus, Failure, Message};
//! use purlin::message::Envelope;
//! use purlin::store::{Commit, Expected, Store, StreamId};
//! use tokio_util::sync::CancellationToken;
//!
//! let (orders, inventory, bus) = (Store::memory(), Store::memory(), Bus::embedded(Store::memory()));
//! let group = bus.group("inventory", &inventory).on("order.created", async |order: Message| {
//!     let stream = StreamId::new("reservation", order.key()).unwrap();
//!     let reserved = Envelope::raw("reservation.made", "{}");
//!     Ok::<_, Failure>(Commit::new().append(stream, Expected::NoStream, [reserved]))
//! });
//!
//! let order = StreamId::new("order", "4711").unwrap();
//! let created = Envelope::raw("order.created", "{}").public();
//! orders.commit(Commit::new().append(order, Expected::NoStream, [created])).await.unwrap();
//!
//! let mut reserved = inventory.watch();
//! tokio::select! {
//!     end = bus.relay("orders", &orders) => panic!("{end:?}"),
//!     end = group.run(CancellationToken::new()) => panic!("{end:?}"),
//!     event = reserved.wait_for(|head| head.0 == 1) => assert!(event.is_ok()),
//! }
//! # });
//! ```

mod accept;
mod backoff;
mod dead_letters;
mod error;
mod failure;
mod feed;
mod followers;
mod gauges;
mod group;
mod handle;
mod handling;
mod lane;
mod mark;
mod message;
mod parked;
mod relay;
mod retries;
mod status;

pub(crate) use crate::message::panic_text;
pub use accept::{AcceptError, Acceptance};
pub(crate) use backoff::Backoff;
pub use dead_letters::{
    DeadLetter, DeadLetterDetails, DeadLetterError, DeadLetterPage, DeadLetterState, DeadLetters,
};
pub use error::GroupError;
pub use failure::Failure;
pub(crate) use failure::chain;
pub use followers::{Follower, FollowerKind, followers};
pub use group::Group;
pub use handle::Bus;
pub use message::{Message, UnreadableMessage};
pub use relay::RelayError;
pub use status::GroupStatus;
