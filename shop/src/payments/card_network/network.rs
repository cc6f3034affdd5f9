//! The network at work: one commit for each answer, and the time that answers take.

use std::time::Duration;

use purlin::message::{Clock, Fault, FaultKind, Timestamp, new_id};
use purlin::store::{Commit, CommitError, Page, Query, ReadError, Revision, Row, Store};

use super::charge::{Charge, Outcome};
use super::ledger::{Entry, Kind, Writing};
use super::{Answer, Order};
use crate::contracts::money::Money;

/// How long a caller waits for an answer that is lost before he gives it up.
const GIVEN_UP: Duration = Duration::from_secs(1);

/// How often a write is tried again because the same key was asked for at the same time.
const ATTEMPTS: usize = 20;

/// The card network; cheap to clone.
#[derive(Clone)]
pub struct CardNetwork {
    store: Store,
    clock: Clock,
    writing: Writing,
}

impl CardNetwork {
    /// The network whose memory is `store`.
    pub async fn new(store: &Store, clock: &Clock) -> Result<Self, CommitError> {
        store.define::<Charge>().await?;
        store.define::<Entry>().await?;
        Ok(Self { store: store.clone(), clock: clock.clone(), writing: Writing::default() })
    }

    /// Charges a card under a key.
    pub async fn charge(&self, key: &str, order: &Order) -> Result<Answer, NetworkError> {
        for _ in 0..ATTEMPTS {
            let (mut charge, expected) = self.find(key).await?;
            let (id, now) = (new_id(), self.clock.now());
            let decision = charge.ask(order, id, now);
            let mut commit = Commit::new().put_expecting(key, &charge, expected, None);
            let begun = self.writing.begin();
            if decision.moves {
                let (id, order_id, amount) = (begun.id, order.order_id, order.amount);
                commit = enter(commit, &Entry { id, order_id, kind: Kind::Charge, amount, at: now });
            }
            let committed = self.commit(commit).await?;
            drop(begun);
            if committed {
                self.until(charge.answer_at).await;
                return Ok(if decision.lost { lost().await } else { decision.answer });
            }
        }
        Err(NetworkError::Busy)
    }

    /// Gives back what was charged under a key, and refuses a charge that comes later; how much that is in all.
    pub async fn refund(&self, key: &str) -> Result<Money, NetworkError> {
        for _ in 0..ATTEMPTS {
            let (mut charge, expected) = self.find(key).await?;
            if let Some(Outcome::Refunded(amount)) = charge.outcome {
                return Ok(amount);
            }
            let (moves, amount) = charge.refund();
            let mut commit = Commit::new().put_expecting(key, &charge, expected, None);
            let begun = self.writing.begin();
            if let (Some(amount), Some(order)) = (moves, &charge.order) {
                let (id, order_id, at) = (begun.id, order.order_id, self.clock.now());
                commit = enter(commit, &Entry { id, order_id, kind: Kind::Refund, amount, at });
            }
            if self.commit(commit).await? {
                return Ok(amount);
            }
        }
        Err(NetworkError::Busy)
    }

    /// A page of the ledger, the oldest entry first.
    pub async fn ledger(&self, query: Query) -> Result<Page, ReadError> {
        let end = self.writing.written_before().to_string();
        let mut page = self.store.list::<Entry>(query).await?;
        let is_settled = |key: &str| key < end.as_str();
        if page.records.last().is_some_and(|last| !is_settled(&last.key)) {
            page.records.retain(|record| is_settled(&record.key));
            page.next = None;
        }
        Ok(page)
    }

    async fn find(&self, key: &str) -> Result<(Charge, Revision), NetworkError> {
        match self.store.get_record(Charge::COLLECTION, key).await? {
            Some(record) => Ok((record.decode()?, Revision::Exact(record.revision))),
            None => Ok((Charge::default(), Revision::Absent)),
        }
    }

    /// Whether it was applied; false: the key was asked for at the same time.
    async fn commit(&self, commit: Commit) -> Result<bool, NetworkError> {
        match self.store.commit(commit).await {
            Ok(_) => Ok(true),
            Err(CommitError::Conflict(_)) => Ok(false),
            Err(error) => Err(NetworkError::Write(error)),
        }
    }

    async fn until(&self, at: Option<Timestamp>) {
        let left = at.map(|at| at.duration_since(self.clock.now()));
        if let Some(left) = left.and_then(|left| Duration::try_from(left).ok()) {
            tokio::time::sleep(left).await;
        }
    }
}

/// The answer that nobody gets: after a while the caller gives up.
async fn lost() -> Answer {
    tokio::time::sleep(GIVEN_UP).await;
    Answer::Unavailable("the answer was lost".to_owned())
}

/// Money that moves is entered; none is no entry.
fn enter(commit: Commit, entry: &Entry) -> Commit {
    if entry.amount == Money::ZERO { commit } else { commit.put(entry.id.to_string(), entry) }
}

/// The network itself failed, whatever the card.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// It cannot write.
    #[error("the card network cannot write")]
    Write(#[source] CommitError),
    /// It cannot read.
    #[error("the card network cannot read")]
    Read(#[from] ReadError),
    /// One key is asked for too often at once.
    #[error("the card network is asked for one key too often")]
    Busy,
}

impl Fault for NetworkError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Write(error) => error.kind(),
            Self::Read(error) => error.kind(),
            Self::Busy => FaultKind::Overloaded,
        }
    }
}

#[cfg(test)]
mod tests {
    use purlin::message::Uuid;

    use super::*;

    async fn network() -> CardNetwork {
        CardNetwork::new(&Store::memory(), &Clock::system()).await.unwrap()
    }

    fn order(token: &str) -> Order {
        Order { order_id: Uuid::nil(), token: token.into(), amount: Money::eur(700) }
    }

    async fn ledger(network: &CardNetwork) -> Vec<(Kind, i64)> {
        let page = network.ledger(Query::all()).await.unwrap();
        let entries = page.records.iter().map(|record| record.decode::<Entry>().unwrap());
        entries.map(|entry| (entry.kind, entry.amount.amount)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_key_at_once_moves_money_once() {
        let network = network().await;
        let order = order("tok_timeout");
        let asks = (0..10).map(|_| network.charge("one", &order));
        futures_util::future::join_all(asks).await;
        assert_eq!(ledger(&network).await, [(Kind::Charge, 700)]);
        network.refund("one").await.unwrap();
        network.refund("one").await.unwrap();
        assert_eq!(ledger(&network).await, [(Kind::Charge, 700), (Kind::Refund, 700)]);
    }

    #[tokio::test]
    async fn a_page_of_the_ledger_ends_before_what_is_being_written() {
        let network = network().await;
        network.charge("one", &order("tok_ok")).await.unwrap();
        let writing = network.writing.begin();
        network.charge("two", &order("tok_ok")).await.unwrap();
        assert_eq!(ledger(&network).await.len(), 1);
        drop(writing);
        assert_eq!(ledger(&network).await.len(), 2);
    }

    #[tokio::test]
    async fn the_ledger_holds_only_money_that_moved() {
        let network = network().await;
        for token in ["tok_declined", "tok_down"] {
            network.charge(token, &order(token)).await.unwrap();
            network.refund(token).await.unwrap();
        }
        let free = Order { amount: Money::ZERO, ..order("tok_ok") };
        network.charge("free", &free).await.unwrap();
        assert_eq!(ledger(&network).await, []);
    }
}
