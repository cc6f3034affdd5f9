//! cqrs-es on PostgreSQL (`postgres-es`): the schema of its repository, its own event store, a pool of connections.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use cqrs_es::EventStore;
use cqrs_es::persist::{EventStoreAggregateContext, PersistedEventRepository as _, PersistedEventStore};
use postgres_es::PostgresEventRepository;
use purlin_bench::append::{BEFORE, Dice, STREAMS, key};
use purlin_bench::{Calls, Tally};
use sqlx::PgPool;
use tokio::runtime::Runtime;

use super::{CONNECTIONS, Server};
use crate::store::loading::state;
use crate::store::order::{Order, OrderEvent};
use crate::store::versions::Versions;

/// `db/init.sql` of postgres-es 0.5.0.
const SCHEMA: &str = "
CREATE TABLE events
(
    aggregate_type text                         NOT NULL,
    aggregate_id   text                         NOT NULL,
    sequence       bigint CHECK (sequence >= 0) NOT NULL,
    event_type     text                         NOT NULL,
    event_version  text                         NOT NULL,
    payload        json                         NOT NULL,
    metadata       json                         NOT NULL,
    PRIMARY KEY (aggregate_type, aggregate_id, sequence)
);
CREATE TABLE snapshots
(
    aggregate_type   text                                 NOT NULL,
    aggregate_id     text                                 NOT NULL,
    last_sequence    bigint CHECK (last_sequence >= 0)    NOT NULL,
    current_snapshot bigint CHECK (current_snapshot >= 0) NOT NULL,
    payload          json                                 NOT NULL,
    PRIMARY KEY (aggregate_type, aggregate_id, last_sequence)
);";

/// Every event of it is one of an order without snapshots.
type Plain = PersistedEventStore<PostgresEventRepository, Order<0>>;

/// A database of cqrs-es with as many events as a store has before it is measured.
pub(crate) struct Cqrs<'a> {
    runtime: &'a Runtime,
    pool: PgPool,
    store: Arc<Plain>,
    versions: Versions,
}

impl<'a> Cqrs<'a> {
    pub(crate) fn open(runtime: &'a Runtime, server: &Server, name: &str) -> Result<Self> {
        let pool = runtime.block_on(async {
            let pool = database(server, name).await?;
            insert(&pool, &format!("generate_series(0, {}) AS n", BEFORE - 1), &super::stream_sql(), STREAMS)
                .await?;
            anyhow::Ok(pool)
        })?;
        let store =
            Arc::new(PersistedEventStore::new_event_store(PostgresEventRepository::new(pool.clone())));
        Ok(Self { runtime, pool, store, versions: Versions::new() })
    }

    /// What its `execute` does once the aggregate is loaded and has decided: `EventStore::commit`.
    pub(crate) fn run(&self, callers: usize, events: usize, time: Duration) -> Result<Calls> {
        let caller = |caller: usize, mut tally: Tally| {
            let (store, versions) = (Arc::clone(&self.store), self.versions.clone());
            let mut dice = Dice::new(caller);
            async move {
                while tally.goes_on() {
                    let n = dice.own(caller, callers, STREAMS);
                    let context = EventStoreAggregateContext {
                        aggregate_id: key(n),
                        aggregate: Order::default(),
                        current_sequence: versions.claim(n, events) as usize,
                        current_snapshot: None,
                    };
                    let events = vec![OrderEvent::item(n); events];
                    tally.time(store.commit(events, context, HashMap::new())).await.context("cqrs-es")?;
                }
                Ok(tally)
            }
        };
        Calls::made(self.runtime, callers, time, caller)
    }

    /// Streams and decodes every event, as its `QueryReplay` does; how many. They come without an order among
    /// aggregates.
    pub(crate) fn replay(&self) -> Result<usize> {
        self.runtime.block_on(async {
            let repository = PostgresEventRepository::new(self.pool.clone());
            let mut stream = repository.stream_all_events::<Order<0>>().await?;
            let mut count = 0;
            while let Some(event) = stream.next::<Order<0>>(&[]).await {
                std::hint::black_box(event?.payload);
                count += 1;
            }
            Ok(count)
        })
    }
}

/// Aggregates of given lengths, with a snapshot ten events before their end.
pub(crate) struct Loads<'a> {
    runtime: &'a Runtime,
    plain: Plain,
    snapshots: PersistedEventStore<PostgresEventRepository, Order<100>>,
}

impl<'a> Loads<'a> {
    /// One aggregate of each length, whose number is its length.
    pub(crate) fn open(runtime: &'a Runtime, server: &Server, lengths: &[u64]) -> Result<Self> {
        let pool = runtime.block_on(async {
            let pool = database(server, "cqrs_loads").await?;
            for length in lengths {
                let series = format!("generate_series(0, {}) AS n", length - 1);
                insert(&pool, &series, &format!("'{}'", key(*length)), 1).await?;
                if let Some(folded) = length.checked_sub(10).filter(|folded| *folded >= 100) {
                    let snapshot = "INSERT INTO snapshots VALUES('order', $1, $2, $3, $4)";
                    let state = serde_json::to_value(state(folded))?;
                    let (folded, number) = (folded as i64, (folded / 100) as i64);
                    let snapshot = sqlx::query(snapshot).bind(key(*length)).bind(folded).bind(number);
                    snapshot.bind(state).execute(&pool).await?;
                }
            }
            anyhow::Ok(pool)
        })?;
        let repository = || PostgresEventRepository::new(pool.clone());
        let plain = PersistedEventStore::new_event_store(repository());
        let snapshots = PersistedEventStore::new_snapshot_store(repository(), 100);
        Ok(Self { runtime, plain, snapshots })
    }

    /// Loads the aggregate of a length; how many items it has.
    pub(crate) fn load(&self, length: u64, snapshot: bool) -> Result<i64> {
        let id = key(length);
        self.runtime.block_on(async {
            Ok(match snapshot {
                false => self.plain.load_aggregate(&id).await?.aggregate.items,
                true => self.snapshots.load_aggregate(&id).await?.aggregate.items,
            })
        })
    }
}

/// A new database with the tables of a repository.
async fn database(server: &Server, name: &str) -> Result<PgPool> {
    server.client().await?.batch_execute(&format!("CREATE DATABASE {name}")).await?;
    let pool = server.pool(name, CONNECTIONS).await?;
    sqlx::raw_sql(SCHEMA).execute(&pool).await?;
    Ok(pool)
}

/// Inserts an event for each `n` of a series; a stream's events are `streams` apart.
async fn insert(pool: &PgPool, series: &str, id: &str, streams: u64) -> Result<()> {
    let event = super::event_json(id);
    let insert = format!(
        "INSERT INTO events SELECT 'order', {id}, n / {streams} + 1, 'item-added', '1', ({event})::json, '{{}}' \
         FROM {series}; ANALYZE events"
    );
    sqlx::raw_sql(&insert).execute(pool).await?;
    Ok(())
}
