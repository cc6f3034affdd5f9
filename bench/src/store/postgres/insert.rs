//! The same rows into the same schema without a store: no lock, no check, no outcome that survives a lost connection.

use std::time::{Duration, Instant};

use anyhow::Result;
use purlin::message::{Uuid, new_id};
use purlin_bench::append::{BEFORE, KIND, STREAMS, key, payload};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, Statement};

use super::Server;

const COLUMNS: &str = "position, stream, version, kind, id, at, schema, public, meta, data";

/// A table as the store's, in a schema of its own.
pub(crate) struct Insert<'a> {
    runtime: &'a Runtime,
    client: Client,
    one: Statement,
    many: Statement,
    position: std::cell::Cell<i64>,
}

/// The columns of a batch that differ from row to row.
#[derive(Default)]
struct Rows {
    positions: Vec<i64>,
    streams: Vec<String>,
    ids: Vec<Uuid>,
    data: Vec<String>,
}

impl<'a> Insert<'a> {
    /// A copy of the events' table of the store `name`, with as many rows as a store has before it is measured.
    pub(crate) fn open(runtime: &'a Runtime, server: &Server, name: &str) -> Result<Self> {
        let (client, one, many) = runtime.block_on(async {
            let client = server.client().await?;
            let table =
                format!("CREATE SCHEMA raw; CREATE TABLE raw._event (LIKE {name}._hot INCLUDING ALL)");
            client.batch_execute(&table).await?;
            let one = format!(
                "INSERT INTO raw._event({COLUMNS}) VALUES($1, $2, $3, $4, $5, $6, 1, false, NULL, $7)"
            );
            let many = format!(
                "INSERT INTO raw._event({COLUMNS}) SELECT p, s, p, $1, i, $2, 1, false, NULL, d \
                 FROM unnest($3::bigint[], $4::text[], $5::uuid[], $6::text[]) AS u(p, s, i, d)"
            );
            let (one, many) = (client.prepare(&one).await?, client.prepare(&many).await?);
            anyhow::Ok((client, one, many))
        })?;
        let insert = Self { runtime, client, one, many, position: std::cell::Cell::new(0) };
        for _ in 0..BEFORE / 1000 {
            runtime.block_on(insert.batch(1000))?;
        }
        Ok(insert)
    }

    /// Rows a second, one a transaction.
    pub(crate) fn one_by_one(&self, time: Duration) -> Result<f64> {
        self.repeat(time, 1, async || {
            let rows = self.rows(1);
            let (position, at) = (rows.positions[0], 1_i64 << 50);
            let (stream, id, data) = (&rows.streams[0], rows.ids[0], &rows.data[0]);
            self.client.execute(&self.one, &[&position, stream, &position, &KIND, &id, &at, data]).await?;
            Ok(())
        })
    }

    /// Rows a second, so many a transaction.
    pub(crate) fn batched(&self, time: Duration, batch: f64) -> Result<f64> {
        let batch = batch.round().max(1.0) as usize;
        self.repeat(time, batch, || self.batch(batch))
    }

    fn repeat<F>(&self, time: Duration, rows: usize, mut insert: impl FnMut() -> F) -> Result<f64>
    where
        F: Future<Output = Result<()>>,
    {
        self.runtime.block_on(async {
            let (begun, mut done) = (Instant::now(), 0);
            while begun.elapsed() < time {
                insert().await?;
                done += rows;
            }
            Ok(done as f64 / begun.elapsed().as_secs_f64())
        })
    }

    async fn batch(&self, len: usize) -> Result<()> {
        let Rows { positions, streams, ids, data } = self.rows(len);
        let at = 1_i64 << 50;
        self.client.execute(&self.many, &[&KIND, &at, &positions, &streams, &ids, &data]).await?;
        Ok(())
    }

    /// The next rows, of streams in random order.
    fn rows(&self, len: usize) -> Rows {
        let mut rows = Rows::default();
        for _ in 0..len {
            let position = self.position.get() + 1;
            self.position.set(position);
            let n = position.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15) % STREAMS;
            rows.positions.push(position);
            rows.streams.push(format!("order-{}", key(n)));
            rows.ids.push(new_id());
            rows.data.push(payload(n));
        }
        rows
    }
}
