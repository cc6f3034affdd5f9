//! What the shipping service answers to other services.

use axum::Router;
use purlin::http::grpc;
use purlin::message::new_id;
use tonic::{Request, Response, Status};

use super::Shipping;
use super::shipment::{Shipment as State, ShipmentError};
use crate::contracts::events::{Flow, ShipTo, Shipped};
use crate::contracts::line::{door, id};
use crate::contracts::rpc::shipping::shipping_server::{self, ShippingServer};
use crate::contracts::rpc::shipping::{CancelShipment, Cancelled, CreateShipment, Shipment};

/// The methods of the shipping service.
pub fn router(shipping: Shipping) -> Router {
    door(ShippingServer::new(shipping))
}

/// Whoever calls, rather than listens, carries out an orchestrated checkout.
const FLOW: Flow = Flow::Orchestrated;

#[tonic::async_trait]
impl shipping_server::Shipping for Shipping {
    async fn create(&self, request: Request<CreateShipment>) -> Result<Response<Shipment>, Status> {
        let CreateShipment { order_id, ship_to } = request.into_inner();
        let address = ship_to.unwrap_or_default();
        let ship_to = ShipTo {
            name: address.name,
            street: address.street,
            city: address.city,
            postcode: address.postcode,
            country: address.country,
        };
        let shipped = Shipped { flow: FLOW, order_id: id(&order_id)?, shipment_id: new_id() };
        let made =
            self.shipments.update(shipped.order_id, |shipment| shipment.create(shipped, &ship_to)).await;
        match made.map_err(|error| grpc::status_from_fault(&error))?.state() {
            State::Created(shipment_id) => Ok(Response::new(Shipment { id: shipment_id.to_string() })),
            State::Refused(reason) => Err(grpc::status_from_fault(&ShipmentError::Refused(reason.clone()))),
            State::None | State::Cancelled => Err(grpc::status_from_fault(&ShipmentError::Cancelled)),
        }
    }

    async fn cancel(&self, request: Request<CancelShipment>) -> Result<Response<Cancelled>, Status> {
        let order_id = id(&request.into_inner().order_id)?;
        let decide = |shipment: &State| Ok::<_, ShipmentError>(shipment.cancel(FLOW, order_id));
        let cancelled = self.shipments.update(order_id, decide).await;
        cancelled.map_err(|error| grpc::status_from_fault(&error))?;
        Ok(Response::new(Cancelled {}))
    }
}
