//! `orders_view`, the read model of all orders.

use purlin::message::{Timestamp, Uuid};
use purlin::projection::Projection;
use purlin::store::{Field, Recorded, Row};
use serde::{Deserialize, Serialize};

use super::order::{Item, OrderEvent, Status};
use crate::contracts::events::Flow;
use crate::contracts::money::Money;

/// The projection of orders to [`OrderRow`]s.
pub struct OrdersView;

/// An order as it is listed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OrderRow {
    /// Which order.
    pub id: Uuid,
    /// Whose.
    pub user_id: Uuid,
    /// How far it has come.
    pub status: Status,
    /// Why it was cancelled.
    pub reason: Option<String>,
    /// What is ordered.
    pub items: Vec<Item>,
    /// What it costs.
    pub total: Money,
    /// How its checkout is carried through.
    pub flow: Option<Flow>,
    /// When it was submitted.
    pub submitted_at: Option<Timestamp>,
    /// The version of the order that the row shows.
    pub version: u64,
    /// Which products are in it, to be found by.
    pub product_ids: Vec<Uuid>,
    /// What it costs, in minor units, for reports.
    pub total_amount: i64,
}

impl Row for OrderRow {
    const COLLECTION: &'static str = "orders_view";
    const FIELDS: &'static [Field] = &[
        Field::text("status"),
        Field::text("user_id"),
        Field::text("submitted_at"),
        Field::integer("total_amount"),
        Field::texts("product_ids"),
    ];
}

impl Projection for OrdersView {
    const NAME: &'static str = "orders_view";
    const CATEGORY: &'static str = "order";
    type Event = OrderEvent;
    type Row = OrderRow;

    fn apply(&self, row: Option<OrderRow>, event: &OrderEvent, recorded: &Recorded) -> Option<OrderRow> {
        let mut row = match (event, row) {
            (OrderEvent::Drafted { user_id, items }, _) => begun(recorded, *user_id, items),
            (_, row) => row?,
        };
        match event {
            OrderEvent::Drafted { .. } => {}
            OrderEvent::ItemAdded(item) => {
                row.items.push(item.clone());
                row.sum_up();
            }
            OrderEvent::Submitted(submitted) => {
                row.status = Status::Submitted;
                (row.flow, row.submitted_at) = (Some(submitted.flow), Some(submitted.at));
            }
            OrderEvent::Confirmed(_) => row.status = Status::Confirmed,
            OrderEvent::Shipped(_) => row.status = Status::Shipped,
            OrderEvent::Cancelled(why) => {
                row.status = Status::Cancelled;
                row.reason = Some(why.reason.clone());
            }
            OrderEvent::Created(_) | OrderEvent::CancelRequested(_) | OrderEvent::CheckoutFailed(_) => {}
        }
        row.version = recorded.version;
        Some(row)
    }
}

fn begun(recorded: &Recorded, user_id: Uuid, items: &[Item]) -> OrderRow {
    let mut row = OrderRow {
        id: recorded.stream.key().parse().unwrap_or_default(),
        user_id,
        status: Status::Draft,
        reason: None,
        items: items.to_vec(),
        total: Money::ZERO,
        flow: None,
        submitted_at: None,
        version: recorded.version,
        product_ids: Vec::new(),
        total_amount: 0,
    };
    row.sum_up();
    row
}

impl OrderRow {
    /// An order whose total cannot be written down was refused before it could get here.
    fn sum_up(&mut self) {
        let total = Money::total(self.items.iter().map(|item| (item.price, item.quantity)));
        self.total = total.unwrap_or(Money::ZERO);
        self.total_amount = self.total.amount;
        self.product_ids = self.items.iter().map(|item| item.product_id).collect();
        self.product_ids.sort_unstable();
        self.product_ids.dedup();
    }
}
