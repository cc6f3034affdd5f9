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
        if !asked.id.is_empty() && asked.id != self.here.id.to_string() {
            let other = "the process that is meant is not here any more: another one answers at its address";
            return Err(Status::failed_precondition(other));
        }
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

#[cfg(test)]
mod tests {
    use purlin::message::{Clock, Fault, FaultKind, new_id};
    use purlin::resilience::{BreakerConfig, BreakerState, Breakers, Calls, Policies};
    use purlin::service::{ServeConfig, serve};
    use purlin_gateway::auth::{Claims, Rules, Signer};
    use tokio_util::sync::CancellationToken;
    use tonic::Code;
    use tonic::transport::Channel;

    use super::super::{Peer, Peers};
    use super::*;
    use crate::contracts::clients::{Breakers as Asking, Holding};
    use crate::contracts::line::Line;
    use crate::contracts::rpc::breakers::breakers_client::BreakersClient;

    /// Asks for the list, and to hold one, with this token.
    async fn ask(channel: &Channel, token: Option<&str>) -> [Result<(), Code>; 2] {
        let mut client = BreakersClient::new(channel.clone());
        let held = HoldBreaker {
            name: "payments".into(),
            held: hold_breaker::As::Open.into(),
            reason: "a test".into(),
            id: String::new(),
        };
        let (mut list, mut hold) = (Request::new(ListBreakers {}), Request::new(held));
        if let Some(token) = token {
            let bearer: tonic::metadata::MetadataValue<_> = format!("Bearer {token}").parse().unwrap();
            list.metadata_mut().insert("authorization", bearer.clone());
            hold.metadata_mut().insert("authorization", bearer);
        }
        let code = |status: Status| status.code();
        [client.list(list).await.map(|_| ()).map_err(code), client.hold(hold).await.map(|_| ()).map_err(code)]
    }

    #[tokio::test]
    async fn nobody_but_administrators_sees_breakers_or_holds_them() {
        let breakers = Breakers::new();
        let held = breakers.breaker("payments", BreakerConfig::default());
        let (signer, _) = Signer::generate().unwrap();
        let verifier = Verifier::of(signer.jwks(), Rules::default(), Clock::system());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = router(Here::new("here", &breakers), verifier);
        let stop = CancellationToken::new();
        let served = serve(listener, router, ServeConfig::default(), stop.clone());
        let asking = async {
            let channel = Channel::from_shared(url).unwrap().connect_lazy();
            let token = |role: &str| {
                let mut claims = Claims::new(new_id().to_string(), 4_000_000_000);
                claims.roles = vec![role.to_owned()];
                signer.sign(&claims).unwrap()
            };
            let (unknown, forbidden) = (Err(Code::Unauthenticated), Err(Code::PermissionDenied));
            assert_eq!(ask(&channel, None).await, [unknown, unknown]);
            assert_eq!(ask(&channel, Some("no.token.at-all")).await, [unknown, unknown]);
            assert_eq!(ask(&channel, Some(&token("user"))).await, [forbidden, forbidden]);
            let state = || held.status(tokio::time::Instant::now()).state;
            assert_eq!(state(), BreakerState::Closed);
            assert_eq!(ask(&channel, Some(&token("admin"))).await, [Ok(()), Ok(())]);
            assert_eq!(state(), BreakerState::Open);
            stop.cancel();
        };
        let (_, ()) = tokio::join!(served, asking);
    }

    #[tokio::test]
    async fn one_who_is_meant_is_held_and_not_another_who_answers_at_his_address_by_now() {
        let breakers = Breakers::new();
        let held = breakers.breaker("payments", BreakerConfig::default());
        let (signer, _) = Signer::generate().unwrap();
        let verifier = Verifier::of(signer.jwks(), Rules::default(), Clock::system());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let here = Here::new("here", &breakers);
        let own = here.id.to_string();
        let stop = CancellationToken::new();
        let served = serve(listener, router(here, verifier), ServeConfig::default(), stop.clone());
        let asking = async {
            let calls = Calls::new(Policies::built_in(), &Breakers::new());
            let asking = Asking(Line::new(&url, calls.caller("breakers-here")).unwrap());
            let mut claims = Claims::new(new_id().to_string(), 4_000_000_000);
            claims.roles = vec!["admin".to_owned()];
            let token = signer.sign(&claims).unwrap();
            let listed = asking.list(&token).await.unwrap();
            assert_eq!((&*listed.process, &listed.id, listed.items.len()), ("here", &own, 1));

            let before = new_id().to_string();
            let hold = async |process: &str| {
                let forced = Some(Forced::Open);
                asking.hold(&token, Holding { process, name: "payments", forced, why: "a test" }).await
            };
            let refused = hold(&before).await.unwrap_err();
            assert_eq!(refused.kind(), FaultKind::Conflict);
            assert!(refused.to_string().contains("another one answers"), "{refused}");
            let state = || held.status(tokio::time::Instant::now()).state;
            assert_eq!(state(), BreakerState::Closed);
            assert_eq!(hold(&own).await.unwrap()["forced"], "open");
            assert_eq!(state(), BreakerState::Open);
            stop.cancel();
        };
        let (_, ()) = tokio::join!(served, asking);
    }

    /// A process that speaks of its breakers as nobody understands.
    struct Mumbling;

    #[tonic::async_trait]
    impl breakers_server::Breakers for Mumbling {
        async fn list(&self, _: Request<ListBreakers>) -> Result<Response<ListedBreakers>, Status> {
            let (process, id) = ("there".to_owned(), new_id().to_string());
            Ok(Response::new(ListedBreakers { process, id, json: "[{".to_owned() }))
        }

        async fn hold(&self, _: Request<HoldBreaker>) -> Result<Response<HeldBreaker>, Status> {
            Ok(Response::new(HeldBreaker { json: String::new() }))
        }
    }

    #[tokio::test]
    async fn who_cannot_be_understood_has_not_answered() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let stop = CancellationToken::new();
        let router = door(BreakersServer::new(Mumbling));
        let served = serve(listener, router, ServeConfig::default(), stop.clone());
        let asking = async {
            let calls = Calls::new(Policies::built_in(), &Breakers::new());
            let line = Line::new(&format!("http://{endpoint}"), calls.caller("breakers-there")).unwrap();
            let peer = Peer { role: "there", endpoint: endpoint.clone(), breakers: Asking(line) };
            let peers = Peers::new(Here::new("here", &Breakers::new()), vec![peer]);
            let said = peers.ask("a token").await;
            assert_eq!(said.processes.len(), 1, "but this one");
            let unreached = serde_json::to_value(&said.unreached).unwrap();
            assert_eq!(unreached[0]["endpoint"], endpoint);
            assert!(
                unreached[0]["reason"].as_str().is_some_and(|why| why.contains("cannot be read")),
                "{unreached}"
            );
            stop.cancel();
        };
        let (_, ()) = tokio::join!(served, asking);
    }
}
