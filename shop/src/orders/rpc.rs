//! What the orders service answers to other services.

use axum::Router;
use purlin::http::grpc;
use tonic::{Request, Response, Status};

use super::Orders;
use super::order::Status as OrderStatus;
use super::search::Wanted;
use crate::contracts::line::{door, id};
use crate::contracts::rpc::orders::orders_server::{self, OrdersServer};
use crate::contracts::rpc::orders::{FoundOrders, SearchOrders};
use crate::contracts::who::Known;

/// The methods of the orders service.
pub fn router(orders: Orders) -> Router {
    door(OrdersServer::new(orders))
}

#[tonic::async_trait]
impl orders_server::Orders for Orders {
    async fn search(&self, request: Request<SearchOrders>) -> Result<Response<FoundOrders>, Status> {
        let known = Known::of_headers(&self.base.verifier, request.metadata().as_ref()).await;
        let known = known.map_err(|problem| {
            Status::unauthenticated(problem.detail.clone().unwrap_or_else(|| problem.title.clone()))
        })?;
        let SearchOrders { customer_id, status } = request.into_inner();
        let user_id = customer_id.as_deref().map(id).transpose()?;
        let status = status.as_deref().map(OrderStatus::named).transpose();
        let status = status.map_err(Status::invalid_argument)?;
        let wanted = Wanted { status, user_id, ..Wanted::default() };
        let found = Orders::search(self, known, wanted).await;
        let found = found.map_err(|error| grpc::status_from_fault(&error))?;
        let rows: Vec<_> = found.items.into_iter().map(|(_, row)| row).collect();
        let json =
            serde_json::to_string(&rows).map_err(|_| Status::internal("the orders cannot be written"))?;
        Ok(Response::new(FoundOrders { json }))
    }
}
