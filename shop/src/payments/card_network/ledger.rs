//! The network's ledger: money that moved.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use purlin::message::{Timestamp, Uuid, new_id};
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

/// The entries that are being written; cheap to clone.
///
/// An entry has its id before it is committed, so that one with a later id may be committed first. Whoever reads page
/// by page would go past the earlier one: what is later than the oldest that is being written, or than all that was begun
/// when somebody began to read, is not shown yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Writing(Arc<Mutex<BTreeSet<Uuid>>>);

/// An entry that is being written.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) id: Uuid,
    writing: Writing,
}

impl Writing {
    /// Begins an entry.
    pub(super) fn begin(&self) -> Begun {
        let mut ids = self.ids();
        let id = new_id();
        ids.insert(id);
        Begun { id, writing: self.clone() }
    }

    /// Before which everything is written: the oldest that is being written, else whatever will be begun.
    pub(super) fn written_before(&self) -> Uuid {
        let ids = self.ids();
        ids.first().copied().unwrap_or_else(new_id)
    }

    fn ids(&self) -> MutexGuard<'_, BTreeSet<Uuid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.writing.ids().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_begun_while_somebody_reads_is_behind_where_he_stops() {
        let writing = Writing::default();
        let end = writing.written_before();
        let first = writing.begin();
        assert!(end < first.id);
        writing.begin();
        assert_eq!(writing.written_before(), first.id);
    }
}
