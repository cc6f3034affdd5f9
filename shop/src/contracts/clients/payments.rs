//! Asking the payments service.

use purlin::message::Uuid;

use crate::contracts::line::{Line, LineError};
use crate::contracts::money::Money;
use crate::contracts::rpc::Money as RpcMoney;
use crate::contracts::rpc::payments::charge::Outcome;
use crate::contracts::rpc::payments::payments_client::PaymentsClient;
use crate::contracts::rpc::payments::{ChargeCard, RefundOrder};

/// The payments service, as others see it.
#[derive(Clone)]
pub struct Payments {
    charges: Line,
    /// Whoever wants his money back does not wait behind cards that take their time.
    refunds: Line,
}

/// What became of a charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Charged {
    /// The money is here; the charge has this id.
    Completed(String),
    /// Nobody knows yet, for this reason: ask again.
    Pending(String),
}

impl Payments {
    /// The service at the end of a line.
    pub fn new(line: Line) -> Self {
        Self { refunds: line.apart(), charges: line }
    }

    /// Charges a card for an order, once.
    pub async fn charge(
        &self,
        key: &str,
        order_id: Uuid,
        token: &str,
        amount: Money,
    ) -> Result<Charged, LineError> {
        let amount = Some(RpcMoney { amount: amount.amount, currency: "EUR".into() });
        let asked = ChargeCard { order_id: order_id.to_string(), token: token.to_owned(), amount };
        let send = async |channel, request| PaymentsClient::new(channel).charge(request).await;
        Ok(match self.charges.call(Some(key), asked, send).await?.outcome {
            Some(Outcome::Completed(charge)) => Charged::Completed(charge),
            Some(Outcome::Pending(reason)) => Charged::Pending(reason),
            None => Charged::Pending("the payments service did not say what became of it".into()),
        })
    }

    /// Gives back what was charged for an order, and refuses what comes later.
    pub async fn refund(&self, key: &str, order_id: Uuid) -> Result<(), LineError> {
        let asked = RefundOrder { order_id: order_id.to_string() };
        let send = async |channel, request| PaymentsClient::new(channel).refund(request).await;
        self.refunds.call(Some(key), asked, send).await.map(|_| ())
    }
}
