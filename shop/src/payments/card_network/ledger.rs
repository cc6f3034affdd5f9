//! The network's ledger: money that moved.

use purlin::message::{Timestamp, Uuid};
use purlin::store::{Field, Row};
use serde::{Deserialize, Serialize};

use crate::contracts::money::Money;

/// One movement of money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its id; later entries have later ids.
    pub id: Uuid,
    /// For which order.
    pub order_id: Uuid,
    /// Which way.
    pub kind: Kind,
    /// How much.
    pub amount: Money,
    /// When.
    pub at: Timestamp,
}

/// Which way money moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// To the shop.
    Charge,
    /// Back.
    Refund,
}

impl Row for Entry {
    const COLLECTION: &'static str = "ledger";
    const FIELDS: &'static [Field] = &[Field::text("order_id"), Field::text("kind")];
}
