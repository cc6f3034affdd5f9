//! A group of commits on its way through one transaction.

use std::sync::Arc;

use purlin::message::Uuid;
use tokio_postgres::Error;

use super::decision::{Asked, Decision};
use super::heads::Heads;
use super::lean::{Lean, Tried};
use super::{Outcome, Queued, Statements, Writer};
use crate::link::Session;
use crate::shared::Tables;

/// After so many transactions the rows of earlier ones are removed.
const SWEEP: i64 = 64;

/// After so many, those of writers that are gone; a writer that is not has a row that is younger than a day.
const SWEEP_DEAD: i64 = 4096;

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
    /// The transaction's number.
    pub(super) batch: i64,
    /// Whether any commit was applied.
    pub(super) applied: bool,
    pub(super) position: u64,
    pub(super) revision: u64,
    pub(super) outcomes: Vec<Outcome>,
}

impl Writer {
    /// Sends a group; those who wait meanwhile are refused when it takes too long.
    pub(super) async fn send(&mut self, session: &Arc<Session>, group: &[Queued]) -> Result<Done, Failed> {
        if self.lean.as_ref().is_none_or(|lean| !lean.is_of(session)) {
            // Another session may be one of another server, which has not all that the one before had.
            self.heads.forget();
            let made = self.waiting.beside(Lean::make(session, &self.sql)).await;
            self.lean = Some(made.map_err(Failed::NotSent)?);
        }
        let tables = self.shared.tables();
        let now = self.clock.now();
        let asked = Asked::by(group.iter().map(|queued| &queued.commit), &tables);
        // What tags others have written is not known here, and nobody pays for tags who has none.
        let rare = asked.tags || asked.dated || !asked.criteria.first.is_empty();
        let lean = self.lean.as_ref().filter(|_| !rare).and_then(Lean::calls);
        let mut transaction = Transaction {
            sql: &self.sql,
            session,
            tables: &tables,
            writer: self.shared.writer,
            batch: self.batch,
            swept: self.swept,
            records: asked.records,
            heads: &mut self.heads,
        };
        let done = self.waiting.beside(async {
            transaction.batch += 1;
            if let Some(calls) = lean
                && !transaction.sweeps_dead()
                && let Some(guess) = transaction.heads.guess(&asked, now)
            {
                match transaction.lean(calls, group, guess).await? {
                    Tried::Done(done) => return Ok(done),
                    Tried::Wrong => transaction.batch += 1,
                }
            }
            transaction.ask_and_write(group, &asked, now).await
        });
        let done = done.await;
        (self.batch, self.swept) = (transaction.batch, transaction.swept);
        if done.is_err() {
            self.heads.forget();
            // It may be the function that is at fault.
            self.lean = None;
        }
        done
    }
}

/// One transaction.
pub(super) struct Transaction<'a> {
    pub(super) sql: &'a Statements,
    pub(super) session: &'a Session,
    pub(super) tables: &'a Tables,
    pub(super) writer: Uuid,
    pub(super) batch: i64,
    pub(super) swept: i64,
    /// Whether it has to do with records.
    pub(super) records: bool,
    pub(super) heads: &'a mut Heads,
}

impl Transaction<'_> {
    /// What is true if it happens.
    pub(super) fn done(&self, decision: Decision<'_>) -> Done {
        let (position, revision) = (decision.position(), decision.revision());
        let (applied, outcomes) = (decision.applied, decision.outcomes);
        Done { batch: self.batch, applied, position, revision, outcomes }
    }

    /// Whether it removes the rows of those before it.
    pub(super) fn sweeps(&self) -> bool {
        self.batch - self.swept >= SWEEP
    }

    /// Whether it removes the rows of writers that are gone.
    pub(super) fn sweeps_dead(&self) -> bool {
        self.batch % SWEEP_DEAD == 1
    }
}
