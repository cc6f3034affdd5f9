//! The payments, as the orders know them: always the same ones.
//!
//! Payments that know nothing of the money that was taken would take it again. So the orders remember the ledger of those
//! whom they asked first, before they let them charge anything, and pay in no other.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use purlin::message::{Fault, FaultKind, Uuid};
use purlin::store::{Commit, CommitError, ReadError, Revision, Row, Store};
use serde::{Deserialize, Serialize};

use crate::contracts::clients::{Charged, Payments};
use crate::contracts::line::LineError;
use crate::contracts::money::Money;

/// Which ledger the orders are paid in.
#[derive(Debug, Serialize, Deserialize)]
pub struct PaidIn {
    ledger: Uuid,
}

impl Row for PaidIn {
    const COLLECTION: &'static str = "paid_in";
}

/// The only record.
const KEY: &str = "payments";

/// The ledger that the orders of a store were paid in, if any were.
pub async fn paid_in(store: &Store) -> Result<Option<Uuid>, ReadError> {
    Ok(store.get::<PaidIn>(KEY).await?.map(|paid| paid.ledger))
}

/// Pays; cheap to clone.
#[derive(Clone)]
pub struct Purse {
    store: Store,
    payments: Payments,
    ledger: Arc<OnceLock<Uuid>>,
}

impl Purse {
    /// Pays with these payments, for the orders of this store.
    pub fn new(store: &Store, payments: Payments) -> Self {
        Self { store: store.clone(), payments, ledger: Arc::default() }
    }

    /// Charges a card for an order, once; the charge.
    pub async fn charge(
        &self,
        key: &str,
        order_id: Uuid,
        token: &str,
        amount: Money,
    ) -> Result<String, PaymentError> {
        match self.payments.charge(self.ledger().await?, key, order_id, token, amount).await? {
            Charged::Completed(charge) => Ok(charge),
            Charged::Pending(reason) => Err(PaymentError::Pending(reason)),
        }
    }

    /// Gives back what was charged for an order.
    pub async fn refund(&self, key: &str, order_id: Uuid) -> Result<(), PaymentError> {
        Ok(self.payments.refund(self.ledger().await?, key, order_id).await?)
    }

    /// Whoever does not know it asks himself: behind one who waits for an answer all others would wait, and then each in turn
    /// as long as he did.
    async fn ledger(&self) -> Result<Uuid, PaymentError> {
        if let Some(known) = self.ledger.get() {
            return Ok(*known);
        }
        let first = self.first().await?;
        Ok(*self.ledger.get_or_init(|| first))
    }

    /// The one that is known, or that of whoever answers first.
    async fn first(&self) -> Result<Uuid, PaymentError> {
        loop {
            if let Some(ledger) = paid_in(&self.store).await? {
                return Ok(ledger);
            }
            let paid = PaidIn { ledger: self.payments.ledger().await? };
            match self.store.commit(Commit::new().put_expecting(KEY, &paid, Revision::Absent, None)).await {
                Ok(_) => return Ok(paid.ledger),
                Err(CommitError::Conflict(_)) => {}
                Err(error) => return Err(PaymentError::Commit(error)),
            }
        }
    }
}

/// The money is not here.
#[derive(Debug, thiserror::Error)]
pub enum PaymentError {
    /// It may come yet.
    #[error("the payment is pending: {0}")]
    Pending(String),
    /// It will not come, or the payments cannot be asked.
    #[error(transparent)]
    Line(#[from] LineError),
    /// Where the orders are paid is not known.
    #[error("it cannot be read which payments the orders have")]
    Read(#[from] ReadError),
    /// Where the orders are paid cannot be remembered.
    #[error("it cannot be remembered which payments the orders have")]
    Commit(#[source] CommitError),
}

impl Fault for PaymentError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Pending(_) => FaultKind::Unavailable,
            Self::Line(error) => error.kind(),
            Self::Read(error) => error.kind(),
            Self::Commit(error) => error.kind(),
        }
    }

    fn code(&self) -> &str {
        match self {
            Self::Pending(_) => "payment-pending",
            Self::Line(error) => error.code(),
            Self::Read(error) => error.code(),
            Self::Commit(error) => error.code(),
        }
    }

    fn is_of_another(&self) -> bool {
        match self {
            Self::Pending(_) => true,
            Self::Line(error) => error.is_of_another(),
            Self::Read(_) | Self::Commit(_) => false,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Line(error) => error.retry_after(),
            Self::Pending(_) | Self::Read(_) | Self::Commit(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use purlin::message::new_id;
    use purlin::resilience::{Breakers, Calls, Policies};
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;
    use crate::contracts::line::Line;

    #[tokio::test(start_paused = true)]
    async fn with_payments_that_hang_nobody_waits_behind_another_and_they_are_soon_left_alone() {
        // It takes connections and answers nothing.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let calls = Calls::new(Policies::built_in(), &Breakers::new());
        let caller = calls.caller("payments").without_repeats();
        let store = Store::memory();
        store.define::<PaidIn>().await.unwrap();
        let purse = Purse::new(&store, Payments::new(Line::new(&url, caller.clone()).unwrap()));
        let charge = async || {
            let charged = purse.charge("key", new_id(), "tok_ok", Money::eur(100)).await;
            let error = charged.unwrap_err();
            assert!(error.kind().is_transient() && error.is_of_another(), "{error:?}");
        };

        let (begun, attempt) = (Instant::now(), caller.policy().attempt);
        futures_util::future::join_all((0..8).map(|_| charge())).await;
        assert!(begun.elapsed() < attempt + attempt / 4, "eight at once took {:?}", begun.elapsed());
        assert!(caller.breaker().is_closed(), "eight may be chance");
        futures_util::future::join_all((0..8).map(|_| charge())).await;
        assert!(!caller.breaker().is_closed(), "after {:?}", begun.elapsed());
    }
}
