//! Names as SQL takes them.

use purlin::message::{Uuid, derived_id, new_id};

use crate::error::OpenError;

/// The schema of a store. Every statement names it, so that no `search_path` matters.
#[derive(Debug, Clone)]
pub(crate) struct Schema {
    name: String,
    quoted: String,
    /// Streams are found by a hash with this seed.
    seed: i64,
}

impl Schema {
    /// Refuses what PostgreSQL would cut, or keeps for itself.
    pub(crate) fn new(name: &str) -> Result<Self, OpenError> {
        let fits = (1..=63).contains(&name.len()) && !name.chars().any(char::is_control);
        if !fits || name.starts_with("pg_") {
            return Err(OpenError::Name { name: name.to_owned() });
        }
        Ok(Self { name: name.to_owned(), quoted: quoted(name), seed: 0 })
    }

    /// The same one, whose streams are found by a hash with a seed.
    pub(crate) fn with_seed(self, seed: i64) -> Self {
        Self { seed, ..self }
    }

    /// The hash of a stream's name, as the index of streams has it.
    pub(crate) fn hash(&self, name: &str) -> String {
        format!("hashtextextended({name}, {})", self.seed)
    }

    /// The condition that the events `table` are of the stream `name`.
    pub(crate) fn of_stream(&self, table: &str, name: &str) -> String {
        format!("{} = {} AND {table}.stream = {name}", self.hash(&format!("{table}.stream")), self.hash(name))
    }

    /// As it was given.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Between quotes.
    pub(crate) fn quoted(&self) -> &str {
        &self.quoted
    }

    /// A table of the schema.
    pub(crate) fn table(&self, name: &str) -> String {
        format!("{}.{}", self.quoted, quoted(name))
    }

    /// The number of the lock under which the schema is made.
    pub(crate) fn lock(&self) -> i64 {
        lock(derived_id(Uuid::nil(), &format!("purlin schema {}", self.name)))
    }

    /// The number of the lock of the one process that may have it open.
    pub(crate) fn sole_lock(&self) -> i64 {
        lock(derived_id(Uuid::nil(), &format!("purlin process {}", self.name)))
    }
}

/// The number of the advisory lock of a log.
pub(crate) fn log_lock(log: Uuid) -> i64 {
    lock(derived_id(log, "purlin log of format 4"))
}

/// The one that programs of formats before 4 take. They look for streams while they hold it, without the index that they
/// know; so nobody else waits for it.
pub(crate) fn older_log_lock(log: Uuid) -> i64 {
    lock(log)
}

/// The number of the advisory lock of an id: half of it.
fn lock(id: Uuid) -> i64 {
    (id.as_u64_pair().0).cast_signed()
}

/// How many sessions hold the advisory lock of a number. A lock by one number is shown as its two halves.
pub(crate) const HOLDERS: &str = "SELECT count(*) FROM pg_locks \
     WHERE locktype = 'advisory' AND granted AND objsubid = 1 \
     AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
     AND (classid::bigint << 32) | objid::bigint = $1";

/// The number of the advisory lock that all hold, shared, who listen to a log.
pub(crate) fn listeners(log: Uuid) -> i64 {
    lock(derived_id(log, "purlin listeners"))
}

/// The columns that every table has of itself, whatever it is made with.
const SYSTEM: [&str; 7] = ["cmax", "cmin", "ctid", "oid", "tableoid", "xmax", "xmin"];

/// The column of a collection's field. No field has a `$` in its name.
pub(crate) fn column(field: &str) -> String {
    if SYSTEM.contains(&field) { format!("\"{field}$\"") } else { quoted(field) }
}

/// A name for an index. It says nothing, because an index keeps its name when its table gets another; and no
/// collection begins with `_`.
pub(crate) fn index() -> String {
    format!("\"_{}\"", new_id().simple())
}

pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_named_as_it_was_given_and_cannot_break_out() {
        assert_eq!(Schema::new("card-network").unwrap().table("_event"), "\"card-network\".\"_event\"");
        assert_eq!(Schema::new("a\"b").unwrap().quoted(), "\"a\"\"b\"");
        for bad in ["", "pg_toast", "a\0b", &"x".repeat(64)] {
            assert!(Schema::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_field_may_have_the_name_of_a_system_column() {
        assert_eq!((column("xmin").as_str(), column("status").as_str()), ("\"xmin$\"", "\"status\""));
    }
}
