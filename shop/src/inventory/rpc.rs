//! What the inventory service answers to other services.

use std::collections::HashSet;

use axum::Router;
use purlin::http::grpc;
use tonic::{Request, Response, Status};

use super::Inventory;
use crate::contracts::events::{Flow, Line};
use crate::contracts::line::{door, id};
use crate::contracts::numbers::MOST_LINES;
use crate::contracts::rpc::Line as RpcLine;
use crate::contracts::rpc::inventory::inventory_server::{self, InventoryServer};
use crate::contracts::rpc::inventory::{
    Level, LevelList, LevelsOf, OpenStock, ReleaseStock, Released, ReserveStock, Reserved,
};

/// The methods of the inventory service.
pub fn router(inventory: Inventory) -> Router {
    door(InventoryServer::new(inventory))
}

/// Whoever calls, rather than listens, carries out an orchestrated checkout.
const FLOW: Flow = Flow::Orchestrated;

#[tonic::async_trait]
impl inventory_server::Inventory for Inventory {
    async fn open(&self, request: Request<OpenStock>) -> Result<Response<Level>, Status> {
        let OpenStock { product_id, quantity } = request.into_inner();
        let opened = self.stockroom.open(id(&product_id)?, quantity).await;
        let available = opened.map_err(|error| grpc::status_from_fault(&error))?;
        Ok(Response::new(Level { product_id, available }))
    }

    async fn levels(&self, request: Request<LevelsOf>) -> Result<Response<LevelList>, Status> {
        let asked = request.into_inner().product_ids;
        let ids = asked.iter().map(|product_id| id(product_id)).collect::<Result<Vec<_>, _>>()?;
        let found = self.stockroom.levels(&ids).await.map_err(|error| grpc::status_from_fault(&error))?;
        let level =
            |(id, available): (purlin::message::Uuid, i64)| Level { product_id: id.to_string(), available };
        Ok(Response::new(LevelList { levels: found.into_iter().map(level).collect() }))
    }

    async fn reserve(&self, request: Request<ReserveStock>) -> Result<Response<Reserved>, Status> {
        let ReserveStock { order_id, lines } = request.into_inner();
        let lines = checked(&lines)?;
        let reserved = self.stockroom.reserve(FLOW, id(&order_id)?, &lines).await;
        reserved.map_err(|error| grpc::status_from_fault(&error))?;
        Ok(Response::new(Reserved { order_id }))
    }

    async fn release(&self, request: Request<ReleaseStock>) -> Result<Response<Released>, Status> {
        let released = self.stockroom.release(FLOW, id(&request.into_inner().order_id)?).await;
        released.map_err(|error| grpc::status_from_fault(&error))?;
        Ok(Response::new(Released {}))
    }
}

/// Lines as an order has them: not too many, each of another product, none of nothing.
fn checked(lines: &[RpcLine]) -> Result<Vec<Line>, Status> {
    if lines.len() > MOST_LINES {
        return Err(Status::invalid_argument(format!("an order has at most {MOST_LINES} lines")));
    }
    let mut seen = HashSet::new();
    let line = |line: &RpcLine| {
        let product_id = id(&line.product_id)?;
        if line.quantity == 0 || !seen.insert(product_id) {
            let why = format!("product {product_id}: one line of at least one is needed");
            return Err(Status::invalid_argument(why));
        }
        Ok(Line { product_id, quantity: line.quantity })
    };
    lines.iter().map(line).collect()
}
