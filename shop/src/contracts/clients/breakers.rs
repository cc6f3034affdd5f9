//! Asking another process for its breakers.

use purlin::resilience::Forced;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tonic::metadata::MetadataValue;
use tonic::{Response, Status};

use crate::contracts::line::{Line, LineError};
use crate::contracts::rpc::breakers::breakers_client::BreakersClient;
use crate::contracts::rpc::breakers::{HoldBreaker, ListBreakers, hold_breaker};

/// The breakers of a process, as others see them.
#[derive(Clone)]
pub struct Breakers(pub Line);

/// A breaker of a process, and what becomes of it.
#[derive(Debug, Clone, Copy)]
pub struct Holding<'a> {
    /// Which process it is, as it was [listed](Listed::id): what is at its address by now may be another.
    pub process: &'a str,
    /// The breaker's name.
    pub name: &'a str,
    /// How it is held; none: it decides again.
    pub forced: Option<Forced>,
    /// Why.
    pub why: &'a str,
}

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
        let send = async |channel, request| {
            let listed = BreakersClient::new(channel).list(borne(request, token)).await?.into_inner();
            let items = read(&listed.json)?;
            Ok::<_, Status>(Response::new(Listed { process: listed.process, id: listed.id, items }))
        };
        self.0.call(None, ListBreakers {}, send).await
    }

    /// Holds one, or lets it decide again; how it stands then.
    pub async fn hold(&self, token: &str, holding: Holding<'_>) -> Result<Value, LineError> {
        let Holding { process, name, forced, why } = holding;
        let held = match forced {
            None => hold_breaker::As::Deciding,
            Some(Forced::Open) => hold_breaker::As::Open,
            Some(Forced::Closed) => hold_breaker::As::Closed,
        };
        let (name, reason, id) = (name.to_owned(), why.to_owned(), process.to_owned());
        let asked = HoldBreaker { name, held: held.into(), reason, id };
        let send = async |channel, request| {
            let held = BreakersClient::new(channel).hold(borne(request, token)).await?;
            Ok::<_, Status>(Response::new(read(&held.get_ref().json)?))
        };
        self.0.call(None, asked, send).await
    }
}

/// What a process says in JSON; one whose answer cannot be read has not said that there is nothing.
fn read<T: DeserializeOwned>(json: &str) -> Result<T, Status> {
    serde_json::from_str(json)
        .map_err(|error| Status::internal(format!("its breakers cannot be read: {error}")))
}

/// A request that bears a token.
fn borne<M>(mut request: tonic::Request<M>, token: &str) -> tonic::Request<M> {
    if let Ok(bearer) = MetadataValue::try_from(format!("Bearer {token}")) {
        request.metadata_mut().insert("authorization", bearer);
    }
    request
}
