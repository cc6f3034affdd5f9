//! What happens to orders.

use purlin::message::{Event, Timestamp, Uuid};
use serde::{Deserialize, Serialize};

use super::Item;
use crate::contracts::events::{Done, Flow, OrderCreated, Payment, Refused, ShipTo};
use crate::contracts::money::Money;

/// What happens to orders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderEvent {
    /// Somebody began an order.
    Drafted {
        /// Whose it is.
        user_id: Uuid,
        /// What is in it from the start.
        items: Vec<Item>,
    },
    /// Something was added.
    ItemAdded(Item),
    /// The customer ordered it.
    Submitted(Submitted),
    /// The same, for the services that carry out a choreographed checkout.
    Created(OrderCreated),
    /// The order is to end; what was taken for it is being given back.
    CancelRequested(Refused),
    /// The checkout cannot succeed; what was taken for it is being given back.
    CheckoutFailed(Refused),
    /// Paid, and its shipment is made.
    Confirmed(Done),
    /// On its way.
    Shipped(Done),
    /// Ended, and nothing is held for it.
    Cancelled(Refused),
}

impl Event for OrderEvent {}

/// What is said when an order is submitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// How the checkout is carried through.
    pub flow: Flow,
    /// When.
    pub at: Timestamp,
    /// What it costs.
    pub total: Money,
    /// How it is paid.
    pub payment: Payment,
    /// Where it goes.
    pub ship_to: ShipTo,
}
