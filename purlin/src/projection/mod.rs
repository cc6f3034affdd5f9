//! Read models: typed rows folded from the events of the service's own log, always as of one position.
//!
//! A [`Projection`] says, purely, what an event makes of a row; a [`Fold`], what events of several categories make of
//! rows of several kinds. Its [`View`] runs it: the rows of a batch of events and the checkpoint behind them are one
//! commit, so that no event is folded twice and none is left out. A raised [`Projection::VERSION`], or an operator
//! ([`View::rebuild`]), has the rows built anew beside the live ones, which they replace when they have caught up.
//!
//! Where folding is dear, the events of different keys are folded on several cores ([`View::threads`]).
//!
//! An event that does not fit is parked in the commit that moves the checkpoint; later ones of its key wait behind it,
//! others flow. With [`View::inline`] the rows are written by the commits that append the events. [`Views`] is what an
//! operator sees of all that.
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

mod advance;
mod batch;
mod checkpoint;
mod control;
mod cores;
mod error;
mod fold;
mod inline;
mod inlined;
mod inner;
mod loaded;
mod parked;
mod retry;
mod rows;
mod run;
mod share;
mod status;
mod swap;
mod view;
mod views;

pub use error::{Misfit, NotCaughtUp, ViewError};
pub use fold::{Fold, Projection, Unfit, read};
pub use rows::{RowSet, Wanted};
pub use status::{RebuildStatus, ViewMode, ViewState, ViewStatus};
pub use view::{Rows, View};
pub use views::{OperateError, ParkedItem, ParkedPage, ParkedState, Views};
