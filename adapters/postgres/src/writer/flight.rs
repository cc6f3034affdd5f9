//! Groups on their way: a second one is sent before the server has answered the first.
//!
//! While the server writes a group and waits for its disk, the next one is decided and sent, and the server goes on with
//! it at once. It is decided as if the first had happened; if that has not, the server finds the revision that the second
//! relies on nowhere, and writes nothing. So a failure of the first costs the second only time.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::{MaybeDone, maybe_done};
use futures_util::poll;
use purlin::message::Timestamp;

use super::group::{Failed, SWEEP_DEAD, Transaction};
use super::lean::{Calls, Lean, Tried};
use super::{Queued, Writer, decision::Asked};
use crate::error::is_stale;
use crate::link::Session;

/// Groups that are on their way at once at the most.
const AHEAD: usize = 2;

/// A group on its way.
pub(super) struct Flight {
    session: Arc<Session>,
    batch: i64,
    commits: usize,
    landing: Landing,
}

/// What tells how it went.
type Landing = Pin<Box<MaybeDone<Pin<Box<dyn Future<Output = Landed>>>>>>;

/// A group of which it is known how it went.
pub(super) struct Landed {
    transaction: Transaction,
    pub(super) group: Vec<Queued>,
    pub(super) came: Result<Tried, Failed>,
}

/// What comes next while groups are on their way.
enum Next {
    Landed(Box<Landed>),
    Joined,
}

async fn fly(transaction: Transaction, calls: Calls, group: Vec<Queued>, now: Timestamp) -> Landed {
    let came = transaction.lean(&calls, &group, now).await;
    Landed { transaction, group, came }
}

impl Writer {
    /// Whether there is something to take; what is on its way is attended to until then. With nothing on its way it is
    /// false once there will never be anything.
    pub(super) async fn attend(&mut self) -> bool {
        while let Some(flight) = self.flights.front() {
            // One that is much smaller than the one before would cost its callers a wait for the disk of their own.
            let enough = flight.commits.max(1);
            let may_follow = self.flights.len() < AHEAD && !flight.session.is_gone();
            match self.next(may_follow.then_some(enough)).await {
                Next::Joined => return true,
                Next::Landed(landed) => self.land(*landed).await,
            }
        }
        self.waiting.arrive().await
    }

    async fn next(&mut self, enough: Option<usize>) -> Next {
        loop {
            let Some(flight) = self.flights.front_mut() else { return Next::Joined };
            let landing = &mut flight.landing;
            let next = self.waiting.gather_beside(landing.as_mut(), enough).await;
            match next {
                Some(true) => {
                    let landed =
                        self.flights.pop_front().and_then(|mut flight| flight.landing.as_mut().take_output());
                    if let Some(landed) = landed {
                        return Next::Landed(Box::new(landed));
                    }
                }
                Some(false) => return Next::Joined,
                None => {}
            }
        }
    }

    /// The session of the groups that are on their way, if there are any.
    pub(super) fn flying(&self) -> Option<Arc<Session>> {
        self.flights.front().map(|flight| Arc::clone(&flight.session))
    }

    /// Sends a group. If that can be done by what is known here, it is on its way afterwards; if not, it comes once nothing
    /// else is.
    pub(super) async fn depart(&mut self, session: &Arc<Session>, group: Vec<Queued>) {
        // There is nothing on its way then.
        if group.iter().any(Queued::changes_collections) {
            return self.ask(session, group).await;
        }
        let has_lean = self.lean.as_ref().is_some_and(|lean| lean.is_of(session));
        let sweeps_dead = self.batch >= self.dead_at;
        if (!has_lean || sweeps_dead) && !self.flights.is_empty() {
            return self.wait_behind(group).await;
        }
        if !has_lean {
            // Another session may be one of another server, which has not all that the one before had.
            self.heads.borrow_mut().forget();
            match self.waiting.beside(Lean::make(session, &self.sql)).await {
                Ok(lean) => self.lean = Some(lean),
                Err(error) => return self.failed(session, group, Failed::NotSent(error)).await,
            }
        }
        let calls = self.lean.as_ref().and_then(Lean::calls).filter(|_| !sweeps_dead);
        let Some(calls) = calls.cloned() else { return self.ask(session, group).await };
        let transaction = self.transaction(session);
        if let Err(error) = self.waiting.beside(transaction.prepare_records(&group)).await {
            let failed = if is_stale(&error) { Failed::Stale } else { Failed::NotSent(error) };
            return self.land_early(Landed { transaction, group, came: Err(failed) }).await;
        }
        let (batch, commits) = (transaction.batch, group.len());
        let (sweeps, landed) = (transaction.sweeps(), transaction.landed);
        let flight: Pin<Box<dyn Future<Output = Landed>>> =
            Box::pin(fly(transaction, calls, group, self.clock.now()));
        let mut landing: Landing = Box::pin(maybe_done(flight));
        // It is sent now, as all that it needs is prepared, so that the next one comes behind it.
        let _ = poll!(landing.as_mut());
        match landing.as_mut().take_output() {
            None => {
                if sweeps {
                    self.swept = landed;
                }
                self.flights.push_back(Flight { session: Arc::clone(session), batch, commits, landing });
            }
            Some(early) => self.land_early(early).await,
        }
    }

