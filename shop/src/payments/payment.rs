//! The payment of an order: at most one charge, and its refund.

use purlin::aggregate::{Aggregate, SnapshotPolicy};
use purlin::message::{Event, Fault, FaultKind, Uuid};
use serde::{Deserialize, Serialize};

use crate::contracts::events::{Done, Flow, Paid, Refused};
use crate::contracts::money::Money;

/// The payment of one order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// How far it has come.
    pub state: State,
    /// What is to be paid, once that is known.
    pub asked: Option<Asked>,
}

/// What is to be paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// How much.
    pub amount: Money,
    /// From which card.
    pub token: String,
}

/// How far a payment has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nobody asked yet.
    #[default]
    None,
    /// The card may have been charged, or not.
    Requested,
    /// The card was charged.
    Completed {
        /// The charge's id in the card network.
        charge: String,
    },
    /// The card was refused, for good.
    Failed {
        /// Why.
        reason: String,
    },
    /// The money is on its way back.
    Withdrawn,
    /// No money is held, and none will be: a charge that comes later is refused.
    Refunded {
        /// What was given back.
        amount: Money,
    },
}

/// What happens to payments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentEvent {
    /// A card is to be charged.
    Requested {
        /// How much, for which order.
        #[serde(flatten)]
        paid: Paid,
        /// From which card.
        token: String,
    },
    /// The card network did not answer for this card; it is asked again.
    Delayed(Refused),
    /// The card was charged.
    Completed {
        /// How much, for which order.
        #[serde(flatten)]
        paid: Paid,
        /// The charge's id in the card network.
        charge: String,
    },
    /// The card was refused.
    Failed(Refused),
    /// The money is to go back.
    Withdrawn(Done),
    /// No money is held any more.
    Refunded(Paid),
}

impl Event for PaymentEvent {}

impl Aggregate for Payment {
    const KIND: &'static str = "payment";
    // It has few events: reading them costs less than looking for a snapshot first.
    const SNAPSHOTS: SnapshotPolicy = SnapshotPolicy::NEVER;
    type Event = PaymentEvent;

    fn apply(&mut self, event: &PaymentEvent) {
        match event {
            PaymentEvent::Requested { paid, token } => {
                self.asked = Some(Asked { amount: paid.amount, token: token.clone() });
                self.state = State::Requested;
            }
            PaymentEvent::Delayed(_) => {}
            PaymentEvent::Completed { charge, .. } => {
                self.state = State::Completed { charge: charge.clone() };
            }
            PaymentEvent::Failed(why) => self.state = State::Failed { reason: why.reason.clone() },
            PaymentEvent::Withdrawn(_) => self.state = State::Withdrawn,
            PaymentEvent::Refunded(paid) => self.state = State::Refunded { amount: paid.amount },
        }
    }

    fn is_public(event: &PaymentEvent) -> bool {
        !matches!(event, PaymentEvent::Withdrawn(_))
    }
}

impl Payment {
    /// Asks for money; again for the same: nothing more happens.
    pub fn request(
        &self,
        flow: Flow,
        order_id: Uuid,
        asked: &Asked,
    ) -> Result<Option<PaymentEvent>, PaymentError> {
        match &self.state {
            State::None => {
                let paid = Paid { flow, order_id, amount: asked.amount };
                Ok(Some(PaymentEvent::Requested { paid, token: asked.token.clone() }))
            }
            State::Withdrawn | State::Refunded { .. } => Err(PaymentError::Withdrawn),
            State::Failed { reason } => Err(PaymentError::Refused(reason.clone())),
            State::Requested | State::Completed { .. } if self.asked.as_ref() == Some(asked) => Ok(None),
            State::Requested | State::Completed { .. } => Err(PaymentError::Different),
        }
    }

    /// Notes that the card was charged.
    pub fn complete(
        &self,
        flow: Flow,
        order_id: Uuid,
        charge: &str,
    ) -> Result<Option<PaymentEvent>, PaymentError> {
        match (&self.state, &self.asked) {
            (State::Requested, Some(asked)) => {
                let paid = Paid { flow, order_id, amount: asked.amount };
                Ok(Some(PaymentEvent::Completed { paid, charge: charge.to_owned() }))
            }
            (State::Completed { .. }, _) => Ok(None),
            (State::Failed { reason }, _) => Err(PaymentError::Refused(reason.clone())),
            _ => Err(PaymentError::Withdrawn),
        }
    }

