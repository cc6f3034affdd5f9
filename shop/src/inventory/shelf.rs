//! The shelf of a product: how many there are, and for which orders some are held.

use std::collections::BTreeMap;

use purlin::aggregate::Aggregate;
use purlin::message::{Event, Fault, FaultKind, Uuid};
use serde::{Deserialize, Serialize};

/// The stock of one product. On hand + reserved + shipped = all that was ever added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shelf {
    /// How many were there at first; none: the product has no shelf.
    pub opened_with: Option<i64>,
    /// How many can still be ordered.
    pub on_hand: i64,
    /// How many are held for orders.
    pub reserved: i64,
    /// How many have left.
    pub shipped: i64,
    /// How many were ever put on it.
    pub added: i64,
    /// How many are held for which order.
    pub holds: BTreeMap<Uuid, i64>,
}

/// What happens to a shelf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShelfEvent {
    /// The product has a shelf, with some on it.
    Opened {
        /// How many.
        quantity: i64,
    },
    /// More was put on it.
    Filled {
        /// How many.
        quantity: i64,
    },
    /// Some are held for an order.
    Held {
        /// For which.
        order_id: Uuid,
        /// How many.
        quantity: i64,
    },
    /// What was held for an order is free again.
    Freed {
        /// For which.
        order_id: Uuid,
        /// How many.
        quantity: i64,
    },
    /// What was held for an order has left.
    Left {
        /// For which.
        order_id: Uuid,
        /// How many.
        quantity: i64,
    },
}

impl Event for ShelfEvent {}

impl Aggregate for Shelf {
    const KIND: &'static str = "shelf";
    type Event = ShelfEvent;

    fn apply(&mut self, event: &ShelfEvent) {
        match event {
            ShelfEvent::Opened { quantity } => {
                self.opened_with = Some(*quantity);
                self.fill(*quantity);
            }
            ShelfEvent::Filled { quantity } => self.fill(*quantity),
            ShelfEvent::Held { order_id, quantity } => {
                self.on_hand -= quantity;
                self.reserved += quantity;
                self.holds.insert(*order_id, *quantity);
            }
            ShelfEvent::Freed { order_id, quantity } => {
                self.holds.remove(order_id);
                self.reserved -= quantity;
                self.on_hand += quantity;
            }
            ShelfEvent::Left { order_id, quantity } => {
                self.holds.remove(order_id);
                self.reserved -= quantity;
                self.shipped += quantity;
            }
        }
    }
}

impl Shelf {
    fn fill(&mut self, quantity: i64) {
        self.on_hand += quantity;
        self.added += quantity;
    }

    /// Gives a product its shelf; again with as many: nothing.
    pub fn open(&self, quantity: i64) -> Result<Option<ShelfEvent>, ShelfError> {
        match self.opened_with {
            None => Ok(Some(ShelfEvent::Opened { quantity })),
            Some(first) if first == quantity => Ok(None),
            Some(_) => Err(ShelfError::OpenedOtherwise),
        }
    }

    /// Puts more on it.
    pub fn add(&self, quantity: i64) -> Result<ShelfEvent, ShelfError> {
        if self.opened_with.is_none() {
            return Err(ShelfError::NotFound);
        }
        self.added.checked_add(quantity).ok_or(ShelfError::TooMany)?;
        Ok(ShelfEvent::Filled { quantity })
    }

    /// Holds some for an order; again: nothing.
    pub fn hold(&self, order_id: Uuid, quantity: i64) -> Result<Option<ShelfEvent>, ShelfError> {
        if self.opened_with.is_none() {
            return Err(ShelfError::NotFound);
        }
        if self.holds.contains_key(&order_id) {
            return Ok(None);
        }
        if quantity > self.on_hand {
            return Err(ShelfError::TooFew { on_hand: self.on_hand, wanted: quantity });
        }
        Ok(Some(ShelfEvent::Held { order_id, quantity }))
    }

