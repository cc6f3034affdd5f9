//! Read models: typed rows folded from the events of the service's own log, always as of one position.
//!
//! A [`Projection`] says, purely, what an event makes of a row. Its [`View`] runs it: the rows of a batch of events and
//! the checkpoint behind them are one commit, so that no event is folded twice and none is left out. A raised
//! [`Projection::VERSION`] builds the rows anew beside the live ones, and swaps when it has caught up.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use purlin::message::{Envelope, Event};
//! use purlin::projection::{Projection, View};
//! use purlin::store::{Commit, Expected, Recorded, Row, Store, StreamId};
//! use serde::{Deserialize, Serialize};
//! use tokio_util::sync::CancellationToken;
//!
//! #[derive(Deserialize)]
//! #[serde(rename_all = "kebab-case")]
//! enum OrderEvent { Created, Shipped }
//! impl Event for OrderEvent {}
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize)]
//! struct OrderRow { shipped: bool }
//! impl Row for OrderRow { const COLLECTION: &'static str = "orders_view"; }
//!
//! struct OrdersView;
//! impl Projection for OrdersView {
//!     const NAME: &'static str = "orders_view";
//!     const CATEGORY: &'static str = "order";
//!     type Event = OrderEvent;
//!     type Row = OrderRow;
//!     fn apply(&self, _: Option<OrderRow>, event: &OrderEvent, _: &Recorded) -> Option<OrderRow> {
//!         Some(OrderRow { shipped: matches!(event, OrderEvent::Shipped) })
//!     }
//! }
//!
//! let store = Store::memory();
//! let view = View::new(OrdersView, &store);
//! let events = ["order.created", "order.shipped"].map(|kind| Envelope::raw(kind, "null"));
//! let commit = Commit::new().append(StreamId::new("order", "4711").unwrap(), Expected::NoStream, events);
//! let position = store.commit(commit).await.unwrap().position;
//! tokio::select! {
//!     end = view.run(CancellationToken::new()) => panic!("{end:?}"),
//!     seen = view.wait_for(position, std::time::Duration::from_secs(2)) => seen.unwrap(),
//! }
//! assert_eq!(view.get("4711").await.unwrap(), Some(OrderRow { shipped: true }));
//! # });
//! ```

mod checkpoint;
mod error;
mod fold;
mod run;
mod view;

use crate::message::Event;
use crate::store::{Recorded, Row};

pub use error::{Misfit, NotCaughtUp, ViewError};
pub use view::{Rows, View, ViewState, ViewStatus};

/// What the events of a category make of the rows of a read model. Pure: no clock, no dice, no IO.
pub trait Projection: Send + Sync + 'static {
    /// The view's name; its checkpoint is found by it.
    const NAME: &'static str;
    /// Raised when the rows must be built anew, because [`Projection::apply`] or the row has changed.
    const VERSION: u32 = 1;
    /// The streams whose events are folded.
    const CATEGORY: &'static str;
    /// Their event enum. Events of a kind that it calls retired are passed over.
    type Event: Event;
    /// A row. Its collection's name is the name of the live rows, in every version.
    type Row: Row;

    /// Which row an event is about: by default the one of its stream.
    fn key(&self, event: &Recorded) -> String {
        event.stream.key().to_owned()
    }

    /// The row after an event; none removes it.
    fn apply(&self, row: Option<Self::Row>, event: &Self::Event, recorded: &Recorded) -> Option<Self::Row>;
}
