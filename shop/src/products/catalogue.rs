//! The catalogue: a row for each product.

use purlin::message::Uuid;
use purlin::store::{Commit, Row};
use serde::{Deserialize, Serialize};

use super::product::Product;
use crate::contracts::money::Money;

/// A product in the catalogue.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// Which product.
    pub id: Uuid,
    /// What it is called.
    pub name: String,
    /// What it costs.
    pub price: Money,
}

impl Row for Entry {
    const COLLECTION: &'static str = "catalogue";
}

/// Puts a product into the catalogue. The commit appends to the product's stream at a version, so that no older
/// entry replaces a newer one.
pub fn enter(commit: Commit, id: Uuid, product: &Product) -> Commit {
    let entry = Entry { id, name: product.name.clone(), price: product.price };
    commit.put(id.to_string(), &entry)
}