    /// Frees what is held for an order, if anything is.
    pub fn free(&self, order_id: Uuid) -> Option<ShelfEvent> {
        self.holds.get(&order_id).map(|quantity| ShelfEvent::Freed { order_id, quantity: *quantity })
    }

    /// Lets what is held for an order leave, if anything is.
    pub fn leave(&self, order_id: Uuid) -> Option<ShelfEvent> {
        self.holds.get(&order_id).map(|quantity| ShelfEvent::Left { order_id, quantity: *quantity })
    }
}

/// What cannot be done with a shelf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShelfError {
    /// The product has none.
    #[error("there is no such product in stock")]
    NotFound,
    /// It was opened with another quantity.
    #[error("the product's stock was opened with another quantity")]
    OpenedOtherwise,
    /// More than can be counted.
    #[error("that would be more of the product than can be counted")]
    TooMany,
    /// Less is there than is wanted.
    #[error("too little stock: {on_hand} on hand, {wanted} wanted")]
    TooFew {
        /// What can be ordered.
        on_hand: i64,
        /// What was wanted.
        wanted: i64,
    },
}

impl Fault for ShelfError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::NotFound => FaultKind::NotFound,
            Self::TooMany => FaultKind::Rejected,
            Self::OpenedOtherwise | Self::TooFew { .. } => FaultKind::Conflict,
        }
    }

    fn code(&self) -> &str {
        match self {
            Self::NotFound => "not-found",
            Self::TooMany => "too-much-stock",
            Self::OpenedOtherwise => "stock-opened",
            Self::TooFew { .. } => "product-unavailable",
        }
    }
}

#[cfg(test)]
mod tests {
    use purlin::message::new_id;

    use super::*;

    fn given(events: impl IntoIterator<Item = ShelfEvent>) -> Shelf {
        let mut shelf = Shelf::default();
        for event in events {
            shelf.apply(&event);
            assert_eq!(shelf.on_hand + shelf.reserved + shelf.shipped, shelf.added, "after {event:?}");
            assert!(shelf.on_hand >= 0 && shelf.reserved >= 0, "after {event:?}");
        }
        shelf
    }

    #[test]
    fn nothing_is_lost_or_made_by_holding_freeing_and_leaving() {
        let (one, two) = (new_id(), new_id());
        let shelf = given([
            ShelfEvent::Opened { quantity: 10 },
            ShelfEvent::Held { order_id: one, quantity: 4 },
            ShelfEvent::Held { order_id: two, quantity: 6 },
            ShelfEvent::Freed { order_id: one, quantity: 4 },
            ShelfEvent::Left { order_id: two, quantity: 6 },
            ShelfEvent::Filled { quantity: 5 },
        ]);
        assert_eq!((shelf.on_hand, shelf.reserved, shelf.shipped), (9, 0, 6));
        assert_eq!((shelf.free(one), shelf.leave(two)), (None, None));
    }

    #[test]
    fn no_more_is_held_than_is_there_and_twice_is_once() {
        let order = new_id();
        let shelf = given([ShelfEvent::Opened { quantity: 3 }]);
        assert_eq!(shelf.hold(order, 4), Err(ShelfError::TooFew { on_hand: 3, wanted: 4 }));
        let held = shelf.hold(order, 3).unwrap().unwrap();
        let shelf = given([ShelfEvent::Opened { quantity: 3 }, held]);
        assert_eq!(shelf.hold(order, 3), Ok(None));
        assert_eq!(shelf.free(new_id()), None);
    }

    #[test]
    fn opening_twice_is_opening_once() {
        let shelf = given([ShelfEvent::Opened { quantity: 3 }]);
        assert_eq!(shelf.open(3), Ok(None));
        assert_eq!(shelf.open(4), Err(ShelfError::OpenedOtherwise));
    }

    #[test]
    fn more_than_can_be_counted_is_refused() {
        let shelf = given([ShelfEvent::Opened { quantity: 3 }]);
        assert_eq!(shelf.add(i64::MAX), Err(ShelfError::TooMany));
        assert_eq!(Shelf::default().add(1), Err(ShelfError::NotFound));
    }
}
