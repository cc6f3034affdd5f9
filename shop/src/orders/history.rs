//! An order as it is shown, with its history.

use purlin::aggregate::{LoadError, Root};
use purlin::message::{Timestamp, Uuid};
use serde::Serialize;
use serde_json::{Value, json};

use super::Orders;
use super::order::{Item, Order, OrderError, OrderEvent, Status};
use crate::contracts::events::Flow;
use crate::contracts::money::Money;

/// The most events of an order that are shown.
const MOST_EVENTS: usize = 1000;

/// An order as it is shown.
#[derive(Debug, Serialize)]
pub struct Shown {
    id: Uuid,
    user_id: Uuid,
    status: Option<Status>,
    reason: Option<String>,
    items: Vec<Item>,
    total: Money,
    flow: Option<Flow>,
    submitted_at: Option<Timestamp>,
    version: u64,
    history: Vec<Told>,
}

/// An event as it is shown.
#[derive(Debug, Serialize)]
struct Told {
    kind: String,
    at: Timestamp,
    version: u64,
    #[serde(flatten)]
    more: Value,
}

impl Orders {
    /// An order as it is shown, with what was decided on it just now.
    pub(super) async fn shown(&self, id: Uuid, order: &Root<Order>) -> Result<Shown, LoadError> {
        let mut history = Vec::new();
        if order.exists() {
            for (recorded, event) in self.orders.history(id, 1, MOST_EVENTS).await? {
                let kind = recorded.envelope.kind.to_string();
                history.push(Told { kind, at: recorded.at, version: recorded.version, more: told(&event) });
            }
            history.truncate(usize::try_from(order.version()).unwrap_or(usize::MAX));
        }
        let now = self.base.clock.now();
        for (version, event) in (order.version() + 1..).zip(order.uncommitted()) {
            history.push(Told { kind: kind_of(event), at: now, version, more: told(event) });
        }
        let version = order.version() + order.uncommitted().len() as u64;
        let total = order.total().unwrap_or_else(|_: OrderError| Money::ZERO);
        let Order { user_id, status, items, flow, submitted_at, reason, .. } = order.state().clone();
        Ok(Shown { id, user_id, status, reason, items, total, flow, submitted_at, version, history })
    }
}

fn kind_of(event: &OrderEvent) -> String {
    let name = match event {
        OrderEvent::Drafted { .. } => "drafted",
        OrderEvent::ItemAdded(_) => "item_added",
        OrderEvent::Submitted(_) => "submitted",
        OrderEvent::Created(_) => "created",
        OrderEvent::CancelRequested(_) => "cancel_requested",
        OrderEvent::CheckoutFailed(_) => "checkout_failed",
        OrderEvent::Confirmed(_) => "confirmed",
        OrderEvent::Shipped(_) => "shipped",
        OrderEvent::Cancelled(_) => "cancelled",
    };
    format!("order.{name}")
}

/// What is told of an event; how it is paid is nobody's business.
fn told(event: &OrderEvent) -> Value {
    match event {
        OrderEvent::Drafted { items, .. } => json!({ "items": items }),
        OrderEvent::ItemAdded(item) => json!({ "item": item }),
        OrderEvent::Submitted(submitted) => {
            json!({ "flow": submitted.flow, "total": submitted.total, "ship_to": submitted.ship_to })
        }
        OrderEvent::Created(created) => json!({ "flow": created.flow, "total": created.total }),
        OrderEvent::CancelRequested(why) | OrderEvent::CheckoutFailed(why) | OrderEvent::Cancelled(why) => {
            json!({ "flow": why.flow, "reason": why.reason })
        }
        OrderEvent::Confirmed(done) | OrderEvent::Shipped(done) => json!({ "flow": done.flow }),
    }
}

#[cfg(test)]
mod tests {
    use purlin::message::encode;

    use super::*;
    use crate::contracts::events::Refused;

    #[test]
    fn an_event_is_told_under_the_name_it_is_stored_by() {
        let why = Refused { flow: None, order_id: Uuid::nil(), reason: "-".into() };
        let events = [
            OrderEvent::Drafted { user_id: Uuid::nil(), items: vec![] },
            OrderEvent::CancelRequested(why.clone()),
            OrderEvent::CheckoutFailed(why),
        ];
        for event in events {
            let (kind, _) = encode("order", &event).unwrap();
            assert_eq!(kind_of(&event), *kind);
        }
    }
}
