//! Errands to the card network: what choreographed payments still have to do there, each a record that is due.
//!
//! An order has at most one errand: a refund takes the place of the charge that it undoes, and the commit that ends
//! an errand requires that it is still the same.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use purlin::aggregate::{Change, UpdateError};
use purlin::message::{Clock, Fault, Timestamp, Uuid};
use purlin::store::{Cause, Commit, CommitError, Field, Query, ReadError, Record, Revision, Row, Store};
use purlin::telemetry::{self, Rarely};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::card_network::Answer;
use super::payment::{Payment, PaymentError, State};
use super::till::{Till, TillError};
use crate::contracts::events::Flow;

const FLOW: Flow = Flow::Choreographed;

/// How many errands are run side by side.
const AT_ONCE: usize = 64;

/// How often the records are looked at when nothing changes.
const LOOK: Duration = Duration::from_millis(200);

/// How long an errand waits behind its first failure, and at most.
const WAIT: (u64, u64) = (250, 10_000);

/// How long an errand keeps its place that could not be put off.
const PAUSE: Duration = Duration::from_secs(1);

/// How many are given up in one commit, at most.
const GIVEN_UP: usize = 500;

/// How often in a row that may be in vain, because another process came between; after each time it is waited so much longer.
const IN_VAIN: u32 = 20;
const MOMENT: Duration = Duration::from_millis(2);

/// When a record is looked at again that cannot be read.
const ASIDE: Duration = Duration::from_secs(60 * 60);

/// What is to be done at the card network for an order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Errand {
    order_id: Uuid,
    kind: Kind,
    attempts: u32,
    /// The trace of the order, as a `traceparent`.
    trace: Option<String>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Charge the card.
    Charge,
    /// Give back what was charged.
    Refund,
}

impl Row for Errand {
    const COLLECTION: &'static str = "errands";
    const FIELDS: &'static [Field] = &[Field::text("kind")];
}

impl Errand {
    /// An errand that nobody has begun.
    pub fn new(order_id: Uuid, kind: Kind) -> Self {
        let trace = telemetry::current().map(|trace| trace.to_string());
        Self { order_id, kind, attempts: 0, trace }
    }

    /// Has it done as soon as this is committed.
    pub fn begin(&self, commit: Commit, now: Timestamp) -> Commit {
        commit.put_expecting(self.order_id.to_string(), self, Revision::Any, Some(now))
    }
}

