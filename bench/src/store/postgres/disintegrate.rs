//! disintegrate on PostgreSQL, with its condition on: nothing for this order behind the last event that is known.
//!
//! Its own tables and functions, made by its own migrator. One of them has a number that PostgreSQL before 16 does not
//! read (`0xFFFFFFFF`); there the number is written as a decimal, and nothing else is changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use disintegrate::serde::json::Json;
use disintegrate::{Event, EventStore, StreamItem, query};
use disintegrate_postgres::{Error, PgEventId, PgEventStore};
use futures_util::StreamExt;
use purlin_bench::append::{BEFORE, Dice, STREAMS, key};
use purlin_bench::{Calls, Tally};
use tokio::runtime::Runtime;

use super::{CONNECTIONS, Server};
use crate::store::order::OrderEvent;

type Store = PgEventStore<OrderEvent, Json<OrderEvent>>;

/// A database of disintegrate with as many events as a store has before it is measured.
pub(crate) struct Disintegrate<'a> {
    runtime: &'a Runtime,
    store: Store,
    /// The last event of each order.
    last: Arc<Vec<AtomicI64>>,
}

impl<'a> Disintegrate<'a> {
    /// None, and said, when it cannot be set up on this server.
    pub(crate) fn open(runtime: &'a Runtime, server: &Server, name: &str) -> Result<Option<Self>> {
        match runtime.block_on(open(server, name)) {
            Ok(store) => {
                let first = (BEFORE - STREAMS) as PgEventId + 1;
                let last = (first..).take(STREAMS as usize).map(AtomicI64::new).collect::<Vec<_>>();
                Ok(Some(Self { runtime, store, last: last.into() }))
            }
            Err(error) => {
                eprintln!("disintegrate cannot be set up here, and is left out: {error:#}");
                Ok(None)
            }
        }
    }

    /// Appends of so many callers, each for orders of its own; a conflict (none of them is a true one) is tried again.
    /// And how many of those there were a second.
    pub(crate) fn run(&self, callers: usize, events: usize, time: Duration) -> Result<(Calls, f64)> {
        let conflicts = Arc::new(AtomicU64::new(0));
        let caller = |caller: usize, mut tally: Tally| {
            let (store, last, conflicts) =
                (self.store.clone(), Arc::clone(&self.last), Arc::clone(&conflicts));
            let mut dice = Dice::new(caller);
            async move {
                while tally.goes_on() {
                    let n = dice.own(caller, callers, STREAMS);
                    let last = &last[n as usize];
                    let version =
                        tally.time(append(&store, n, events, last.load(Ordering::Relaxed), &conflicts));
                    last.store(version.await?, Ordering::Relaxed);
                }
                Ok(tally)
            }
        };
        let calls = Calls::made(self.runtime, callers, time, caller)?;
        let conflicts = conflicts.load(Ordering::Relaxed) as f64 * calls.rate / calls.count.max(1) as f64;
        Ok((calls, conflicts))
    }

    /// Streams and decodes every event; how many.
    pub(crate) fn replay(&self) -> Result<usize> {
        self.runtime.block_on(async {
            let query = query!(OrderEvent);
            let mut stream = self.store.stream(&query);
            let mut count = 0;
            while let Some(item) = stream.next().await {
                if let StreamItem::Event(event) = item? {
                    std::hint::black_box(event);
                    count += 1;
                }
            }
            Ok(count)
        })
    }
}

/// Appends until there is no conflict; the id of the last event.
async fn append(
    store: &Store,
    n: u64,
    events: usize,
    version: PgEventId,
    conflicts: &AtomicU64,
) -> Result<PgEventId> {
    loop {
        let order = key(n);
        let query = query!(OrderEvent; order_id == order);
        match store.append(vec![OrderEvent::item(n); events], query, version).await {
            Ok(events) => return events.last().map(|event| event.id()).context("no event was appended"),
            Err(error) if is_conflict(&error) => conflicts.fetch_add(1, Ordering::Relaxed),
            Err(error) => return Err(error).context("disintegrate"),
        };
    }
}

/// Also one that PostgreSQL tells before the end of the transaction.
fn is_conflict(error: &Error) -> bool {
    match error {
        Error::Concurrency => true,
        Error::Database(sqlx::Error::Database(error)) => error.code().is_some_and(|code| code == "40001"),
        _ => false,
    }
}

async fn open(server: &Server, name: &str) -> Result<Store> {
    // What a function says is then not looked at before it is called.
    let client = server.client().await?;
    client.batch_execute(&format!("CREATE DATABASE {name}")).await?;
    client.batch_execute(&format!("ALTER DATABASE {name} SET check_function_bodies = off")).await?;
    let pool = server.pool(name, CONNECTIONS).await?;
    let store = Store::try_new(pool.clone(), Json::default()).await?;
    let mend = "DO $$ BEGIN EXECUTE replace(pg_get_functiondef('event_store_begin_epoch'::regproc), \
                '0xFFFFFFFF', '4294967295'); END $$";
    sqlx::raw_sql(mend).execute(&pool).await?;
    let (key, kind) = (super::stream_sql(), OrderEvent::item(0).name());
    let event = super::event_json(&key);
    let fill = format!(
        "INSERT INTO event(event_type, payload, order_id) SELECT '{kind}', convert_to({event}, 'UTF8'), {key} \
         FROM generate_series(0, {}) AS n ORDER BY n; ANALYZE event",
        BEFORE - 1
    );
    sqlx::raw_sql(&fill).execute(&pool).await?;
    Ok(store)
}