    /// A group was not sent, or not whole. Behind others it has to wait for them; what is wrong is met again then.
    async fn land_early(&mut self, early: Landed) {
        if self.flights.is_empty() {
            return self.land(early).await;
        }
        let Landed { transaction, group, came } = early;
        if let Err(Failed::NotSent(_)) = came {
            self.waiting.beside(Self::roll_back(&transaction.session)).await;
            self.heads.borrow_mut().retract(self.revision, streams(group.iter()));
        }
        self.wait_behind(group).await;
    }

    /// Lets a group wait until nothing is on its way; it is the next one then.
    async fn wait_behind(&mut self, group: Vec<Queued>) {
        self.waiting.put_back(group, false);
        while !self.flights.is_empty() {
            if let Next::Landed(landed) = self.next(None).await {
                self.land(*landed).await;
            }
        }
    }

    /// A transaction with the next number.
    fn transaction(&mut self, session: &Arc<Session>) -> Transaction {
        self.batch += 1;
        Transaction {
            sql: Rc::clone(&self.sql),
            shared: Arc::clone(&self.shared),
            session: Arc::clone(session),
            tables: self.shared.tables(),
            writer: self.shared.writer,
            batch: self.batch,
            swept: self.swept,
            landed: self.landed,
            follows: self.flights.back().map(|flight| flight.batch),
            sweeps_dead: self.batch > self.dead_at,
            heads: Rc::clone(&self.heads),
            trusts: self.doubt.is_over(),
        }
    }

    /// It is known how the first of those on their way went. If it did not happen, those behind it wait again.
    async fn land(&mut self, landed: Landed) {
        let Landed { transaction, group, came } = landed;
        let failed = match came {
            Ok(Tried::Done { done, guesses }) => {
                self.doubt.guessed(guesses, true);
                return self.happened(group, done);
            }
            Ok(Tried::Wrong { guesses }) => {
                self.doubt.guessed(guesses, false);
                None
            }
            Ok(Tried::Doubted) => {
                self.doubt.wane();
                None
            }
            Ok(Tried::Unsent) => None,
            Err(failed) => Some(failed),
        };
        // What was sent behind it relies on it.
        let mut behind = Vec::new();
        while let Some(mut flight) = self.flights.pop_front() {
            self.waiting.beside(flight.landing.as_mut()).await;
            behind.extend(flight.landing.as_mut().take_output());
        }
        let all = std::iter::once(&group).chain(behind.iter().map(|landed| &landed.group)).flatten();
        self.heads.borrow_mut().retract(self.revision, streams(all));
        // What it was to remove may be there still.
        self.swept = transaction.swept;
        let session = transaction.session;
        let again = match failed {
            None => Some(group),
            Some(failed) => {
                self.lean = None;
                self.put_back_all(&session, behind.drain(..)).await;
                self.failed(&session, group, failed).await;
                None
            }
        };
        self.put_back_all(&session, behind.into_iter()).await;
        if let Some(group) = again {
            self.ask(&session, group).await;
        }
    }

    /// Lets groups wait again that relied on one that did not happen; what became of those that were lost on their way
    /// is found out.
    async fn put_back_all(
        &mut self,
        session: &Arc<Session>,
        behind: impl DoubleEndedIterator<Item = Landed>,
    ) {
        for Landed { group, came, .. } in behind.rev() {
            match came {
                Ok(Tried::Done { done, .. }) => self.happened(group, done),
                Err(failed @ Failed::Unknown(..)) => self.failed(session, group, failed).await,
                Err(Failed::NotSent(_)) => {
                    // A part of it may have been sent.
                    self.waiting.beside(Self::roll_back(session)).await;
                    self.waiting.put_back(group, false);
                }
                Ok(Tried::Wrong { .. } | Tried::Unsent | Tried::Doubted) | Err(_) => {
                    self.waiting.put_back(group, false);
                }
            }
        }
    }

    /// Sends a group that is decided by what the server says.
    async fn ask(&mut self, session: &Arc<Session>, group: Vec<Queued>) {
        let mut transaction = self.transaction(session);
        let now = self.clock.now();
        let asked = Asked::by(group.iter().map(|queued| &queued.commit), &transaction.tables);
        let done = self.waiting.beside(transaction.ask_and_write(&group, &asked, now)).await;
        self.swept = transaction.swept;
        match done {
            Ok(done) => {
                drop(asked);
                if done.applied && group.iter().any(Queued::changes_collections) {
                    self.learn_collections(session).await;
                }
                if transaction.sweeps_dead && done.applied {
                    self.dead_at = transaction.batch + SWEEP_DEAD;
                }
                self.happened(group, done);
            }
            Err(failed) => {
                drop(asked);
                self.heads.borrow_mut().retract(self.revision, streams(group.iter()));
                // It may be the function that is at fault.
                self.lean = None;
                self.failed(session, group, failed).await;
            }
        }
    }
}

/// The streams that commits append to.
fn streams<'a>(group: impl Iterator<Item = &'a Queued>) -> impl Iterator<Item = &'a str> {
    group.flat_map(|queued| &queued.commit.appends).map(|append| append.stream.as_str())
}
