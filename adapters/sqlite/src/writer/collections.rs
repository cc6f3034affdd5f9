//! Makes, renames and drops collections, in the transaction of the commit that does.

use std::collections::HashMap;
use std::sync::Arc;

use purlin::store::{Change, Commit};
use rusqlite::Connection;

use crate::collection::{self, Table};
use crate::damage::Damage;

pub(super) type Tables = HashMap<String, Arc<Table>>;

/// Makes what a commit changes, and gives the tables that there are then; nothing if nothing is changed.
pub(super) fn change(
    connection: &Connection,
    commit: &Commit,
    tables: &Tables,
) -> rusqlite::Result<Option<Vec<Table>>> {
    let needed = |change: &&Change| match change {
        Change::Define(definition) => {
            tables.get(&*definition.name).is_none_or(|table| table.definition != *definition)
        }
        Change::Swap { .. } => true,
        Change::Drop(name) => tables.contains_key(name),
    };
    let mut changed = false;
    for change in commit.changes.iter().filter(needed) {
        changed = true;
        match change {
            Change::Define(definition) => {
                let before = tables.get(&*definition.name).map(Arc::as_ref);
                collection::define(connection, before, definition)?;
            }
            Change::Swap { from, to } => collection::rename(connection, &tables[from], to)?,
            Change::Drop(name) => collection::drop_table(connection, name)?,
        }
    }
    if changed { collection::load_all(connection).map(Some) } else { Ok(None) }
}

/// What was damaged has the name that its collection has now, or is gone with it.
pub(super) fn carry_over(commit: &Commit, damage: &Damage) {
    for change in &commit.changes {
        match change {
            Change::Define(_) => {}
            Change::Swap { from, to } => damage.swapped(from, to),
            Change::Drop(name) => damage.dropped(name),
        }
    }
}
