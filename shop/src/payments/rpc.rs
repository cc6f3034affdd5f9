//! What the payments service answers to other services.

use axum::Router;
use purlin::http::grpc;
use tonic::{Request, Response, Status};

use super::Payments;
use super::payment::Asked;
use super::till::Charged;
use crate::contracts::events::Flow;
use crate::contracts::line::{door, id};
use crate::contracts::money::Money;
use crate::contracts::rpc;
use crate::contracts::rpc::payments::charge::Outcome;
use crate::contracts::rpc::payments::payments_server::{self, PaymentsServer};
use crate::contracts::rpc::payments::{Charge, ChargeCard, Refund, RefundOrder};

/// The methods of the payments service.
pub fn router(payments: Payments) -> Router {
    door(PaymentsServer::new(payments))
}

/// Whoever calls, rather than listens, carries out an orchestrated checkout.
const FLOW: Flow = Flow::Orchestrated;

#[tonic::async_trait]
impl payments_server::Payments for Payments {
    async fn charge(&self, request: Request<ChargeCard>) -> Result<Response<Charge>, Status> {
        let ChargeCard { order_id, token, amount } = request.into_inner();
        let asked = Asked { amount: Money::eur(amount.unwrap_or_default().amount), token };
        let charged = self.till.charge(FLOW, id(&order_id)?, &asked).await;
        let outcome = match charged.map_err(|error| grpc::status_from_fault(&error))? {
            Charged::Completed(charge) => Outcome::Completed(charge),
            Charged::Pending(reason) => Outcome::Pending(reason),
        };
        Ok(Response::new(Charge { outcome: Some(outcome) }))
    }

    async fn refund(&self, request: Request<RefundOrder>) -> Result<Response<Refund>, Status> {
        let refunded = self.till.refund(FLOW, id(&request.into_inner().order_id)?).await;
        let amount = refunded.map_err(|error| grpc::status_from_fault(&error))?.amount;
        Ok(Response::new(Refund { amount: Some(rpc::Money { amount, currency: "EUR".into() }) }))
    }
}
