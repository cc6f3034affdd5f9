//! Asking the orders service.

use tonic::metadata::MetadataValue;

use crate::contracts::line::{Line, LineError};
use crate::contracts::rpc::orders::SearchOrders;
use crate::contracts::rpc::orders::orders_client::OrdersClient;

/// The orders service, as others see it.
#[derive(Clone)]
pub struct Orders(pub Line);

impl Orders {
    /// The newest orders that the bearer of a token may see, as a JSON array of rows.
    pub async fn search(
        &self,
        token: &str,
        customer_id: Option<String>,
        status: Option<String>,
    ) -> Result<String, LineError> {
        let bearer = MetadataValue::try_from(format!("Bearer {token}")).ok();
        let send = async |channel, mut request: tonic::Request<SearchOrders>| {
            if let Some(bearer) = &bearer {
                request.metadata_mut().insert("authorization", bearer.clone());
            }
            OrdersClient::new(channel).search(request).await
        };
        self.0.call(None, SearchOrders { customer_id, status }, send).await.map(|found| found.json)
    }
}
