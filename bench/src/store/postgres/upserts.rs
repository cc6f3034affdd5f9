//! Raw batched upserts into a table as the store's.

use std::time::Instant;

use anyhow::Result;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, Statement};

use super::Server;
use crate::store::projection::Batch;

/// A copy of one of the store's tables, empty at first.
pub(crate) struct Upserts<'a> {
    runtime: &'a Runtime,
    client: Client,
    upsert: Statement,
    batches: Vec<Batch>,
}

impl<'a> Upserts<'a> {
    /// A table and its indexes as they are in the store `name`.
    pub(crate) fn open(
        runtime: &'a Runtime,
        server: &Server,
        name: &str,
        table: &str,
        batches: Vec<Batch>,
    ) -> Result<Self> {
        let (client, upsert) = runtime.block_on(async {
            let client = server.client().await?;
            let copy = format!(
                "CREATE SCHEMA raw_upserts; CREATE TABLE raw_upserts.{table} (LIKE {name}.{table} INCLUDING ALL)"
            );
            client.batch_execute(&copy).await?;
            let upsert = format!(
                "INSERT INTO raw_upserts.{table}(_key, _revision, _position, _due, _value, status) \
                 SELECT k, $1, $1, NULL, v::json, s FROM unnest($2::text[], $3::text[], $4::text[]) AS u(k, v, s) \
                 ON CONFLICT (_key) DO UPDATE SET _revision = excluded._revision, _position = excluded._position, \
                 _due = excluded._due, _value = excluded._value, status = excluded.status"
            );
            let upsert = client.prepare(&upsert).await?;
            anyhow::Ok((client, upsert))
        })?;
        let upserts = Self { runtime, client, upsert, batches };
        upserts.run(1)?;
        Ok(upserts)
    }

    /// All batches once; events a second, of which a batch has so many.
    pub(crate) fn run(&self, events: usize) -> Result<f64> {
        self.runtime.block_on(async {
            let begun = Instant::now();
            for (number, Batch { keys, values, statuses }) in self.batches.iter().enumerate() {
                let number = number as i64;
                self.client.execute(&self.upsert, &[&number, keys, values, statuses]).await?;
            }
            Ok((self.batches.len() * events) as f64 / begun.elapsed().as_secs_f64())
        })
    }
}
