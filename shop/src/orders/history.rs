//! An order as it is shown, with its history.

use purlin::aggregate::{LoadError, Root};
use purlin::message::{Timestamp, Uuid};
use purlin::store::Recorded;
use serde::Serialize;
use serde_json::{Value, json};

use super::Orders;
use super::order::{Item, Order, OrderEvent, Status};
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

/// What has happened to an order, as it stands in the log.
pub(super) type History = Vec<(Recorded, OrderEvent)>;

/// An event as it is shown.
#[derive(Debug, Serialize)]
struct Told {
    kind: &'static str,
    at: Timestamp,
    version: u64,
    #[serde(flatten)]
    more: Value,
}

impl Orders {
    /// An order and what has happened to it, from one look at its stream.
    pub(super) async fn read(&self, id: Uuid) -> Result<(Root<Order>, History), LoadError> {
        let history = self.orders.history(id, 1, MOST_EVENTS).await?;
        let order = if history.len() < MOST_EVENTS {
            Root::rebuild(id, history.iter().map(|(_, event)| event.clone()))
        } else {
            self.orders.load(id).await?
        };
        Ok((order, history))
    }

    /// An order as it is shown, with what was decided on it just now.
    pub(super) async fn shown(&self, id: Uuid, order: &Root<Order>) -> Result<Shown, LoadError> {
        let history =
            if order.exists() { self.orders.history(id, 1, MOST_EVENTS).await? } else { History::new() };
        Ok(self.show(id, order, &history))
    }

    /// An order as it is shown, with its history, of which it may have seen less than the whole.
    pub(super) fn show(&self, id: Uuid, order: &Root<Order>, history: &History) -> Shown {
        let seen = history.iter().take_while(|(recorded, _)| recorded.version <= order.version());
        let mut history: Vec<Told> = seen
            .map(|(recorded, event)| Told {
                kind: kind_of(event),
                at: recorded.at,
                version: recorded.version,
                more: told(event),
            })
            .collect();
        let now = self.base.clock.now();
        for (version, event) in (order.version() + 1..).zip(order.uncommitted()) {
            history.push(Told { kind: kind_of(event), at: now, version, more: told(event) });
        }
        let version = order.version() + order.uncommitted().len() as u64;
        let total = order.total().unwrap_or(Money::ZERO);
        let Order { user_id, status, items, flow, submitted_at, reason, .. } = order.state().clone();
        Shown { id, user_id, status, reason, items, total, flow, submitted_at, version, history }
    }
}

/// What happened, in a word: the event's name without the `order.` that it has among those of other services.
fn kind_of(event: &OrderEvent) -> &'static str {
    match event {
        OrderEvent::Drafted { .. } => "drafted",
        OrderEvent::ItemAdded(_) => "item_added",
        OrderEvent::Submitted(_) => "submitted",
        OrderEvent::Created(_) => "created",
        OrderEvent::CancelRequested(_) => "cancel_requested",
        OrderEvent::CheckoutFailed(_) => "checkout_failed",
        OrderEvent::Confirmed(_) => "confirmed",
        OrderEvent::Shipped(_) => "shipped",
        OrderEvent::Cancelled(_) => "cancelled",
    }
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
    use purlin::message::Envelope;

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
            let kind = Envelope::new("order", &event).unwrap().kind;
            assert_eq!(format!("order.{}", kind_of(&event)), *kind);
        }
    }
}
