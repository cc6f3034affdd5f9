//! A product: what it is called and what it costs. How many there are is the inventory's business.

use purlin::aggregate::{Aggregate, SnapshotPolicy};
use purlin::message::{Event, Fault, FaultKind};
use serde::{Deserialize, Serialize};

use crate::contracts::money::Money;

/// A product.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// What it is called; empty: there is no such product.
    pub name: String,
    /// What it costs.
    pub price: Money,
}

/// What happens to products.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProductEvent {
    /// It is for sale from now on.
    Created {
        /// What it is called.
        name: String,
        /// What it costs.
        price: Money,
    },
    /// It has another name.
    Renamed {
        /// Which.
        name: String,
    },
    /// It has another price.
    Repriced {
        /// Which.
        price: Money,
    },
}

impl Event for ProductEvent {}

impl Aggregate for Product {
    const KIND: &'static str = "product";
    // It has few events: reading them costs less than looking for a snapshot first.
    const SNAPSHOTS: SnapshotPolicy = SnapshotPolicy::NEVER;
    type Event = ProductEvent;

    fn apply(&mut self, event: &ProductEvent) {
        match event {
            ProductEvent::Created { name, price } => {
                self.name.clone_from(name);
                self.price = *price;
            }
            ProductEvent::Renamed { name } => self.name.clone_from(name),
            ProductEvent::Repriced { price } => self.price = *price,
        }
    }
}

impl Product {
    /// Offers it for sale.
    pub fn create(&self, name: &str, price: Money) -> Result<ProductEvent, ProductError> {
        if !self.name.is_empty() {
            return Err(ProductError::Exists);
        }
        Ok(ProductEvent::Created { name: checked_name(name)?, price: checked_price(price)? })
    }

    /// Gives it another name, another price, or both.
    pub fn change(
        &self,
        name: Option<&str>,
        price: Option<Money>,
    ) -> Result<Vec<ProductEvent>, ProductError> {
        if self.name.is_empty() {
            return Err(ProductError::NotFound);
        }
        let name = name.map(checked_name).transpose()?.filter(|name| *name != self.name);
        let price = price.map(checked_price).transpose()?.filter(|price| *price != self.price);
        let renamed = name.map(|name| ProductEvent::Renamed { name });
        let repriced = price.map(|price| ProductEvent::Repriced { price });
        Ok(renamed.into_iter().chain(repriced).collect())
    }
}

fn checked_name(name: &str) -> Result<String, ProductError> {
    let name = name.trim();
    if name.is_empty() || name.len() > 200 { Err(ProductError::Name) } else { Ok(name.to_owned()) }
}

fn checked_price(price: Money) -> Result<Money, ProductError> {
    if price.amount < 0 { Err(ProductError::Price) } else { Ok(price) }
}

/// What cannot be done with a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProductError {
    /// There is no such product.
    #[error("there is no such product")]
    NotFound,
    /// There is one already.
    #[error("the product exists already")]
    Exists,
    /// The name is none.
    #[error("name: a product's name has 1 to 200 bytes")]
    Name,
    /// The price is negative.
    #[error("price: a product's price is not negative")]
    Price,
}

impl Fault for ProductError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::NotFound => FaultKind::NotFound,
            Self::Exists => FaultKind::Conflict,
            Self::Name | Self::Price => FaultKind::Rejected,
        }
    }

    fn code(&self) -> &str {
        match self {
            Self::NotFound => "not-found",
            Self::Exists => "product-exists",
            Self::Name | Self::Price => "invalid-product",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_to_what_is_already_so_is_none() {
        let product = Product { name: "Lamp".into(), price: Money::eur(100) };
        assert_eq!(product.change(Some("Lamp"), Some(Money::eur(100))), Ok(vec![]));
        let repriced = ProductEvent::Repriced { price: Money::eur(90) };
        assert_eq!(product.change(None, Some(Money::eur(90))), Ok(vec![repriced]));
    }

    #[test]
    fn a_negative_price_and_an_empty_name_are_refused() {
        let product = Product::default();
        assert_eq!(product.create("Lamp", Money::eur(-1)), Err(ProductError::Price));
        assert_eq!(product.create("  ", Money::eur(1)), Err(ProductError::Name));
        assert_eq!(product.change(None, None), Err(ProductError::NotFound));
    }
}
