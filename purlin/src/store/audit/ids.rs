//! The ids of the last events.

use std::collections::{HashMap, VecDeque};

use uuid::Uuid;

use crate::store::Position;

/// Knows the ids of the last events.
pub(super) struct Ids {
    places: HashMap<Uuid, Position>,
    order: VecDeque<Uuid>,
    most: usize,
}

impl Ids {
    pub(super) fn new(most: usize) -> Self {
        Self { places: HashMap::new(), order: VecDeque::new(), most }
    }

    /// Where the same id has been, if it has.
    pub(super) fn see(&mut self, id: Uuid, position: Position) -> Option<Position> {
        if let Some(first) = self.places.get(&id) {
            return Some(*first);
        }
        if self.order.len() >= self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.places.remove(&oldest);
        }
        if self.most > 0 {
            self.order.push_back(id);
            self.places.insert(id, position);
        }
        None
    }
}
