//! Makes, renames and drops collections between two groups of commits.

use std::collections::HashMap;
use std::sync::Arc;

use purlin::store::{Collection, CommitError};
use rusqlite::Connection;

use super::{Job, Writer, execute};
use crate::collection::{self, Table};
use crate::error::unavailable;

impl Writer {
    /// Makes, renames or drops a collection.
    pub(super) fn change_collections(&mut self, job: Job) {
        self.gone = true;
        let (answer, changed) = match job {
            Job::Define(definition, answer) => (answer, self.define(&definition)),
            Job::Swap(pairs, answer) => (answer, self.swap(&pairs)),
            Job::Drop(name, answer) => {
                let dropped = self.in_transaction(|connection, tables| match tables.contains_key(&name) {
                    true => collection::drop_table(connection, &name),
                    false => Ok(()),
                });
                (answer, dropped.map_err(unavailable))
            }
            Job::Commit(..) | Job::Forget(..) | Job::Mend | Job::Close(_) => return,
        };
        let _ = answer.send(changed);
    }

    fn define(&mut self, definition: &Collection) -> Result<(), CommitError> {
        let defined = self.in_transaction(|connection, tables| {
            collection::define(connection, tables.get(definition.name.as_ref()).map(Arc::as_ref), definition)
        });
        defined.map_err(unavailable)
    }

    fn swap(&mut self, pairs: &[(String, String)]) -> Result<(), CommitError> {
        let swapped = self.in_transaction(|connection, tables| {
            let missing = pairs.iter().find(|(from, _)| !tables.contains_key(from));
            if let Some((from, _)) = missing {
                return Ok(Err(format!("the collection `{from}` is not defined in this store")));
            }
            for (from, to) in pairs {
                collection::rename(connection, &tables[from], to)?;
            }
            Ok(Ok(()))
        });
        swapped.map_err(unavailable)?.map_err(CommitError::Invalid)
    }

    /// Changes tables, and reads them again.
    fn in_transaction<T>(
        &mut self,
        change: impl FnOnce(&Connection, &HashMap<String, Arc<Table>>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let shared = Arc::clone(&self.shared);
        // Only this thread changes the tables: readers wait no longer than it takes to exchange the map.
        let tables = shared.tables.read().expect("no panic holds the tables").clone();
        let changed = (|| {
            execute(&self.connection, "BEGIN IMMEDIATE")?;
            let changed = change(&self.connection, &tables)?;
            let after = collection::load_all(&self.connection)?;
            execute(&self.connection, "COMMIT")?;
            let named = after.into_iter().map(|table| (table.definition.name.to_string(), Arc::new(table)));
            *shared.tables.write().expect("no panic holds the tables") = named.collect();
            Ok(changed)
        })();
        if changed.is_err() {
            self.start_over();
        }
        changed
    }
}