/// Gives up all that is still to be charged, and says how much that was: for payments that do not know whether it was charged
/// since. What is to be given back stays: more than was taken nobody gives back.
///
/// What another process does to an errand meanwhile is no reason not to go on: it is read again, and fewer at once, which
/// another one comes between less often.
pub async fn give_up_charges(store: &Store) -> Result<usize, Cause> {
    store.define::<Errand>().await?;
    let (mut after, mut given_up) = (None, 0);
    let (mut at_once, mut in_vain) = (GIVEN_UP, 0);
    loop {
        let query = Query::all().and("kind", "charge").after(after.clone()).limit(at_once);
        let page = store.list::<Errand>(query).await?;
        let mut commit = Commit::new();
        for record in &page.records {
            commit = commit.delete::<Errand>(&record.key, Revision::Exact(record.revision));
        }
        let ended = if commit.is_empty() { Ok(()) } else { store.commit(commit).await.map(|_| ()) };
        match ended {
            Ok(()) => (at_once, in_vain) = ((at_once * 2).min(GIVEN_UP), 0),
            Err(CommitError::Conflict(_)) if in_vain < IN_VAIN => {
                (at_once, in_vain) = ((at_once / 2).max(1), in_vain + 1);
                tokio::time::sleep(MOMENT * in_vain).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        }
        given_up += page.records.len();
        let Some(next) = page.next else { return Ok(given_up) };
        after = Some(next);
    }
}

/// Runs errands; cheap to clone.
#[derive(Clone)]
pub struct Errands {
    store: Store,
    clock: Clock,
    till: Till,
    warning: Arc<Rarely>,
}

impl Errands {
    /// Runs the errands of a store.
    pub fn new(store: &Store, clock: &Clock, till: &Till) -> Self {
        let warning = Arc::new(Rarely::every(Duration::from_secs(1)));
        Self { store: store.clone(), clock: clock.clone(), till: till.clone(), warning }
    }

    /// Runs errands until told to stop, then finishes those in hand.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ReadError> {
        let this = Arc::new(self);
        let (mut running, mut in_hand) = (JoinSet::new(), HashSet::new());
        let mut changes = this.store.watch();
        while !shutdown.is_cancelled() {
            changes.mark_unchanged();
            for record in this.store.due::<Errand>(this.clock.now(), AT_ONCE).await? {
                if running.len() < AT_ONCE && in_hand.insert(record.key.clone()) {
                    let this = Arc::clone(&this);
                    let shutdown = shutdown.clone();
                    running.spawn(async move { this.run_one(record, &shutdown).await });
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                Some(done) = running.join_next() => {
                    if let Ok(key) = done {
                        in_hand.remove(&key);
                    } else {
                        in_hand.clear();
                    }
                }
                _ = changes.changed() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        while running.join_next().await.is_some() {}
        Ok(())
    }

    /// Does an errand; one that could not even be put off keeps its place for a while, so that it is not met again
    /// at once, and again.
    async fn run_one(&self, record: Record, shutdown: &CancellationToken) -> String {
        let key = record.key.clone();
        let trace = match record.decode::<Errand>() {
            Ok(errand) => errand.trace.and_then(|trace| trace.parse().ok()),
            Err(_) => None,
        };
        let work = self.attempt(&record);
        let end = match trace {
            Some(trace) => telemetry::in_trace(trace, work).await,
            None => work.await,
        };
        if let Err(error) = end {
            // While the network is away all of them wait, and are tried again and again.
            if let Some(more) = self.warning.due() {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(order = key, error, more, "an errand has to wait");
            }
            if !matches!(error, ErrandError::Till(_)) {
                shutdown.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
            }
        }
        key
    }

    /// Does it, and commits its end with what is booked; or has it done later.
    async fn attempt(&self, record: &Record) -> Result<(), ErrandError> {
        let revision = Revision::Exact(record.revision);
        let errand: Errand = match record.decode() {
            Ok(errand) => errand,
            Err(error) => {
                self.put_aside(record, revision).await?;
                return Err(ErrandError::Read(error));
            }
        };
        let end = || Commit::new().delete::<Errand>(&record.key, revision);
        let booked = match errand.kind {
            Kind::Charge => self.charge(errand.order_id).await,
            Kind::Refund => self.refund(errand.order_id).await.map(|change| (change, true)),
        };
        let commit = match booked {
            Ok((change, true)) => end().append_all(change.append),
            Ok((change, false)) => self.later(record, errand, revision).append_all(change.append),
            // There is nothing to charge any more: a refund is under way, or done.
            Err(TillError::Refused(_)) => end(),
            Err(error) => {
                self.commit(self.later(record, errand, revision)).await?;
                return Err(ErrandError::Till(error));
            }
        };
        self.commit(commit).await
    }

    /// What the network says of a charge, to be booked; and whether that is its end.
    async fn charge(&self, order_id: Uuid) -> Result<(Change<Payment>, bool), TillError> {
        let payment = self.till.payments().load(order_id).await.map_err(UpdateError::<PaymentError>::Load)?;
        let Some(asked) = payment.asked.clone().filter(|_| payment.state == State::Requested) else {
            return Err(TillError::Refused(PaymentError::Withdrawn));
        };
        let answer = self.till.ask(order_id, &asked).await?;
        let change = self.till.booking(FLOW, order_id, &answer).await?;
        Ok((change, !matches!(answer, Answer::Unavailable(_))))
    }

    async fn refund(&self, order_id: Uuid) -> Result<Change<Payment>, TillError> {
        let amount = self.till.give_back(order_id).await?;
        let decide = |payment: &Payment| Ok::<_, PaymentError>(payment.refund(FLOW, order_id, amount));
        Ok(self.till.payments().change(order_id, decide).await?)
    }

    /// Keeps a record that cannot be read as it is, or as text if it is no JSON, out of the way of the others.
    async fn put_aside(&self, record: &Record, revision: Revision) -> Result<(), ErrandError> {
        let value = serde_json::from_slice::<Value>(&record.value)
            .unwrap_or_else(|_| String::from_utf8_lossy(&record.value).into());
        let due = self.clock.now().checked_add(ASIDE).unwrap_or(Timestamp::MAX);
        let collection = Errand::collection();
        self.commit(Commit::new().put_in(&collection, &record.key, &value, revision, Some(due))).await
    }

    /// Puts it off, for longer each time.
    fn later(&self, record: &Record, errand: Errand, revision: Revision) -> Commit {
        let (first, most) = WAIT;
        let millis = first.saturating_mul(1 << errand.attempts.min(16)).min(most);
        let due = self.clock.now().checked_add(Duration::from_millis(millis)).unwrap_or(Timestamp::MAX);
        let errand = Errand { attempts: errand.attempts.saturating_add(1), ..errand };
        Commit::new().put_expecting(&record.key, &errand, revision, Some(due))
    }

    /// A conflict means that the errand or the payment is another by now: it is looked at again.
    async fn commit(&self, commit: Commit) -> Result<(), ErrandError> {
        match self.store.commit(commit).await {
            Ok(_) | Err(CommitError::Conflict(_)) => Ok(()),
            Err(error) => Err(ErrandError::Commit(error)),
        }
    }
}

/// An errand was not done.
#[derive(Debug, thiserror::Error)]
enum ErrandError {
    #[error("the errand cannot be read")]
    Read(#[from] ReadError),
    #[error("the errand's end could not be committed")]
    Commit(#[source] CommitError),
    #[error("the errand was not done")]
    Till(#[source] TillError),
}

impl Fault for ErrandError {
    fn kind(&self) -> purlin::message::FaultKind {
        match self {
            Self::Read(error) => error.kind(),
            Self::Commit(error) => error.kind(),
            Self::Till(error) => error.kind(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Read(error) => error.retry_after(),
            Self::Commit(error) => error.retry_after(),
            Self::Till(error) => error.retry_after(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use purlin::message::new_id;
    use purlin::store::memory::Memory;
    use purlin::store::{BoxFuture, Committed, Engine, Layer, WriteKind};

    use super::*;

    /// A store where another process comes between so often, when something is to be deleted, and does this.
    struct Shared {
        engine: Memory,
        left: AtomicUsize,
        between: Commit,
    }

    impl Layer for Shared {
        fn inner(&self) -> &dyn Engine {
            &self.engine
        }

        fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
            Box::pin(async move {
                let deletes = commit.writes.iter().any(|write| matches!(write.kind, WriteKind::Delete));
                let come = |left: usize| left.checked_sub(1);
                if deletes && self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, come).is_ok() {
                    self.engine.commit(self.between.clone()).await?;
                }
                self.engine.commit(commit).await
            })
        }
    }

    /// A store with these errands, beside another process.
    async fn beside(errands: &[&Errand], times: usize, between: Commit) -> Store {
        let store = Store::new(Shared { engine: Memory::new(), left: times.into(), between });
        store.define::<Errand>().await.unwrap();
        for errand in errands {
            store.commit(errand.begin(Commit::new(), store.now())).await.unwrap();
        }
        store
    }

    async fn kinds(store: &Store) -> Vec<Kind> {
        let page = store.list::<Errand>(Query::all()).await.unwrap();
        page.records.iter().map(|record| record.decode::<Errand>().unwrap().kind).collect()
    }

    #[tokio::test]
    async fn charges_are_given_up_though_another_process_has_them_in_hand_and_what_became_a_refund_stays() {
        let [put_off, withdrawn, done, untouched] = [(); 4].map(|()| Errand::new(new_id(), Kind::Charge));
        let between = Commit::new()
            .put(put_off.order_id.to_string(), &Errand { attempts: 1, ..put_off.clone() })
            .put(withdrawn.order_id.to_string(), &Errand { kind: Kind::Refund, ..withdrawn.clone() })
            .delete::<Errand>(done.order_id.to_string(), Revision::Any);
        let store = beside(&[&put_off, &withdrawn, &done, &untouched], 1, between).await;
        assert_eq!(give_up_charges(&store).await.unwrap(), 2);
        assert_eq!(kinds(&store).await, [Kind::Refund]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_between_for_ever_is_told_of() {
        let errand = Errand::new(new_id(), Kind::Charge);
        let between = Commit::new().put(errand.order_id.to_string(), &errand);
        let store = beside(&[&errand], usize::MAX, between).await;
        give_up_charges(&store).await.unwrap_err();
        assert_eq!(kinds(&store).await, [Kind::Charge]);
    }
}
