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
mod purse;
mod rest;
mod rpc;
mod search;
mod stuck;
mod view;

use std::time::Duration;

use axum::Router;
use purlin::aggregate::Repository;
use purlin::bus::Bus;
use purlin::projection::View;
use purlin::saga::Sagas;
use purlin::store::{Cause, Query, Store};

use crate::contracts::clients::{Inventory, Payments, Products, Shipping, Users};
use crate::contracts::service::{Base, Service};
use checkout::Conductor;
use deadline::{Deadline, Deadlines};
use order::Order;
use purse::Purse;
use view::OrdersView;

pub use purse::paid_in;

/// The orders service at work; cheap to clone.
#[derive(Clone)]
struct Orders {
    base: Base,
    orders: Repository<Order>,
    view: View<OrdersView>,
    sagas: Sagas<Conductor>,
    deadlines: Deadlines,
    users: Users,
    products: Products,
    inventory: Inventory,
    /// Whether a checkout may be carried through by events.
    choreographed: bool,
}

/// The terms of checkouts.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// One that is not done within this time is given up.
    pub patience: Duration,
    /// Whether events reach all who have a part in one.
    pub choreographed: bool,
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
}

/// Whom a checkout asks, step by step.
#[derive(Clone)]
pub struct Helpers {
    /// Holds the stock.
    pub inventory: Inventory,
    /// Takes the money.
    pub payments: Payments,
    /// Sends the parcel.
    pub shipping: Shipping,
}

/// Makes the service.
pub async fn service(
    base: Base,
    bus: &Bus,
    others: Others,
    helpers: Helpers,
    terms: Terms,
) -> Result<Service, Cause> {
    base.store.define::<Deadline>().await?;
    let Terms { patience, choreographed } = terms;
    if !choreographed {
        nothing_choreographed(&base.store).await?;
    }
    base.store.define::<progress::Progress>().await?;
    base.store.define::<purse::PaidIn>().await?;
    let Others { users, products, inventory } = others;
    let (orders, view) =
        (Repository::new(&base.store), View::new(OrdersView, &base.store).metrics(&base.metrics));
    let purse = Purse::new(&base.store, helpers.payments.clone());
    let conductor = Conductor { helpers, purse, orders: orders.clone() };
    let sagas = Sagas::new(&base.store, conductor, base.clock.clone())
        .register(checkout::KIND, checkout::function(patience))
        .metrics(&base.metrics, base.name);
    sagas.prepare().await?;
    let deadlines = Deadlines::new(&base.store, &base.clock, &orders, patience);
    let group = choreography::group(bus, &base, &orders);
    let runs = (view.clone(), sagas.clone(), deadlines.clone());
    let stuck = stuck::Stuck::new(&base.store, sagas.directory(), &base.clock);
    let orders = Orders {
        base: base.clone(),
        orders,
        view,
        sagas,
        deadlines,
        users,
        products,
        inventory,
        choreographed,
    };
    let doors = Router::new().merge(rest::router(orders.clone())).merge(rpc::router(orders));
    let (view, sagas, deadlines) = runs;
    Ok(base
        .service(doors)
        .stuck(move |after, limit| stuck.clone().list(after, limit))
        .task("orders_view", move |shutdown| view.run(shutdown))
        .task("sagas", move |shutdown| sagas.clone().run(shutdown))
        .task("choreography", move |shutdown| group.run(shutdown))
        .task("deadlines", move |shutdown| deadlines.clone().run(shutdown)))
}

/// Makes sure that no choreographed checkout would wait for ever for who hears nothing.
async fn nothing_choreographed(store: &Store) -> Result<(), Cause> {
    match store.list::<Deadline>(Query::all().limit(1)).await?.records.is_empty() {
        true => Ok(()),
        false => Err("choreographed checkouts are under way, and no event reaches payments in another process: run them in \
                      this one until those have ended"
            .into()),
    }
}
