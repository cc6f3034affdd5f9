//! What the products service answers to other services.

use axum::Router;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use purlin::http::grpc;
use tonic::{Request, Response, Status};

use super::Products;
use super::catalogue::Entry;
use crate::contracts::line::{door, id};
use crate::contracts::rpc::Money;
use crate::contracts::rpc::products::products_server::{self, ProductsServer};
use crate::contracts::rpc::products::{FindProducts, FoundProducts, Product};

/// How many products are read side by side.
const AT_ONCE: usize = 16;

/// The methods of the products service.
pub fn router(products: Products) -> Router {
    door(ProductsServer::new(products))
}

#[tonic::async_trait]
impl products_server::Products for Products {
    async fn find(&self, request: Request<FindProducts>) -> Result<Response<FoundProducts>, Status> {
        let find = async |asked: String| {
            let key = id(&asked)?.to_string();
            let found = self.base.store.get::<Entry>(&key).await;
            let found = found.map_err(|error| grpc::status_from_fault(&error))?;
            Ok::<_, Status>(found.map(|entry| {
                let price = Some(Money { amount: entry.price.amount, currency: "EUR".into() });
                Product { id: key, name: entry.name, price }
            }))
        };
        let found = stream::iter(request.into_inner().ids).map(find).buffered(AT_ONCE);
        let products = found.try_filter_map(async |product| Ok(product)).try_collect().await?;
        Ok(Response::new(FoundProducts { products }))
    }
}
