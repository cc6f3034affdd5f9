//! Raw batched upserts into a table as the store's.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use rusqlite::Connection;

use crate::store::projection::Batch;

/// A file with a copy of one of the store's tables, empty at first.
pub(crate) struct Upserts {
    connection: Connection,
    table: &'static str,
    batches: Vec<Batch>,
}

impl Upserts {
    /// A table and its indexes as they are in the store's file.
    pub(crate) fn open(folder: &Path, ours: &Path, table: &'static str, batches: Vec<Batch>) -> Result<Self> {
        let definitions =
            "SELECT sql FROM sqlite_schema WHERE tbl_name = ?1 AND sql IS NOT NULL ORDER BY type DESC";
        let definitions: Vec<String> = Connection::open(ours)?
            .prepare(definitions)?
            .query_map([table], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let connection = Connection::open(folder.join("raw.db"))?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -32768;",
        )?;
        connection.execute_batch(&definitions.join(";")).context("the table of the store")?;
        let mut upserts = Self { connection, table, batches };
        upserts.run(1)?;
        Ok(upserts)
    }

    /// All batches once; events a second, of which a batch has so many.
    pub(crate) fn run(&mut self, events: usize) -> Result<f64> {
        let sql = format!(
            "INSERT INTO \"{}\"(_key, _revision, _position, _due, _value, status) VALUES(?1, ?2, ?2, NULL, ?3, ?4) \
             ON CONFLICT(_key) DO UPDATE SET _revision = excluded._revision, _position = excluded._position, \
             _due = excluded._due, _value = excluded._value, status = excluded.status",
            self.table
        );
        let begun = Instant::now();
        for (number, batch) in self.batches.iter().enumerate() {
            let transaction = self.connection.transaction()?;
            {
                let mut upsert = transaction.prepare_cached(&sql)?;
                for ((key, value), status) in batch.keys.iter().zip(&batch.values).zip(&batch.statuses) {
                    upsert.execute((key, number as i64, value, status))?;
                }
            }
            transaction.commit()?;
        }
        Ok((self.batches.len() * events) as f64 / begun.elapsed().as_secs_f64())
    }
}
