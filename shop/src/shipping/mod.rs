//! The shipping service: makes the shipment of an order, or cancels it.
//!
//! A shipment is a stream. A cancellation that comes before its shipment makes that refused.

mod choreography;
mod list;
mod rest;
mod rpc;
mod shipment;

use axum::Router;
use purlin::aggregate::Repository;
use purlin::bus::Bus;
use purlin::projection::View;
use purlin::store::Cause;

use crate::contracts::service::{Base, Service};
use list::Shipments;
use shipment::Shipment;

/// The shipping service at work; cheap to clone.
#[derive(Clone)]
struct Shipping {
    shipments: Repository<Shipment>,
    list: View<Shipments>,
}

/// Makes the service.
pub async fn service(base: Base, bus: &Bus) -> Result<Service, Cause> {
    base.store.define::<choreography::Destination>().await?;
    let (shipments, list) =
        (Repository::new(&base.store), View::new(Shipments, &base.store).metrics(&base.metrics));
    let group = choreography::group(bus, &base, &shipments);
    let shipping = Shipping { shipments, list: list.clone() };
    let doors = Router::new().merge(rest::router(shipping.clone())).merge(rpc::router(shipping));
    Ok(base
        .service(doors)
        .task("choreography", move |shutdown| group.run(shutdown))
        .task("list", move |shutdown| list.run(shutdown)))
}
