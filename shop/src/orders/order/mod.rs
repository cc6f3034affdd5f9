//! An order: what a customer puts together, submits, and gets, or does not get.

mod error;
mod event;
mod status;

use purlin::aggregate::{Aggregate, SnapshotPolicy};
use purlin::message::{Timestamp, Uuid};
use serde::{Deserialize, Serialize};

use crate::contracts::events::{Done, Flow, Line, OrderCreated, Payment, Refused, ShipTo};
use crate::contracts::money::Money;
use crate::contracts::numbers::MOST_LINES;
pub use error::OrderError;
pub use event::{OrderEvent, Submitted};
pub use status::Status;

/// An order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// Whose it is.
    pub user_id: Uuid,
    /// How far it has come; none: there is no such order.
    pub status: Option<Status>,
    /// What is ordered.
    pub items: Vec<Item>,
    /// How its checkout is carried through, once it is submitted.
    pub flow: Option<Flow>,
    /// When it was submitted.
    pub submitted_at: Option<Timestamp>,
    /// Why somebody, or something, wants it to end.
    pub cancel_requested: Option<String>,
    /// Why its checkout cannot succeed any more.
    pub failure: Option<String>,
    /// Why it was cancelled.
    pub reason: Option<String>,
}

/// A line of an order, with the name and the price that the product had when it was added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Which product.
    pub product_id: Uuid,
    /// Its name.
    pub name: String,
    /// How many.
    pub quantity: u32,
    /// What one costs.
    pub price: Money,
}

impl Aggregate for Order {
    const KIND: &'static str = "order";
    // It has few events: reading them costs less than looking for a snapshot first.
    const SNAPSHOTS: SnapshotPolicy = SnapshotPolicy::NEVER;
    type Event = OrderEvent;

    fn apply(&mut self, event: &OrderEvent) {
        match event {
            OrderEvent::Drafted { user_id, items } => {
                self.status = Some(Status::Draft);
                self.user_id = *user_id;
                self.items.clone_from(items);
            }
            OrderEvent::ItemAdded(item) => self.items.push(item.clone()),
            OrderEvent::Submitted(submitted) => {
                self.status = Some(Status::Submitted);
                self.flow = Some(submitted.flow);
                self.submitted_at = Some(submitted.at);
            }
            OrderEvent::Created(_) => {}
            OrderEvent::CancelRequested(why) => self.cancel_requested = Some(why.reason.clone()),
            OrderEvent::CheckoutFailed(why) => self.failure = Some(why.reason.clone()),
            OrderEvent::Confirmed(_) => self.status = Some(Status::Confirmed),
            OrderEvent::Shipped(_) => self.status = Some(Status::Shipped),
            OrderEvent::Cancelled(why) => {
                self.status = Some(Status::Cancelled);
                self.reason = Some(why.reason.clone());
            }
        }
    }

    fn is_public(event: &OrderEvent) -> bool {
        match event {
            OrderEvent::Created(_)
            | OrderEvent::CancelRequested(_)
            | OrderEvent::Confirmed(_)
            | OrderEvent::Shipped(_) => true,
            // Nobody else has heard of a draft, and what others hear says which flow it belongs to.
            OrderEvent::Cancelled(why) => why.flow.is_some(),
            OrderEvent::Drafted { .. }
            | OrderEvent::ItemAdded(_)
            | OrderEvent::Submitted(_)
            | OrderEvent::CheckoutFailed(_) => false,
        }
    }
}

impl Order {
    /// Begins an order.
    pub fn draft(&self, user_id: Uuid, items: Vec<Item>) -> Result<OrderEvent, OrderError> {
        if self.status.is_some() {
            return Err(OrderError::Exists);
        }
        within_limits(&items)?;
        Ok(OrderEvent::Drafted { user_id, items })
    }

    /// Whether items can be added, and it can be submitted.
    pub fn is_draft(&self) -> Result<(), OrderError> {
        match self.status {
            Some(Status::Draft) => Ok(()),
            None => Err(OrderError::NotFound),
            Some(_) => Err(OrderError::NotDraft),
        }
    }

    /// Adds a line.
    pub fn add_item(&self, item: Item) -> Result<OrderEvent, OrderError> {
        self.is_draft()?;
        let mut items = self.items.clone();
        items.push(item.clone());
        within_limits(&items)?;
        Ok(OrderEvent::ItemAdded(item))
    }

    /// Orders what is in it. A choreographed order is announced to the services that carry it out.
    pub fn submit(&self, id: Uuid, with: Checkout, at: Timestamp) -> Result<Vec<OrderEvent>, OrderError> {
        self.is_draft()?;
        if self.items.is_empty() {
            return Err(OrderError::Empty);
        }
        let total = self.total()?;
        let Checkout { flow, payment, ship_to } = with;
        let submitted = Submitted { flow, at, total, payment: payment.clone(), ship_to: ship_to.clone() };
        let mut events = vec![OrderEvent::Submitted(submitted)];
        if flow == Flow::Choreographed {
            let (order_id, user_id, lines) = (id, self.user_id, self.lines());
            let created = OrderCreated { flow, order_id, user_id, lines, total, payment, ship_to };
            events.push(OrderEvent::Created(created));
        }
        Ok(events)
    }

