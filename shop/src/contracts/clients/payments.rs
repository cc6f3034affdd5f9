//! Asking the payments service.

use purlin::message::Uuid;
use tonic::{Code, Response, Status};

use crate::contracts::line::{Line, LineError, id};
use crate::contracts::money::Money;
use crate::contracts::rpc::Money as RpcMoney;
use crate::contracts::rpc::payments::charge::Outcome;
use crate::contracts::rpc::payments::payments_client::PaymentsClient;
use crate::contracts::rpc::payments::{ChargeCard, RefundOrder, WhichLedger};

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

    /// Which ledger they are written in.
    pub async fn ledger(&self) -> Result<Uuid, LineError> {
        let send = async |channel, request| {
            let ledger =
                PaymentsClient::new(channel).which(request).await.map_err(|status| match status.code() {
                    // They will be newer: it is no reason to give orders up.
                    Code::Unimplemented => Status::unavailable("the payments are older than ledgers"),
                    _ => status,
                })?;
            let id = id(&ledger.get_ref().id).map_err(|_| Status::internal("the ledger has no id"))?;
            Ok::<_, Status>(Response::new(id))
        };
        self.refunds.call(None, WhichLedger {}, send).await
    }

    /// Charges a card for an order, once; by nobody but whoever has this ledger.
    pub async fn charge(
        &self,
        ledger: Uuid,
        key: &str,
        order_id: Uuid,
        token: &str,
        amount: Money,
    ) -> Result<Charged, LineError> {
        let amount = Some(RpcMoney { amount: amount.amount, currency: "EUR".into() });
        let asked = ChargeCard {
            order_id: order_id.to_string(),
            token: token.to_owned(),
            amount,
            ledger: ledger.to_string(),
        };
        let send = async |channel, request| PaymentsClient::new(channel).charge(request).await;
        Ok(match self.charges.call(Some(key), asked, send).await?.outcome {
            Some(Outcome::Completed(charge)) => Charged::Completed(charge),
            Some(Outcome::Pending(reason)) => Charged::Pending(reason),
            None => Charged::Pending("the payments service did not say what became of it".into()),
        })
    }

    /// Gives back what was charged for an order, and refuses what comes later; in this ledger only.
    pub async fn refund(&self, ledger: Uuid, key: &str, order_id: Uuid) -> Result<(), LineError> {
        let asked = RefundOrder { order_id: order_id.to_string(), ledger: ledger.to_string() };
        let send = async |channel, request| PaymentsClient::new(channel).refund(request).await;
        self.refunds.call(Some(key), asked, send).await.map(|_| ())
    }
}
