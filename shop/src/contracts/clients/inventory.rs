//! Asking the inventory service.

use std::collections::BTreeMap;

use purlin::message::Uuid;

use crate::contracts::events;
use crate::contracts::line::{Line, LineError};
use crate::contracts::rpc::Line as RpcLine;
use crate::contracts::rpc::inventory::inventory_client::InventoryClient;
use crate::contracts::rpc::inventory::{LevelsOf, OpenStock, ReleaseStock, ReserveStock};

/// The inventory service, as others see it.
#[derive(Clone)]
pub struct Inventory(pub Line);

impl Inventory {
    /// Opens the stock of a new product.
    pub async fn open(&self, key: &str, product_id: Uuid, quantity: i64) -> Result<(), LineError> {
        let asked = OpenStock { product_id: product_id.to_string(), quantity };
        let send = async |channel, request| InventoryClient::new(channel).open(request).await;
        self.0.call(Some(key), asked, send).await.map(|_| ())
    }

    /// How many can be ordered of each product that has stock of its own.
    pub async fn levels(&self, product_ids: &[Uuid]) -> Result<BTreeMap<Uuid, i64>, LineError> {
        let asked = LevelsOf { product_ids: product_ids.iter().map(Uuid::to_string).collect() };
        let send = async |channel, request| InventoryClient::new(channel).levels(request).await;
        let levels = self.0.call(None, asked, send).await?.levels.into_iter();
        Ok(levels.filter_map(|level| Some((level.product_id.parse().ok()?, level.available))).collect())
    }

    /// Holds all lines for an order, or none.
    pub async fn reserve(&self, key: &str, order_id: Uuid, lines: &[events::Line]) -> Result<(), LineError> {
        let line = |line: &events::Line| RpcLine {
            product_id: line.product_id.to_string(),
            quantity: line.quantity,
        };
        let asked = ReserveStock { order_id: order_id.to_string(), lines: lines.iter().map(line).collect() };
        let send = async |channel, request| InventoryClient::new(channel).reserve(request).await;
        self.0.call(Some(key), asked, send).await.map(|_| ())
    }

    /// Gives back what is held for an order, and refuses what comes later.
    pub async fn release(&self, key: &str, order_id: Uuid) -> Result<(), LineError> {
        let asked = ReleaseStock { order_id: order_id.to_string() };
        let send = async |channel, request| InventoryClient::new(channel).release(request).await;
        self.0.call(Some(key), asked, send).await.map(|_| ())
    }
}