    /// Wants it to end. A draft ends at once; of a submitted one everything is given back first. Nothing more
    /// happens to an order that is ending or has ended.
    pub fn cancel(&self, order_id: Uuid, reason: &str) -> Result<Option<OrderEvent>, OrderError> {
        let why = Refused { flow: self.flow, order_id, reason: reason.to_owned() };
        match self.status {
            None => Err(OrderError::NotFound),
            Some(Status::Shipped) => Err(OrderError::Shipped),
            Some(Status::Cancelled) => Ok(None),
            Some(Status::Draft) => Ok(Some(OrderEvent::Cancelled(why))),
            Some(_) if self.cancel_requested.is_some() => Ok(None),
            Some(_) => Ok(Some(OrderEvent::CancelRequested(why))),
        }
    }

    /// Says that it is paid and has a shipment; again: nothing.
    pub fn confirm(&self, order_id: Uuid) -> Result<Option<OrderEvent>, OrderError> {
        match self.status {
            Some(Status::Submitted) if !self.is_ending() => {
                Ok(Some(OrderEvent::Confirmed(Done { flow: self.flow(), order_id })))
            }
            Some(Status::Confirmed | Status::Shipped) if !self.is_ending() => Ok(None),
            _ => Err(OrderError::Ending),
        }
    }

    /// Sends it on its way; again: nothing.
    pub fn ship(&self, order_id: Uuid) -> Result<Option<OrderEvent>, OrderError> {
        match self.status {
            Some(Status::Confirmed) if !self.is_ending() => {
                Ok(Some(OrderEvent::Shipped(Done { flow: self.flow(), order_id })))
            }
            Some(Status::Shipped) => Ok(None),
            _ => Err(OrderError::Ending),
        }
    }

    /// Notes why the checkout cannot succeed; only the first reason counts.
    pub fn fail_checkout(&self, order_id: Uuid, reason: &str) -> Option<OrderEvent> {
        let why = Refused { flow: self.flow, order_id, reason: reason.to_owned() };
        (self.is_open() && self.failure.is_none()).then_some(OrderEvent::CheckoutFailed(why))
    }

    /// Ends it, everything that was taken for it having been given back. The customer's wish, or the first
    /// failure, is the reason; else the one that is given.
    pub fn end(&self, order_id: Uuid, otherwise: &str) -> Option<OrderEvent> {
        if !self.is_open() {
            return None;
        }
        let reason = self.failure.as_ref().or(self.cancel_requested.as_ref());
        let reason = reason.map_or(otherwise, String::as_str).to_owned();
        Some(OrderEvent::Cancelled(Refused { flow: self.flow, order_id, reason }))
    }

    /// The sum of price times quantity.
    pub fn total(&self) -> Result<Money, OrderError> {
        Money::total(self.items.iter().map(|item| (item.price, item.quantity)))
            .ok_or(OrderError::TooExpensive)
    }

    /// What is needed of each product, every product once.
    pub fn lines(&self) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        for item in &self.items {
            match lines.iter_mut().find(|line| line.product_id == item.product_id) {
                Some(line) => line.quantity = line.quantity.saturating_add(item.quantity),
                None => lines.push(Line { product_id: item.product_id, quantity: item.quantity }),
            }
        }
        lines
    }

    /// Whether it will not be shipped any more.
    pub fn is_ending(&self) -> bool {
        self.cancel_requested.is_some() || self.failure.is_some() || self.status == Some(Status::Cancelled)
    }

    /// Whether it is being checked out, or what was taken for it is being given back.
    pub fn is_open(&self) -> bool {
        matches!(self.status, Some(Status::Submitted | Status::Confirmed))
    }

    fn flow(&self) -> Flow {
        self.flow.unwrap_or_default()
    }
}

/// How a customer wants his order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    /// How it is carried through.
    pub flow: Flow,
    /// How it is paid.
    pub payment: Payment,
    /// Where it goes.
    pub ship_to: ShipTo,
}

fn within_limits(items: &[Item]) -> Result<(), OrderError> {
    if items.len() > MOST_LINES {
        return Err(OrderError::TooManyLines);
    }
    match Money::total(items.iter().map(|item| (item.price, item.quantity))) {
        Some(_) => Ok(()),
        None => Err(OrderError::TooExpensive),
    }
}

#[cfg(test)]
mod tests {
    use purlin::message::{Fault as _, new_id};

    use super::*;

