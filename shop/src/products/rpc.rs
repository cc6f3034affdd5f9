//! What the products service answers to other services.

use axum::Router;
use purlin::http::grpc;
use tonic::{Request, Response, Status};

use super::Products;
use super::catalogue::Entry;
use crate::contracts::line::{door, id};
use crate::contracts::rpc::Money;
use crate::contracts::rpc::products::products_server::{self, ProductsServer};
use crate::contracts::rpc::products::{FindProducts, FoundProducts, Product};

/// The methods of the products service.
pub fn router(products: Products) -> Router {
    door(ProductsServer::new(products))
}

#[tonic::async_trait]
impl products_server::Products for Products {
    async fn find(&self, request: Request<FindProducts>) -> Result<Response<FoundProducts>, Status> {
        let mut products = Vec::new();
        for asked in request.into_inner().ids {
            let key = id(&asked)?.to_string();
            let found = self.base.store.get::<Entry>(&key).await;
            if let Some(entry) = found.map_err(|error| grpc::status_from_fault(&error))? {
                let price = Some(Money { amount: entry.price.amount, currency: "EUR".into() });
                products.push(Product { id: key, name: entry.name, price });
            }
        }
        Ok(Response::new(FoundProducts { products }))
    }
}
