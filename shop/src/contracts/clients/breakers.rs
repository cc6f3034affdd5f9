//! Asking another process for its breakers.

use purlin::resilience::Forced;
use serde_json::Value;
use tonic::metadata::MetadataValue;

use crate::contracts::line::{Line, LineError};
use crate::contracts::rpc::breakers::breakers_client::BreakersClient;
use crate::contracts::rpc::breakers::{HoldBreaker, ListBreakers, hold_breaker};

/// The breakers of a process, as others see them.
#[derive(Clone)]
pub struct Breakers(pub Line);

/// What a process says of its breakers.
#[derive(Debug, Clone)]
pub struct Listed {
    /// What the process is called.
    pub process: String,
    /// Which process it is.
    pub id: String,
    /// How they stand.
    pub items: Vec<Value>,
}

impl Breakers {
    /// How they stand; for the bearer of a token.
    pub async fn list(&self, token: &str) -> Result<Listed, LineError> {
        let send = async |channel, request| BreakersClient::new(channel).list(borne(request, token)).await;
        let listed = self.0.call(None, ListBreakers {}, send).await?;
        let items = serde_json::from_str(&listed.json).unwrap_or_default();
        Ok(Listed { process: listed.process, id: listed.id, items })
    }

    /// Holds one, or lets it decide again; how it stands then.
    pub async fn hold(
        &self,
        token: &str,
        name: &str,
        forced: Option<Forced>,
        why: &str,
    ) -> Result<Value, LineError> {
        let held = match forced {
            None => hold_breaker::As::Deciding,
            Some(Forced::Open) => hold_breaker::As::Open,
            Some(Forced::Closed) => hold_breaker::As::Closed,
        };
        let asked = HoldBreaker { name: name.to_owned(), held: held.into(), reason: why.to_owned() };
        let send = async |channel, request| BreakersClient::new(channel).hold(borne(request, token)).await;
        let held = self.0.call(None, asked, send).await?;
        Ok(serde_json::from_str(&held.json).unwrap_or_default())
    }
}

/// A request that bears a token.
fn borne<M>(mut request: tonic::Request<M>, token: &str) -> tonic::Request<M> {
    if let Ok(bearer) = MetadataValue::try_from(format!("Bearer {token}")) {
        request.metadata_mut().insert("authorization", bearer);
    }
    request
}
