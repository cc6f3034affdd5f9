//! Makes, renames and drops collections between two groups of commits.

use std::collections::HashMap;
use std::sync::Arc;

use purlin::store::{Collection, CommitError};
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::batch::Trace;
use super::recovery::{Failed, Unknown};
use super::{EndOnPanic, Writer, execute};
use crate::collection::{self, Table};
use crate::damage::Damage;
use crate::error::refused;
use crate::schema;

/// What is to become of collections.
pub(crate) enum Change {
    Define(Collection),
    Swap(Vec<(String, String)>),
    Drop(String),
}

type Tables = HashMap<String, Arc<Table>>;

impl Writer {
    /// Makes, renames or drops a collection, and answers.
    pub(super) fn change_collections(
        &mut self,
        change: &Change,
        answer: oneshot::Sender<Result<(), CommitError>>,
    ) {
        // Dropped before the answer, without which whoever waits would hear that nothing happened.
        let _end = EndOnPanic;
        // Only this thread changes the tables: readers wait no longer than it takes to exchange the map.
        let tables = self.shared.tables.read().expect("no panic holds the tables").clone();
        match change.is_needed(&tables) {
            Ok(true) => {}
            known => return drop(answer.send(known.map(drop))),
        }
        self.gone = true;
        let (changed, rolled_back) = match self.transact_change(change, &tables) {
            Ok(()) => (Ok(()), false),
            Err(Failed::RolledBack(error)) => (Err(error), true),
            Err(Failed::Unknown(unknown)) => (self.settle(*unknown), false),
        };
        if changed.is_ok() {
            change.carry_over(self.shared.damage());
        }
        let _ = answer.send(changed.map_err(|error| refused(&Arc::new(error))));
        if rolled_back {
            self.start_over();
        }
    }

    fn transact_change(&mut self, change: &Change, tables: &Tables) -> Result<(), Failed<()>> {
        let (connection, revision) = (&self.connection, self.revision + 1);
        let changed = execute(connection, "BEGIN IMMEDIATE").and_then(|()| {
            change.apply(connection, tables)?;
            // By this one sees that it has happened.
            schema::set_revision(connection, revision)?;
            collection::load_all(connection)
        });
        let after = changed.map_err(Failed::RolledBack)?;
        // Whatever comes of it: as with commits.
        self.revision = revision;
        if let Err(error) = execute(connection, "COMMIT") {
            let trace = Some(Trace::Revision(revision));
            return Err(Failed::Unknown(Box::new(Unknown { trace, outcome: (), error })));
        }
        self.shared.replace_tables(after);
        Ok(())
    }
}

impl Change {
    /// Whether it would change anything.
    fn is_needed(&self, tables: &Tables) -> Result<bool, CommitError> {
        match self {
            Self::Define(definition) => {
                Ok(tables.get(definition.name.as_ref()).is_none_or(|table| table.definition != *definition))
            }
            Self::Swap(pairs) => match pairs.iter().find(|(from, _)| !tables.contains_key(from)) {
                None => Ok(true),
                Some((from, _)) => {
                    let why = format!("the collection `{from}` is not defined in this store");
                    Err(CommitError::Invalid(why))
                }
            },
            Self::Drop(name) => Ok(tables.contains_key(name)),
        }
    }

    /// Makes it, inside a transaction of the caller.
    fn apply(&self, connection: &Connection, tables: &Tables) -> rusqlite::Result<()> {
        match self {
            Self::Define(definition) => {
                let before = tables.get(definition.name.as_ref()).map(Arc::as_ref);
                collection::define(connection, before, definition)
            }
            Self::Swap(pairs) => {
                pairs.iter().try_for_each(|(from, to)| collection::rename(connection, &tables[from], to))
            }
            Self::Drop(name) => collection::drop_table(connection, name),
        }
    }

    /// What was damaged has the name that its collection has now, or is gone with it.
    fn carry_over(&self, damage: &Damage) {
        match self {
            Self::Define(_) => {}
            Self::Swap(pairs) => pairs.iter().for_each(|(from, to)| damage.swapped(from, to)),
            Self::Drop(name) => damage.dropped(name),
        }
    }
}
