//! How far an order has come.

use serde::{Deserialize, Serialize};

/// How far an order has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Items can be added.
    Draft,
    /// It is being checked out.
    Submitted,
    /// It is paid and has a shipment.
    Confirmed,
    /// It is on its way: the end.
    Shipped,
    /// It will not be: the other end.
    Cancelled,
}

impl Status {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Submitted => "submitted",
            Self::Confirmed => "confirmed",
            Self::Shipped => "shipped",
            Self::Cancelled => "cancelled",
        }
    }

    /// The one that is written so; else what to say.
    pub fn named(name: &str) -> Result<Self, String> {
        [Self::Draft, Self::Submitted, Self::Confirmed, Self::Shipped, Self::Cancelled]
            .into_iter()
            .find(|status| status.as_str() == name)
            .ok_or_else(|| format!("`{name}` is no status: draft, submitted, confirmed, shipped, cancelled"))
    }
}
