//! What crosses every border: the envelope of an event, identifiers, time, and the kinds of fault.
//!
//! An [`Event`] is a variant of a plain serde enum. Its *kind* is a prefix and the variant's serde name
//! (`order.submitted`), its data are the variant's content as JSON. What an earlier version of the program wrote is
//! brought up when it is read, as the enum's [`Event::EVOLUTION`] says. Nothing here does IO, and only [`Clock`] and
//! [`new_id`] look at the world outside.
//!
//! ```
//! use purlin::message::{Envelope, Event, Evolved};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize)]
//! #[serde(rename_all = "kebab-case")]
//! enum OrderEvent { ItemAdded { quantity: u32 }, Submitted }
//!
//! impl Event for OrderEvent {
//!     const EVOLUTION: &'static [Evolved] = &[Evolved::renamed("placed", "submitted")];
//! }
//!
//! let added = Envelope::new("order", &OrderEvent::ItemAdded { quantity: 2 }).unwrap();
//! assert_eq!((&*added.kind, &*added.data), ("order.item-added", br#"{"quantity":2}"#.as_slice()));
//! assert_eq!(added.decode::<OrderEvent>().unwrap(), OrderEvent::ItemAdded { quantity: 2 });
//! let old = Envelope::raw("order.placed", "null");
//! assert_eq!(old.decode::<OrderEvent>().unwrap(), OrderEvent::Submitted);
//! ```

mod clock;
mod codec;
mod envelope;
mod event;
mod evolution;
mod evolved;
mod fault;
mod meta;
mod names;
mod storing;
mod tags;
mod trace;
mod variant;

pub use clock::{Clock, ManualClock};
pub use codec::{DecodeError, EncodeError};
pub use envelope::Envelope;
pub use event::Event;
pub use evolved::{Evolved, Upcast};
pub(crate) use fault::panic_text;
pub use fault::{Fault, FaultKind, Refusal};
pub use jiff::Timestamp;
pub use meta::Meta;
pub use names::{UnknownName, check_names};
pub(crate) use storing::{is_storing, storing};
pub use tags::Tags;
pub use trace::{ParseTraceError, TraceContext};
pub use uuid::Uuid;

/// A new identifier: a UUIDv7 (RFC 9562), so that identifiers sort by the time they were made.
pub fn new_id() -> Uuid {
    Uuid::now_v7()
}

/// An identifier derived from another: the UUIDv5 (RFC 9562) of `name` in the namespace `of`.
///
/// The same arguments always give the same identifier, so that a repeated handling names the same things.
pub fn derived_id(of: Uuid, name: &str) -> Uuid {
    Uuid::new_v5(&of, name.as_bytes())
}
