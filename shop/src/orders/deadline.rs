//! The deadlines of choreographed checkouts: nobody conducts them, so somebody must look at the clock.

use std::time::Duration;

use purlin::aggregate::{Repository, UpdateError};
use purlin::message::{Clock, Timestamp, Uuid};
use purlin::store::{Commit, CommitError, Field, ReadError, Record, Revision, Row, Store};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::order::{Order, OrderError};

/// How often the records are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Until when a choreographed checkout is to be done. It is deleted in the commit that ends the order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Deadline {
    /// Which order.
    pub order_id: Uuid,
    /// Until when.
    pub deadline: Timestamp,
    /// `running` before, `stuck` after.
    pub state: String,
    /// Why it is stuck.
    pub reason: Option<String>,
}

impl Row for Deadline {
    const COLLECTION: &'static str = "checkout_deadlines";
    const FIELDS: &'static [Field] = &[Field::text("state")];
}

/// Looks after deadlines; cheap to clone.
#[derive(Clone)]
pub struct Deadlines {
    store: Store,
    clock: Clock,
    orders: Repository<Order>,
    patience: Duration,
}

impl Deadlines {
    /// The deadlines of the orders in a store.
    pub fn new(store: &Store, clock: &Clock, orders: &Repository<Order>, patience: Duration) -> Self {
        Self { store: store.clone(), clock: clock.clone(), orders: orders.clone(), patience }
    }

    /// Gives a checkout its deadline.
    pub fn begin(&self, commit: Commit, order_id: Uuid, now: Timestamp) -> Commit {
        let deadline = now.checked_add(self.patience).unwrap_or(Timestamp::MAX);
        let row = Deadline { order_id, deadline, state: "running".into(), reason: None };
        commit.put_expecting(order_id.to_string(), &row, Revision::Absent, Some(deadline))
    }

    /// Gives overdue checkouts up, until told to stop.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ReadError> {
        while !shutdown.is_cancelled() {
            for record in self.store.due::<Deadline>(self.clock.now(), 100).await? {
                if let Err(error) = self.give_up(&record).await {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        order = record.key,
                        error,
                        "an overdue checkout could not be given up yet"
                    );
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        Ok(())
    }

    /// Wants an overdue order to end, and lists it as stuck until everything is given back.
    async fn give_up(&self, record: &Record) -> Result<(), UpdateError<OrderError>> {
        let read = |error| UpdateError::Load(purlin::aggregate::LoadError::Read(error));
        let row: Deadline = record.decode().map_err(read)?;
        let reason = "the checkout was not done in time";
        let given_up = self.orders.change(row.order_id, |order| match order.cancel(row.order_id, reason) {
            // Over, and so is its deadline.
            Err(OrderError::Shipped | OrderError::NotFound) => Ok(None),
            decided => decided,
        });
        let change = given_up.await?;
        let is_over = !change.root.is_open();
        let commit = Commit::new().append_all(change.append);
        let commit = if is_over {
            commit.delete::<Deadline>(&record.key, Revision::Exact(record.revision))
        } else {
            let reason = Some(format!("{reason}; what was taken for it is being given back"));
            let row = Deadline { state: "stuck".into(), reason, ..row };
            commit.put_expecting(&record.key, &row, Revision::Exact(record.revision), None)
        };
        match self.store.commit(commit).await {
            // It has changed meanwhile, and is looked at again.
            Ok(_) | Err(CommitError::Conflict(_)) => Ok(()),
            Err(error) => Err(UpdateError::Commit(error)),
        }
    }
}

/// Ends a checkout's deadline.
pub fn over(commit: Commit, order_id: Uuid) -> Commit {
    commit.delete::<Deadline>(order_id.to_string(), Revision::Any)
}
