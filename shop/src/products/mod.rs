//! The products service: what is for sale, and for how much.
//!
//! A product is a stream; its row in the catalogue is written in the same commit, so that who has made a product
//! finds it. How many there are is asked of the inventory, which opens a product's stock before there is a product.

mod catalogue;
mod product;
mod rest;
mod rpc;
mod seed;

use axum::Router;
use purlin::aggregate::Repository;
use purlin::store::Cause;

use crate::contracts::clients::Inventory;
use crate::contracts::service::{Base, Service};
use catalogue::Entry;
use product::Product;

/// The products service at work; cheap to clone.
#[derive(Clone)]
struct Products {
    base: Base,
    products: Repository<Product>,
    inventory: Inventory,
}

/// Makes the service; on first start it fills its catalogue before it is ready.
pub async fn service(base: Base, inventory: Inventory) -> Result<Service, Cause> {
    base.store.define::<Entry>().await?;
    base.store.define::<seed::Seeded>().await?;
    let products = Products { base: base.clone(), products: Repository::new(&base.store), inventory };
    let doors = Router::new().merge(rest::router(products.clone())).merge(rpc::router(products.clone()));
    Ok(base.service(doors).first(move || {
        let products = products.clone();
        async move { products.first_catalogue().await }
    }))
}
