//! Events a second that a following view folds into its rows, 10,000 orders in random order.
//!
//! The limit upserts the same rows, folded and encoded beforehand, into the same table, in transactions of as many
//! events as a view takes at once, without reading what was there before and without a checkpoint.
//!
//! `threads`: the same on as many threads as pay, beside one thread; and with a fold that works 20 us for each event.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use purlin::message::Envelope;
use purlin::projection::{Projection, View};
use purlin::store::{Commit, Expected, Field, Recorded, Row, Store, StreamId};
use purlin_bench::append::{Dice, KIND, key, payload};
use purlin_bench::{Comparison, Figure, Reading, Session, Unit};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::order::{Order, OrderEvent};
use super::{BENCH, postgres, sqlite};

/// Orders, and so rows.
const ORDERS: u64 = 10_000;
/// What a dear fold costs.
const DEAR: Duration = Duration::from_micros(20);
/// Events of one transaction of the limit: as many as a view folds into one commit.
const BATCH: usize = 256;
/// Events that a view is behind when it begins.
const BEHIND: usize = 100 * BATCH;

/// A row of the view.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct OrderRow {
    status: String,
    order: Order<0>,
}

impl Row for OrderRow {
    const COLLECTION: &'static str = "order_view";
    const FIELDS: &'static [Field] = &[Field::text("status")];
}

/// Folds orders, and works as long for each of them as is said.
struct Orders {
    labour: Duration,
}

impl Projection for Orders {
    const NAME: &'static str = "order_view";
    const CATEGORY: &'static str = "order";
    type Event = OrderEvent;
    type Row = OrderRow;

    fn apply(&self, row: Option<OrderRow>, event: &OrderEvent, _: &Recorded) -> Option<OrderRow> {
        if !self.labour.is_zero() {
            let begun = Instant::now();
            while begun.elapsed() < self.labour {
                std::hint::spin_loop();
            }
        }
        let mut row = row.unwrap_or_default();
        row.take(event);
        Some(row)
    }
}

impl OrderRow {
    fn take(&mut self, event: &OrderEvent) {
        self.order.fold(event);
        self.status = if self.order.submitted { "submitted".into() } else { "open".into() };
    }
}

/// What a transaction of the limit upserts.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) keys: Vec<String>,
    pub(crate) values: Vec<String>,
    pub(crate) statuses: Vec<String>,
}

pub(crate) fn run(session: &mut Session, runtime: &Runtime, server: &mut postgres::Postgres) -> Result<()> {
    for (name, labour) in
        [("projection sqlite threads", Duration::ZERO), ("projection sqlite threads 20 us", DEAR)]
    {
        if session.wants(name) {
            let folder = session.folder("threads")?;
            let following = |file: &str, one_thread: bool| {
                let store = runtime.block_on(purlin_sqlite::open(folder.join(file)))?;
                Following::new(runtime, store, labour, one_thread)
            };
            let (ours, one) = (following("ours.db", false)?, following("one.db", true)?);
            let figure = Figure::new(BENCH.name, name, Unit::PerSecond("events"))
                .ours(|| ours.follow())
                .peer(|| one.follow());
            session.figure(name, figure)?;
            ours.close();
            one.close();
        }
    }
    if session.wants("projection sqlite") {
        let folder = session.folder("projection")?;
        let file = folder.join("ours.db");
        let store = runtime.block_on(purlin_sqlite::open(&file))?;
        let ours = Following::new(runtime, store, Duration::ZERO, false)?;
        let mut raw = sqlite::Upserts::open(&folder, &file, OrderRow::COLLECTION, batches()?)?;
        let comparison = Comparison::new(BENCH.name, Unit::PerSecond("events"), || ours.follow());
        let limit = || raw.run(BATCH).map(Reading::from);
        session.comparison("projection sqlite", comparison.limit("projection sqlite", limit))?;
        ours.close();
    }
    if session.wants("projection postgres") {
        let Some(server) = server.server(session)? else { return Ok(()) };
        let store = runtime.block_on(server.store("projection"))?;
        let ours = Following::new(runtime, store, Duration::ZERO, false)?;
        let raw = postgres::Upserts::open(runtime, server, "projection", OrderRow::COLLECTION, batches()?)?;
        let comparison = Comparison::new(BENCH.name, Unit::PerSecond("events"), || ours.follow());
        let limit = || raw.run(BATCH).map(Reading::from);
        session.comparison("projection postgres", comparison.limit("projection postgres", limit))?;
        ours.close();
    }
    Ok(())
}

/// The rows of as many events as a view is behind, in batches.
fn batches() -> Result<Vec<Batch>> {
    let (mut dice, mut rows) = (Dice::new(0), BTreeMap::<String, OrderRow>::new());
    let mut batches = Vec::new();
    for _ in 0..BEHIND / BATCH {
        let mut touched = BTreeMap::new();
        for _ in 0..BATCH {
            let n = dice.below(ORDERS);
            let row = rows.entry(key(n)).or_default();
            row.take(&OrderEvent::item(n));
            touched.insert(key(n), row.clone());
        }
        let mut batch = Batch::default();
        for (key, row) in touched {
            batch.keys.push(key);
            batch.values.push(serde_json::to_string(&row)?);
            batch.statuses.push(row.status);
        }
        batches.push(batch);
    }
    Ok(batches)
}

/// A view over a store, run when there is something for it to do.
struct Following<'a> {
    runtime: &'a Runtime,
    store: Store,
    view: View<Orders>,
}

impl<'a> Following<'a> {
    fn new(runtime: &'a Runtime, store: Store, labour: Duration, one_thread: bool) -> Result<Self> {
        let view = View::new(Orders { labour }, &store);
        let view = if one_thread { view.threads(NonZeroUsize::MIN) } else { view };
        let following = Self { runtime, store, view };
        // Makes the table and all rows.
        following.follow()?;
        Ok(following)
    }

    /// Appends what the view has to fold, and measures how fast it does.
    fn follow(&self) -> Result<Reading> {
        self.runtime.block_on(async {
            self.append().await?;
            let (shutdown, begun) = (CancellationToken::new(), Instant::now());
            #[expect(
                clippy::disallowed_methods,
                reason = "a measurement has no supervisor; it waits for the end"
            )]
            let running = tokio::spawn(self.view.run(shutdown.clone()));
            self.view.wait_for(self.store.head(), Duration::from_secs(120)).await?;
            let rate = BEHIND as f64 / begun.elapsed().as_secs_f64();
            shutdown.cancel();
            running.await.context("the view panicked")??;
            Ok(rate.into())
        })
    }

    async fn append(&self) -> Result<()> {
        let mut dice = Dice::new(0);
        for _ in 0..BEHIND / BATCH {
            let mut commit = Commit::new();
            for _ in 0..BATCH {
                let n = dice.below(ORDERS);
                let stream = StreamId::new("order", key(n))?;
                commit = commit.append(stream, Expected::Any, [Envelope::raw(KIND, payload(n))]);
            }
            self.store.commit(commit).await?;
        }
        Ok(())
    }

    fn close(self) {
        self.runtime.block_on(self.store.close());
    }
}
