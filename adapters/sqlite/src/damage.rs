//! What a damaged file still gives: what is whole and can be known to be whole.
//!
//! A checksum tells that what was read is what was written. That something is *not* there has no checksum: a record
//! whose key or page is damaged may be passed over. A small file is therefore looked through when it is opened, which
//! takes no longer than a few milliseconds; in a file that was found damaged no record is said to be absent, and where
//! SQLite's own structure is damaged nothing is written any more, because that would spread it. In a large file only the
//! places beside an absent record are looked at, when it is asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use purlin::store::{CommitError, ReadError};
use rusqlite::Connection;

use crate::collection::Table;
use crate::error::{is_damage, unavailable};

/// Bytes up to which a file is looked through when it is opened.
const SMALL: i64 = 8 << 20;

/// What was found when the file was opened.
#[derive(Default)]
pub(crate) struct Damage {
    /// Of SQLite's structure.
    structure: Option<Found>,
    /// Of collections, by their names.
    collections: Mutex<HashMap<String, Found>>,
}

/// Damage, and what to do about it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the file is damaged ({0}): restore a backup; what is not damaged can still be read")]
pub(crate) struct Found(Arc<str>);

impl Damage {
    /// Looks through a small file.
    pub(crate) fn look(
        connection: &Connection,
        tables: &HashMap<String, Arc<Table>>,
    ) -> rusqlite::Result<Self> {
        let size = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
        if connection.query_row(size, [], |row| row.get::<_, i64>(0))? > SMALL {
            return Ok(Self::default());
        }
        let structure = match connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)) {
            Ok(said) if said == "ok" => None,
            Ok(said) => Some(said),
            Err(error) if is_damage(&error) => Some(error.to_string()),
            Err(error) => return Err(error),
        };
        let mut collections = HashMap::new();
        for (name, table) in tables {
            if let Some(found) = table.first_damage(connection)? {
                tracing::error!("{found} is damaged");
                collections.insert(name.clone(), Found(found.into()));
            }
        }
        let structure = structure.map(|found: String| Found(found.into()));
        if let Some(found) = &structure {
            tracing::error!("{found}; nothing is written to it");
        }
        Ok(Self { structure, collections: Mutex::new(collections) })
    }

    /// Refuses what would write.
    pub(crate) fn admits_writes(&self) -> Result<(), CommitError> {
        match &self.structure {
            None => Ok(()),
            Some(found) => Err(unavailable(found.clone())),
        }
    }

    /// Refuses to say what is in a collection and what is not.
    pub(crate) fn knows_all_of(&self, name: &str) -> Result<(), ReadError> {
        let found = self.structure.clone().or_else(|| self.collections().get(name).cloned());
        found.map_or(Ok(()), |found| {
            Err(ReadError::Unreadable {
                what: format!("the whole of the collection `{name}`"),
                source: found.into(),
            })
        })
    }

    /// The records of `from` have the name `to` now.
    pub(crate) fn swapped(&self, from: &str, to: &str) {
        let mut collections = self.collections();
        collections.remove(to);
        if let Some(found) = collections.remove(from) {
            collections.insert(to.to_owned(), found);
        }
    }

    /// A collection is gone, and what was damaged with it.
    pub(crate) fn dropped(&self, name: &str) {
        self.collections().remove(name);
    }

    fn collections(&self) -> std::sync::MutexGuard<'_, HashMap<String, Found>> {
        self.collections.lock().expect("no panic holds what is damaged")
    }
}
