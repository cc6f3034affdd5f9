//! The inventory service: how many of each product there are, and for which orders some are held.
//!
//! A product's shelf is a stream, an order's reservation is another; holding all lines of an order is one commit
//! over all of them, and so is giving them back. A release that comes before its reservation makes that refused.

mod choreography;
mod levels;
mod reservation;
mod rest;
mod rpc;
mod shelf;
mod stockroom;

use axum::Router;
use purlin::bus::Bus;
use purlin::projection::View;
use purlin::store::Cause;

use crate::contracts::clients::Products;
use crate::contracts::service::{Base, Service};
use levels::Levels;
use stockroom::Stockroom;

/// The inventory service at work; cheap to clone.
#[derive(Clone)]
struct Inventory {
    base: Base,
    stockroom: Stockroom,
    levels: View<Levels>,
    products: Products,
}

/// Makes the service.
pub async fn service(base: Base, bus: &Bus, products: Products) -> Result<Service, Cause> {
    let (stockroom, clerk) = Stockroom::new(&base.store);
    let levels = View::new(Levels, &base.store).metrics(&base.metrics);
    let inventory = Inventory { base: base.clone(), stockroom, levels: levels.clone(), products };
    let group = choreography::group(bus, &base, &inventory.stockroom);
    let doors = Router::new().merge(rest::router(inventory.clone())).merge(rpc::router(inventory));
    Ok(base
        .service(doors)
        .task("stockroom", move |shutdown| clerk.clone().run(shutdown))
        .task("choreography", move |shutdown| group.run(shutdown))
        .task("levels", move |shutdown| levels.run(shutdown)))
}
