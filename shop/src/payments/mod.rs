//! The payments service: takes money for an order at most once, and gives it back.
//!
//! A payment is a stream. The wish to charge is committed before the card network is asked, and what it answers
//! afterwards, so that a crash in between is only a question that is asked again under the same key. A refund that
//! comes before its charge makes that refused, here and at the network.

pub mod card_network;
mod choreography;
mod errand;
mod payment;
mod rest;
mod rpc;
mod till;

use axum::Router;
use purlin::bus::Bus;
use purlin::resilience::Caller;
use purlin::store::Cause;

use crate::contracts::service::{Base, Service};
use card_network::CardNetwork;
use errand::{Errand, Errands};
use till::Till;

/// The payments service at work; cheap to clone.
#[derive(Clone)]
struct Payments {
    till: Till,
    network: CardNetwork,
}

/// Makes the service; `line` is how it reaches the card network.
pub async fn service(base: Base, bus: &Bus, network: CardNetwork, line: Caller) -> Result<Service, Cause> {
    base.store.define::<Errand>().await?;
    base.store.define::<choreography::Terms>().await?;
    let till = Till::new(&base.store, network.clone(), line);
    let errands = Errands::new(&base.store, &base.clock, &till);
    let group = choreography::group(bus, &base, till.payments());
    let payments = Payments { till, network };
    let doors = Router::new().merge(rest::router(payments.clone())).merge(rpc::router(payments));
    Ok(base
        .service(doors)
        .task("choreography", move |shutdown| group.run(shutdown))
        .task("errands", move |shutdown| errands.clone().run(shutdown)))
}
