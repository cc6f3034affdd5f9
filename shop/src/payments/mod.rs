//! The payments service: takes money for an order at most once, and gives it back.
//!
//! A payment is a stream. The wish to charge is committed before the card network is asked, and what it answers
//! afterwards, so that a crash in between is only a question that is asked again under the same key. A refund that
//! comes before its charge makes that refused, here and at the network.

pub mod card_network;
mod choreography;
mod errand;
mod ledger;
mod payment;
mod rest;
mod rpc;
mod till;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use purlin::bus::Bus;
use purlin::message::Uuid;
use purlin::resilience::Caller;
use purlin::store::{Cause, Query, Store};
use purlin::telemetry::RarelyEach;

use crate::contracts::service::{Base, Service};
use card_network::CardNetwork;
use choreography::Terms;
use errand::{Errand, Errands};
use till::Till;

pub use ledger::Known as KnownLedger;

/// The payments service at work; cheap to clone.
#[derive(Clone)]
struct Payments {
    till: Till,
    network: CardNetwork,
    ledger: Uuid,
    /// Warns of those who have paid elsewhere, each now and then.
    warning: Arc<RarelyEach>,
}

impl Payments {
    fn new(till: Till, network: CardNetwork, ledger: Uuid) -> Self {
        let warning = Arc::new(RarelyEach::every(Duration::from_secs(1)));
        Self { till, network, ledger, warning }
    }
}

/// Makes the service; `line` is how it reaches the card network. Without a bus it carries out what it is asked for, and
/// no more: all of an orchestrated checkout.
pub async fn service(
    base: Base,
    bus: Option<&Bus>,
    (network, line): (CardNetwork, Caller),
    known: KnownLedger,
) -> Result<Service, Cause> {
    let ledger = ledger::of(&base.store, known).await?;
    base.store.define::<Errand>().await?;
    base.store.define::<Terms>().await?;
    let till = Till::new(&base.store, network.clone(), line);
    let choreographed = match bus {
        Some(bus) => {
            let errands = Errands::new(&base.store, &base.clock, &till);
            let unknown_until = ledger::unknown_until(&base.store).await?;
            Some((choreography::group(bus, &base, till.payments(), unknown_until), errands))
        }
        None => {
            nothing_choreographed(&base.store).await?;
            None
        }
    };
    let payments = Payments::new(till, network, ledger);
    let doors = Router::new().merge(rest::router(payments.clone())).merge(rpc::router(payments));
    let service = base.service(doors);
    let Some((group, errands)) = choreographed else { return Ok(service) };
    Ok(service
        .task("choreography", move |shutdown| group.run(shutdown))
        .task("errands", move |shutdown| errands.clone().run(shutdown)))
}

/// Makes sure that no choreographed checkout waits for what nobody would hear of.
async fn nothing_choreographed(store: &Store) -> Result<(), Cause> {
    let one = || Query::all().limit(1);
    let (terms, errands) = (store.list::<Terms>(one()).await?, store.list::<Errand>(one()).await?);
    match terms.records.is_empty() && errands.records.is_empty() {
        true => Ok(()),
        false => Err("choreographed checkouts wait for these payments, and no event reaches another process: run them \
                      in the process that has the orders until those have ended"
            .into()),
    }
}
