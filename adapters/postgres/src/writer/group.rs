//! A group of commits on its way through one transaction.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use purlin::message::Uuid;
use tokio_postgres::Error;

use super::decision::Decision;
use super::heads::Heads;
use super::{Outcome, Statements};
use crate::link::Session;
use crate::shared::{Shared, Tables};

/// After so many transactions the rows of earlier ones are removed.
const SWEEP: i64 = 64;

/// After so many, those of writers that are gone; a writer that is not has a row that is younger than a day.
pub(super) const SWEEP_DEAD: i64 = 4096;

/// Microseconds after which a row is one of a writer that is gone.
pub(super) const DEAD: i64 = 24 * 3600 * 1_000_000;

/// Why a group was not committed, or is not known to be.
pub(super) enum Failed {
    /// The collections have been changed by another process. Nothing was written.
    Stale,
    /// Nothing was sent that could have been committed.
    NotSent(Error),
    /// The server refused: the transaction is rolled back.
    Refused(Error),
    /// The connection was lost while the transaction was on its way: what is true if it happened.
    Unknown(Box<Done>, Error),
}

/// What is true when the transaction happened.
pub(super) struct Done {
    /// The transaction's number, and when its row says that it happened.
    pub(super) batch: i64,
    pub(super) at: i64,
    /// Whether any commit was applied.
    pub(super) applied: bool,
    pub(super) position: u64,
    pub(super) revision: u64,
    pub(super) outcomes: Vec<Outcome>,
}

/// One transaction.
pub(super) struct Transaction {
    pub(super) sql: Rc<Statements>,
    pub(super) shared: Arc<Shared>,
    pub(super) session: Arc<Session>,
    pub(super) tables: Arc<Tables>,
    pub(super) writer: Uuid,
    pub(super) batch: i64,
    /// The rows of those before this one are gone.
    pub(super) swept: i64,
    /// The last one of which it is known that it happened: the rows of those before it are not needed any more, but its own
    /// has the last revision, should this one be withdrawn.
    pub(super) landed: i64,
    /// The number of the one that it follows, if it is not known yet that it happened.
    pub(super) follows: Option<i64>,
    /// Whether it removes the rows of writers that are gone, if it asks.
    pub(super) sweeps_dead: bool,
    pub(super) heads: Rc<RefCell<Heads>>,
    /// Whether it may guess what is not known here.
    pub(super) trusts: bool,
}

impl Transaction {
    /// What is true if it happens.
    pub(super) fn done(&self, decision: Decision<'_>) -> Done {
        let (position, revision) = (decision.position(), decision.revision());
        let at = decision.at().as_microsecond();
        let (applied, outcomes) = (decision.applied, decision.outcomes);
        Done { batch: self.batch, at, applied, position, revision, outcomes }
    }

    /// Whether it removes the rows of those before it.
    pub(super) fn sweeps(&self) -> bool {
        self.landed - self.swept >= SWEEP
    }
}
