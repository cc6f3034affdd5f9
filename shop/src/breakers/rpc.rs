//! What each process answers to the one that has the gateway.

use axum::Router;
use purlin::resilience::Forced;
use purlin_gateway::auth::Verifier;
use tonic::{Request, Response, Status};

use super::Here;
use crate::contracts::line::door;
use crate::contracts::rpc::breakers::breakers_server::{self, BreakersServer};
use crate::contracts::rpc::breakers::{HeldBreaker, HoldBreaker, ListBreakers, ListedBreakers, hold_breaker};
use crate::contracts::who::Known;

/// The methods.
pub fn router(here: Here, verifier: Verifier) -> Router {
    door(BreakersServer::new(Answering { here, verifier }))
}

struct Answering {
    here: Here,
    verifier: Verifier,
}

impl Answering {
    /// Who asks: the token of whoever asked the gateway comes along.
    async fn admin<M>(&self, request: &Request<M>) -> Result<Known, Status> {
        let known = Known::of_headers(&self.verifier, request.metadata().as_ref()).await;
        let known = known.map_err(|problem| {
            let said = problem.detail.clone().unwrap_or_else(|| problem.title.clone());
            match problem.status {
                http::StatusCode::UNAUTHORIZED => Status::unauthenticated(said),
                _ => Status::unavailable(said),
            }
        })?;
        let forbidden = || Status::permission_denied("this is for those who run the shop");
        known.is_admin().then_some(known).ok_or_else(forbidden)
    }
}

#[tonic::async_trait]
impl breakers_server::Breakers for Answering {
    async fn list(&self, request: Request<ListBreakers>) -> Result<Response<ListedBreakers>, Status> {
        self.admin(&request).await?;
        let json = serde_json::Value::from(self.here.list()).to_string();
        let (process, id) = (self.here.process.to_owned(), self.here.id.to_string());
        Ok(Response::new(ListedBreakers { process, id, json }))
    }

    async fn hold(&self, request: Request<HoldBreaker>) -> Result<Response<HeldBreaker>, Status> {
        let by = self.admin(&request).await?;
        let asked = request.into_inner();
        let forced = match asked.held() {
            hold_breaker::As::Deciding => None,
            hold_breaker::As::Open => Some(Forced::Open),
            hold_breaker::As::Closed => Some(Forced::Closed),
        };
        let none = || Status::not_found(format!("there is no breaker `{}` here", asked.name));
        let held = self.here.hold(&asked.name, forced, by, &asked.reason).ok_or_else(none)?;
        Ok(Response::new(HeldBreaker { json: held.to_string() }))
    }
}
