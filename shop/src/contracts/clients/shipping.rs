//! Asking the shipping service.

use purlin::message::Uuid;

use crate::contracts::events::ShipTo;
use crate::contracts::line::{Line, LineError};
use crate::contracts::rpc::shipping::shipping_client::ShippingClient;
use crate::contracts::rpc::shipping::{Address, CancelShipment, CreateShipment};

/// The shipping service, as others see it.
#[derive(Clone)]
pub struct Shipping(pub Line);

impl Shipping {
    /// Makes the shipment of an order; its id.
    pub async fn create(&self, key: &str, order_id: Uuid, ship_to: &ShipTo) -> Result<String, LineError> {
        let ShipTo { name, street, city, postcode, country } = ship_to.clone();
        let ship_to = Some(Address { name, street, city, postcode, country });
        let asked = CreateShipment { order_id: order_id.to_string(), ship_to };
        let send = async |channel, request| ShippingClient::new(channel).create(request).await;
        self.0.call(Some(key), asked, send).await.map(|shipment| shipment.id)
    }

    /// Cancels the shipment of an order, and refuses one that comes later.
    pub async fn cancel(&self, key: &str, order_id: Uuid) -> Result<(), LineError> {
        let asked = CancelShipment { order_id: order_id.to_string() };
        let send = async |channel, request| ShippingClient::new(channel).cancel(request).await;
        self.0.call(Some(key), asked, send).await.map(|_| ())
    }
}
