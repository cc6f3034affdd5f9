//! The orders service: what customers order, and how it is carried through.
//!
//! An order is a stream. Submitting it commits the event together with the start of its checkout: an orchestrated
//! one is a [saga](checkout) in this service that calls the others, a choreographed one is announced to them and
//! [followed](choreography) by what they say. Lists come from a [read model](view).

mod checkout;
mod choreography;
mod deadline;
mod history;
mod order;
mod progress;
mod rest;
mod rpc;
mod search;
mod view;

use std::time::Duration;

use axum::Router;
use purlin::aggregate::Repository;
use purlin::bus::Bus;
use purlin::projection::View;
use purlin::resilience::Breakers;
use purlin::saga::Sagas;
use purlin::store::Cause;

use crate::contracts::clients::{Inventory, Payments, Products, Shipping, Users};
use crate::contracts::service::{Base, Service};
use checkout::Helpers;
use deadline::{Deadline, Deadlines};
use order::Order;
use view::OrdersView;

/// The orders service at work; cheap to clone.
#[derive(Clone)]
struct Orders {
    base: Base,
    orders: Repository<Order>,
    view: View<OrdersView>,
    sagas: Sagas<Helpers>,
    deadlines: Deadlines,
    users: Users,
    products: Products,
    inventory: Inventory,
    breakers: Breakers,
}

/// Whom the orders service asks.
#[derive(Clone)]
pub struct Others {
    /// Who customers are.
    pub users: Users,
    /// What is for sale.
    pub products: Products,
    /// How many there are.
    pub inventory: Inventory,
    /// What is paid.
    pub payments: Payments,
    /// What is sent.
    pub shipping: Shipping,
}

/// Makes the service; a checkout that is not done within `patience` is given up.
pub async fn service(
    base: Base,
    bus: &Bus,
    others: Others,
    breakers: Breakers,
    patience: Duration,
) -> Result<Service, Cause> {
    base.store.define::<Deadline>().await?;
    base.store.define::<progress::Progress>().await?;
    let Others { users, products, inventory, payments, shipping } = others;
    let (orders, view) = (Repository::new(&base.store), View::new(OrdersView, &base.store));
    let helpers = Helpers { inventory: inventory.clone(), payments, shipping, orders: orders.clone() };
    let sagas = Sagas::new(&base.store, helpers, base.clock.clone())
        .register(checkout::KIND, checkout::function(patience));
    sagas.prepare().await?;
    let deadlines = Deadlines::new(&base.store, &base.clock, &orders, patience);
    let group = choreography::group(bus, &base, &orders);
    let runs = (view.clone(), sagas.clone(), deadlines.clone());
    let orders =
        Orders { base: base.clone(), orders, view, sagas, deadlines, users, products, inventory, breakers };
    let doors = Router::new().merge(rest::router(orders.clone())).merge(rpc::router(orders));
    let (view, sagas, deadlines) = runs;
    Ok(base
        .service(doors)
        .task("orders_view", move |shutdown| view.run(shutdown))
        .task("sagas", move |shutdown| sagas.clone().run(shutdown))
        .task("choreography", move |shutdown| group.run(shutdown))
        .task("deadlines", move |shutdown| deadlines.clone().run(shutdown)))
}

pub use deadline::Deadline as OverdueCheckout;