    fn given(events: impl IntoIterator<Item = OrderEvent>) -> Order {
        let mut order = Order::default();
        for event in events {
            order.apply(&event);
        }
        order
    }

    fn item(price: i64, quantity: u32) -> Item {
        Item { product_id: new_id(), name: "Lamp".into(), quantity, price: Money::eur(price) }
    }

    fn draft(items: Vec<Item>) -> Order {
        given([OrderEvent::Drafted { user_id: new_id(), items }])
    }

    fn checkout(flow: Flow) -> Checkout {
        Checkout { flow, payment: Payment { token: "tok_ok".into() }, ship_to: ShipTo::default() }
    }

    fn submitted() -> Order {
        let mut order = draft(vec![item(250, 2)]);
        for event in order.submit(new_id(), checkout(Flow::Choreographed), Timestamp::UNIX_EPOCH).unwrap() {
            order.apply(&event);
        }
        order
    }

    fn after(mut order: Order, event: Option<OrderEvent>) -> Order {
        order.apply(&event.expect("something happens"));
        order
    }

    #[test]
    fn an_empty_order_cannot_be_submitted() {
        let error = draft(vec![]).submit(new_id(), checkout(Flow::Orchestrated), Timestamp::UNIX_EPOCH);
        let error = error.unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), error.code()),
            ("cannot submit an empty order", "empty-order")
        );
    }

    #[test]
    fn only_a_choreographed_order_is_announced() {
        for (flow, kinds) in [(Flow::Orchestrated, 1), (Flow::Choreographed, 2)] {
            let events =
                draft(vec![item(1, 1)]).submit(new_id(), checkout(flow), Timestamp::UNIX_EPOCH).unwrap();
            assert_eq!(events.len(), kinds);
        }
    }

    #[test]
    fn only_a_draft_takes_items_and_is_submitted() {
        let order = submitted();
        assert_eq!(order.add_item(item(1, 1)), Err(OrderError::NotDraft));
        let again = order.submit(new_id(), checkout(Flow::Orchestrated), Timestamp::UNIX_EPOCH);
        assert_eq!(again, Err(OrderError::NotDraft));
    }

    #[test]
    fn a_total_beyond_all_numbers_is_refused_when_the_item_is_added() {
        let order = draft(vec![item(i64::MAX, 1)]);
        assert_eq!(order.add_item(item(1, 1)), Err(OrderError::TooExpensive));
    }

    #[test]
    fn cancel_and_ship_exclude_each_other() {
        let confirmed = submitted();
        let confirmed = after(confirmed.clone(), confirmed.confirm(new_id()).unwrap());
        let shipped = after(confirmed.clone(), confirmed.ship(new_id()).unwrap());
        assert_eq!(shipped.cancel(new_id(), "no more wanted"), Err(OrderError::Shipped));
        let ending = after(confirmed.clone(), confirmed.cancel(new_id(), "no more wanted").unwrap());
        assert_eq!(ending.ship(new_id()), Err(OrderError::Ending));
        assert_eq!(ending.status, Some(Status::Confirmed), "the status stays until everything is given back");
    }

    #[test]
    fn a_draft_is_cancelled_at_once_and_a_submitted_order_in_the_end() {
        let order = draft(vec![]);
        let ended = after(order.clone(), order.cancel(new_id(), "changed my mind").unwrap());
        assert_eq!(
            (ended.status, ended.reason.as_deref()),
            (Some(Status::Cancelled), Some("changed my mind"))
        );

        let order = submitted();
        let ending = after(order.clone(), order.cancel(new_id(), "changed my mind").unwrap());
        assert_eq!(ending.status, Some(Status::Submitted));
        assert_eq!(ending.cancel(new_id(), "again"), Ok(None));
        let ended = after(ending.clone(), ending.end(new_id(), "-"));
        assert_eq!(ended.reason.as_deref(), Some("changed my mind"));
        assert_eq!(ended.cancel(new_id(), "again"), Ok(None));
        assert_eq!(ended.end(new_id(), "-"), None);
    }

    #[test]
    fn the_first_failure_is_the_reason() {
        let order = submitted();
        let failed = after(order.clone(), order.fail_checkout(new_id(), "declined"));
        assert_eq!(failed.fail_checkout(new_id(), "other"), None);
        assert_eq!(failed.confirm(new_id()), Err(OrderError::Ending));
        let ended = after(failed.clone(), failed.end(new_id(), "-"));
        assert_eq!(ended.reason.as_deref(), Some("declined"));
    }

    #[test]
    fn lines_of_one_product_are_needed_together() {
        let lamp = item(1, 3);
        let order = draft(vec![lamp.clone(), item(1, 1), Item { quantity: 4, ..lamp.clone() }]);
        let lines = order.lines();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0], Line { product_id: lamp.product_id, quantity: 7 });
    }
}