    /// Notes that the card was refused.
    pub fn fail(&self, flow: Flow, order_id: Uuid, reason: &str) -> Option<PaymentEvent> {
        let why = Refused { flow: Some(flow), order_id, reason: reason.to_owned() };
        matches!(self.state, State::Requested).then_some(PaymentEvent::Failed(why))
    }

    /// Notes that the card network has not answered for this card.
    pub fn delay(&self, flow: Flow, order_id: Uuid, reason: &str) -> Option<PaymentEvent> {
        let why = Refused { flow: Some(flow), order_id, reason: reason.to_owned() };
        matches!(self.state, State::Requested).then_some(PaymentEvent::Delayed(why))
    }

    /// Wants the money back. Where no money can have moved, that is done at once.
    pub fn withdraw(&self, flow: Flow, order_id: Uuid) -> Option<PaymentEvent> {
        match self.state {
            State::Requested | State::Completed { .. } => {
                Some(PaymentEvent::Withdrawn(Done { flow, order_id }))
            }
            State::None | State::Failed { .. } => {
                Some(PaymentEvent::Refunded(Paid { flow, order_id, amount: Money::ZERO }))
            }
            State::Withdrawn | State::Refunded { .. } => None,
        }
    }

    /// Notes what the card network gave back.
    pub fn refund(&self, flow: Flow, order_id: Uuid, amount: Money) -> Option<PaymentEvent> {
        matches!(self.state, State::Withdrawn).then_some(PaymentEvent::Refunded(Paid {
            flow,
            order_id,
            amount,
        }))
    }
}

/// No money was taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PaymentError {
    /// The card network refused the card.
    #[error("{0}")]
    Refused(String),
    /// The order was given up before.
    #[error("the payment was withdrawn already")]
    Withdrawn,
    /// Another amount or card was asked for before.
    #[error("the order is being paid otherwise already")]
    Different,
}

impl Fault for PaymentError {
    fn kind(&self) -> FaultKind {
        FaultKind::Conflict
    }

    fn code(&self) -> &str {
        match self {
            Self::Refused(_) => "payment-refused",
            Self::Withdrawn => "payment-withdrawn",
            Self::Different => "payment-different",
        }
    }
}

#[cfg(test)]
mod tests {
    use purlin::message::new_id;

    use super::*;

    const FLOW: Flow = Flow::Orchestrated;

    fn asked() -> Asked {
        Asked { amount: Money::eur(500), token: "tok_ok".into() }
    }

    fn requested() -> Payment {
        let mut payment = Payment::default();
        payment.apply(&payment.request(FLOW, new_id(), &asked()).unwrap().unwrap());
        payment
    }

    #[test]
    fn a_charge_that_comes_after_its_refund_is_refused() {
        let mut payment = Payment::default();
        payment.apply(&payment.withdraw(FLOW, new_id()).unwrap());
        assert_eq!(payment.state, State::Refunded { amount: Money::ZERO });
        assert_eq!(payment.request(FLOW, new_id(), &asked()), Err(PaymentError::Withdrawn));
    }

    #[test]
    fn a_charge_that_is_answered_after_its_withdrawal_does_not_count() {
        let mut payment = requested();
        payment.apply(&payment.withdraw(FLOW, new_id()).unwrap());
        assert_eq!(payment.complete(FLOW, new_id(), "ch_1"), Err(PaymentError::Withdrawn));
        payment.apply(&payment.refund(FLOW, new_id(), Money::eur(500)).unwrap());
        assert_eq!(payment.refund(FLOW, new_id(), Money::eur(500)), None);
        assert_eq!(payment.withdraw(FLOW, new_id()), None);
    }

    #[test]
    fn asking_twice_is_asking_once_and_only_for_the_same() {
        let payment = requested();
        assert_eq!(payment.request(FLOW, new_id(), &asked()), Ok(None));
        let other = Asked { amount: Money::eur(1), ..asked() };
        assert_eq!(payment.request(FLOW, new_id(), &other), Err(PaymentError::Different));
    }

    #[test]
    fn a_refused_card_stays_refused() {
        let mut payment = requested();
        payment.apply(&payment.fail(FLOW, new_id(), "declined").unwrap());
        let error = payment.request(FLOW, new_id(), &asked()).unwrap_err();
        assert_eq!(error, PaymentError::Refused("declined".into()));
        assert_eq!(payment.fail(FLOW, new_id(), "declined"), None);
    }
}
