//! The till: takes and gives back money at the card network, and books it.

use std::time::Duration;

use purlin::aggregate::{Change, Repository, UpdateError};
use purlin::message::{Fault, FaultKind, Uuid};
use purlin::resilience::{CallError, Caller};
use purlin::store::Store;

use super::card_network::{Answer, CardNetwork, NetworkError, Order};
use super::payment::{Asked, Payment, PaymentError, State};
use crate::contracts::events::Flow;
use crate::contracts::money::Money;

/// The till; cheap to clone.
#[derive(Clone)]
pub struct Till {
    payments: Repository<Payment>,
    network: CardNetwork,
    line: Caller,
}

/// What became of a charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Charged {
    /// The money is here; the charge has this id.
    Completed(String),
    /// The card network has not answered for this card: ask again.
    Pending(String),
}

impl Till {
    /// A till that books in `store`; `line` is how it reaches the card network.
    pub fn new(store: &Store, network: CardNetwork, line: Caller) -> Self {
        Self { payments: Repository::new(store), network, line }
    }

    /// The payments.
    pub fn payments(&self) -> &Repository<Payment> {
        &self.payments
    }

    /// Charges a card for an order: notes the wish first, so that nothing moves that nobody knows of.
    pub async fn charge(&self, flow: Flow, order_id: Uuid, asked: &Asked) -> Result<Charged, TillError> {
        let payment =
            self.payments.update(order_id, |payment| payment.request(flow, order_id, asked)).await?;
        if let State::Completed { charge } = &payment.state {
            return Ok(Charged::Completed(charge.clone()));
        }
        let answer = self.ask(order_id, asked).await?;
        let booked = self.payments.update(order_id, |payment| book(payment, flow, order_id, &answer)).await?;
        outcome(&booked, &answer)
    }

    /// Gives back what was charged for an order, if anything was, and refuses a charge that comes later.
    pub async fn refund(&self, flow: Flow, order_id: Uuid) -> Result<Money, TillError> {
        let withdrawn =
            self.payments.update(order_id, |payment| allowed(payment.withdraw(flow, order_id))).await?;
        if let State::Refunded { amount } = withdrawn.state {
            return Ok(amount);
        }
        let amount = self.give_back(order_id).await?;
        self.payments.update(order_id, |payment| allowed(payment.refund(flow, order_id, amount))).await?;
        Ok(amount)
    }

    /// Asks the card network for a charge; what it says of one card is an answer and no failure of the line.
    pub async fn ask(&self, order_id: Uuid, asked: &Asked) -> Result<Answer, TillError> {
        let order = Order { order_id, token: asked.token.clone(), amount: asked.amount };
        let key = key(order_id);
        Ok(self.line.call(|| self.network.charge(&key, &order)).await?)
    }

    /// Asks the card network to give back what was charged for an order.
    pub async fn give_back(&self, order_id: Uuid) -> Result<Money, TillError> {
        let key = key(order_id);
        Ok(self.line.call(|| self.network.refund(&key)).await?)
    }

    /// What is booked when the network has answered, still to be committed.
    pub async fn booking(
        &self,
        flow: Flow,
        order_id: Uuid,
        answer: &Answer,
    ) -> Result<Change<Payment>, TillError> {
        Ok(self.payments.change(order_id, |payment| book(payment, flow, order_id, answer)).await?)
    }
}

/// The name of an order's charge at the card network.
fn key(order_id: Uuid) -> String {
    format!("{order_id}/charge")
}

fn allowed<T>(decided: T) -> Result<T, PaymentError> {
    Ok(decided)
}

fn book(
    payment: &Payment,
    flow: Flow,
    order_id: Uuid,
    answer: &Answer,
) -> Result<Option<super::payment::PaymentEvent>, PaymentError> {
    match answer {
        Answer::Charged(charge) => payment.complete(flow, order_id, &charge.to_string()),
        Answer::Declined(reason) => Ok(payment.fail(flow, order_id, reason)),
        Answer::Unavailable(reason) => Ok(payment.delay(flow, order_id, reason)),
    }
}

fn outcome(payment: &Payment, answer: &Answer) -> Result<Charged, TillError> {
    match (&payment.state, answer) {
        (State::Completed { charge }, _) => Ok(Charged::Completed(charge.clone())),
        (State::Failed { reason }, _) => Err(TillError::Refused(PaymentError::Refused(reason.clone()))),
        (State::Requested, Answer::Unavailable(reason)) => Ok(Charged::Pending(reason.clone())),
        _ => Err(TillError::Refused(PaymentError::Withdrawn)),
    }
}

/// Money was not moved, or it is not known whether it was.
#[derive(Debug, thiserror::Error)]
pub enum TillError {
    /// The payment does not allow it.
    #[error(transparent)]
    Refused(PaymentError),
    /// The till cannot book.
    #[error("the payment could not be booked")]
    Book(#[source] Box<UpdateError<PaymentError>>),
    /// The card network cannot be reached.
    #[error("the card network cannot be reached")]
    Network(#[from] CallError<NetworkError>),
}

impl From<UpdateError<PaymentError>> for TillError {
    fn from(error: UpdateError<PaymentError>) -> Self {
        match error {
            UpdateError::Refused(refused) => Self::Refused(refused),
            other => Self::Book(Box::new(other)),
        }
    }
}

impl Fault for TillError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Refused(error) => error.kind(),
            Self::Book(error) => error.kind(),
            Self::Network(error) => error.kind(),
        }
    }

    fn code(&self) -> &str {
        match self {
            Self::Refused(error) => error.code(),
            other => other.kind().as_str(),
        }
    }

    fn is_of_another(&self) -> bool {
        match self {
            Self::Refused(error) => error.is_of_another(),
            Self::Book(error) => error.is_of_another(),
            Self::Network(error) => error.is_of_another(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(error) => error.retry_after(),
            Self::Book(error) => error.retry_after(),
            Self::Network(error) => error.retry_after(),
        }
    }
}
