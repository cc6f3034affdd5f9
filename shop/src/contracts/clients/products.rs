//! Asking the products service.

use std::collections::BTreeMap;

use purlin::message::Uuid;

use crate::contracts::line::{Line, LineError};
use crate::contracts::money::Money;
use crate::contracts::rpc::products::FindProducts;
use crate::contracts::rpc::products::products_client::ProductsClient;

/// The products service, as others see it.
#[derive(Clone)]
pub struct Products(pub Line);

/// A product, as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// What it is called.
    pub name: String,
    /// What it costs.
    pub price: Money,
}

impl Products {
    /// The products that exist among those asked for.
    pub async fn find(&self, ids: &[Uuid]) -> Result<BTreeMap<Uuid, Product>, LineError> {
        let asked = FindProducts { ids: ids.iter().map(Uuid::to_string).collect() };
        let send = async |channel, request| ProductsClient::new(channel).find(request).await;
        let found = self.0.call(None, asked, send).await?;
        let products = found.products.into_iter().filter_map(|product| {
            let price = Money::eur(product.price.unwrap_or_default().amount);
            Some((product.id.parse().ok()?, Product { name: product.name, price }))
        });
        Ok(products.collect())
    }
}
