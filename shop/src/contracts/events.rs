//! What services tell each other over the bus. Every event says which flow its order takes.

use purlin::message::Uuid;
use serde::{Deserialize, Serialize};

use super::money::Money;

/// How an order's checkout is carried through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flow {
    /// By a saga in the orders service that calls the others.
    #[default]
    Orchestrated,
    /// By events, each step a handler in its own service.
    Choreographed,
}

/// How many of a product an order needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Which product.
    pub product_id: Uuid,
    /// How many.
    pub quantity: u32,
}

/// How an order is paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Payment {
    /// What the card network knows the card by.
    pub token: String,
}

/// Where an order goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShipTo {
    /// Who receives it.
    pub name: String,
    /// Street and number.
    pub street: String,
    /// The town.
    pub city: String,
    /// The postal code.
    pub postcode: String,
    /// The country's code of two letters.
    pub country: String,
}

/// `order.created`: a choreographed order was submitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderCreated {
    /// Always choreographed.
    pub flow: Flow,
    /// Which order.
    pub order_id: Uuid,
    /// Whose.
    pub user_id: Uuid,
    /// What is ordered.
    pub lines: Vec<Line>,
    /// What it costs.
    pub total: Money,
    /// How it is paid.
    pub payment: Payment,
    /// Where it goes.
    pub ship_to: ShipTo,
}

/// Something happened to an order, or was done for it: `order.confirmed`, `order.shipped`, `stock.reserved`,
/// `stock.released`, `shipment.cancelled`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The order's flow.
    pub flow: Flow,
    /// Which order.
    pub order_id: Uuid,
}

/// Something could not be done for an order, or has ended it: `stock.refused`, `payment.failed`,
/// `payment.delayed`, `shipment.refused`, `order.cancel_requested`, `order.cancelled`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The order's flow; a draft has none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<Flow>,
    /// Which order.
    pub order_id: Uuid,
    /// Why, for people.
    pub reason: String,
}

/// Money that is to move, or has moved: `payment.requested`, `payment.completed`, `payment.refunded`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paid {
    /// The order's flow.
    pub flow: Flow,
    /// Which order.
    pub order_id: Uuid,
    /// How much.
    pub amount: Money,
}

/// `shipment.created`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shipped {
    /// The order's flow.
    pub flow: Flow,
    /// Which order.
    pub order_id: Uuid,
    /// Which shipment.
    pub shipment_id: Uuid,
}

/// Which flow any event of the bus belongs to.
#[derive(Debug, Deserialize)]
pub struct InFlow {
    /// The flow; none in events that are not about a checkout.
    #[serde(default)]
    pub flow: Option<Flow>,
    /// Which order.
    pub order_id: Uuid,
}
