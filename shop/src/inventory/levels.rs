//! The read model of all shelves, for those who run the shop.

use purlin::message::Uuid;
use purlin::projection::Projection;
use purlin::store::{Recorded, Row};
use serde::{Deserialize, Serialize};

use super::shelf::ShelfEvent;

/// The projection of shelves to [`Level`]s.
pub struct Levels;

/// A shelf as it is listed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Level {
    /// Whose shelf it is.
    pub product_id: Uuid,
    /// How many can be ordered.
    pub on_hand: i64,
    /// How many are held for orders.
    pub reserved: i64,
    /// How many have left.
    pub shipped: i64,
    /// How many were ever put on it.
    pub added: i64,
}

impl Row for Level {
    const COLLECTION: &'static str = "stock_levels";
}

impl Projection for Levels {
    const NAME: &'static str = "stock_levels";
    const CATEGORY: &'static str = "shelf";
    type Event = ShelfEvent;
    type Row = Level;

    fn apply(&self, row: Option<Level>, event: &ShelfEvent, recorded: &Recorded) -> Option<Level> {
        let product_id = recorded.stream.key().parse().unwrap_or_default();
        let mut level = Level { product_id, ..row.unwrap_or_default() };
        match event {
            ShelfEvent::Opened { quantity } | ShelfEvent::Filled { quantity } => {
                level.on_hand += quantity;
                level.added += quantity;
            }
            ShelfEvent::Held { quantity, .. } => {
                level.on_hand -= quantity;
                level.reserved += quantity;
            }
            ShelfEvent::Freed { quantity, .. } => {
                level.reserved -= quantity;
                level.on_hand += quantity;
            }
            ShelfEvent::Left { quantity, .. } => {
                level.reserved -= quantity;
                level.shipped += quantity;
            }
        }
        Some(level)
    }
}
