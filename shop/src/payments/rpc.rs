//! What the payments service answers to other services.

use axum::Router;
use purlin::http::grpc;
use purlin::message::{Fault, FaultKind};
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
use crate::contracts::rpc::payments::{Charge, ChargeCard, Ledger, Refund, RefundOrder, WhichLedger};

/// The methods of the payments service.
pub fn router(payments: Payments) -> Router {
    door(PaymentsServer::new(payments))
}

/// Whoever calls, rather than listens, carries out an orchestrated checkout.
const FLOW: Flow = Flow::Orchestrated;

#[tonic::async_trait]
impl payments_server::Payments for Payments {
    async fn charge(&self, request: Request<ChargeCard>) -> Result<Response<Charge>, Status> {
        let ChargeCard { order_id, token, amount, ledger } = request.into_inner();
        self.is_meant(&ledger)?;
        let asked = Asked { amount: Money::eur(amount.unwrap_or_default().amount), token };
        let charged = self.till.charge(FLOW, id(&order_id)?, &asked).await;
        let outcome = match charged.map_err(|error| grpc::status_from_fault(&error))? {
            Charged::Completed(charge) => Outcome::Completed(charge),
            Charged::Pending(reason) => Outcome::Pending(reason),
        };
        Ok(Response::new(Charge { outcome: Some(outcome) }))
    }

    async fn refund(&self, request: Request<RefundOrder>) -> Result<Response<Refund>, Status> {
        let RefundOrder { order_id, ledger } = request.into_inner();
        self.is_meant(&ledger)?;
        let refunded = self.till.refund(FLOW, id(&order_id)?).await;
        let amount = refunded.map_err(|error| grpc::status_from_fault(&error))?.amount;
        Ok(Response::new(Refund { amount: Some(rpc::Money { amount, currency: "EUR".into() }) }))
    }

    async fn which(&self, _: Request<WhichLedger>) -> Result<Response<Ledger>, Status> {
        Ok(Response::new(Ledger { id: self.ledger.to_string() }))
    }
}

impl Payments {
    /// Whether somebody who pays in this ledger pays here. Whoever names none is older than ledgers, and will be newer.
    fn is_meant(&self, ledger: &str) -> Result<(), Status> {
        if !ledger.is_empty() && id(ledger)? == self.ledger {
            return Ok(());
        }
        // Whoever waits for the right ones asks again and again, and nobody has shown who he is.
        if let Some(more) = self.warning.due(ledger) {
            tracing::warn!(asked = ledger, own = %self.ledger, more, "somebody asks who has paid in another ledger");
        }
        Err(grpc::status_from_fault(&OtherLedger))
    }
}

/// Payments that know nothing of the money that was taken would take it again.
#[derive(Debug, thiserror::Error)]
#[error(
    "these are not the payments that the orders were paid with so far: start those with the data that they had"
)]
struct OtherLedger;

impl Fault for OtherLedger {
    fn kind(&self) -> FaultKind {
        FaultKind::Unavailable
    }

    fn code(&self) -> &str {
        "other-ledger"
    }

    /// What is lacking is the payments that were meant. Nobody's breaker hides that behind its own refusal.
    fn is_of_another(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use purlin::message::{Clock, new_id};
    use purlin::resilience::{Breakers, Calls, Forced, Operator, Policies};
    use purlin::service::{ServeConfig, serve};
    use purlin::store::Store;
    use tokio_util::sync::CancellationToken;
    use tracing::span::{self, Attributes, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::super::card_network::CardNetwork;
    use super::super::till::Till;
    use super::*;
    use crate::contracts::clients::Payments as Asking;
    use crate::contracts::line::Line;
    use crate::contracts::rpc::payments::payments_client::PaymentsClient;

    #[tokio::test]
    async fn whoever_asks_hears_when_the_card_network_may_be_asked_again() {
        let (store, breakers) = (Store::memory(), Breakers::new());
        let calls = Calls::new(Policies::built_in(), &breakers);
        let network = CardNetwork::new(&Store::memory(), &Clock::system()).await.unwrap();
        let till = Till::new(&store, network.clone(), calls.caller("card-network"));
        let held = breakers.find("card-network").unwrap();
        held.force_by(Some(Forced::Open), Operator::new("a test", "the network is away"));

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let ledger = new_id();
        let payments = Payments::new(till, network, ledger);
        let served = serve(listener, router(payments), ServeConfig::default(), stop.clone());
        let asking = async {
            let line = Line::new(&url, calls.caller("payments").without_repeats()).unwrap();
            let asking = Asking::new(line);
            let other = asking.charge(new_id(), "j", new_id(), "tok_ok", Money::eur(100)).await.unwrap_err();
            assert_eq!((other.kind(), other.code()), (FaultKind::Unavailable, "other-ledger"));
            let other = asking.refund(new_id(), "j", new_id()).await.unwrap_err();
            assert_eq!(other.code(), "other-ledger");
            let mut raw = PaymentsClient::connect(url.clone()).await.unwrap();
            let none = raw.charge(grpc::request(ChargeCard::default(), Some("j"))).await.unwrap_err();
            assert_eq!(grpc::fault_from_status(&none).code(), "other-ledger", "one that names none");
            let ledger = asking.ledger().await.unwrap();
            let asked = asking.charge(ledger, "k", new_id(), "tok_ok", Money::eur(100)).await;
            stop.cancel();
            asked.unwrap_err()
        };
        let (_, error) = tokio::join!(served, asking);
        assert_eq!(error.kind(), FaultKind::Unavailable);
        let after = error.retry_after().expect("it says when");
        assert!(after > Duration::from_millis(250) && after < Duration::from_secs(60), "{after:?}");
    }

    /// Counts what is logged.
    #[derive(Clone, Default)]
    struct Lines(Arc<AtomicUsize>);

    impl Subscriber for Lines {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }

        fn record(&self, _: &span::Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

        fn event(&self, event: &Event<'_>) {
            let is_ours = event.metadata().target().ends_with("payments::rpc");
            self.0.fetch_add(usize::from(is_ours), Ordering::Relaxed);
        }

        fn enter(&self, _: &span::Id) {}

        fn exit(&self, _: &span::Id) {}
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_again_and_again_in_another_ledger_is_warned_of_now_and_then() {
        let calls = Calls::new(Policies::built_in(), &Breakers::new());
        let store = Store::memory();
        let network = CardNetwork::new(&Store::memory(), &Clock::system()).await.unwrap();
        let till = Till::new(&store, network.clone(), calls.caller("card-network"));
        let payments = Payments::new(till, network, new_id());
        let lines = Lines::default();
        let _logged = tracing::subscriber::set_default(lines.clone());
        let (one, other) = (new_id().to_string(), new_id().to_string());
        for _ in 0..100 {
            assert!(payments.is_meant(&one).is_err());
        }
        assert_eq!(lines.0.load(Ordering::Relaxed), 1);
        assert!(payments.is_meant(&other).is_err());
        assert_eq!(lines.0.load(Ordering::Relaxed), 2, "one hides nothing of another");
        assert!(payments.is_meant("no id").is_err());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(payments.clone().is_meant(&one).is_err());
        assert_eq!(lines.0.load(Ordering::Relaxed), 3);
    }
}
