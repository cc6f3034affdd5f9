//! The breaker of a hop: it leaves a service alone, uses it again, is held, and is seen.

use std::net::SocketAddr;
use std::time::Duration;

use http::Response;
use purlin::message::Clock;
use purlin::resilience::{BreakerState, Forced, Operator};
use purlin_gateway::auth::{Claims, Rules, Signer, Verifier, VerifyError};
use purlin_gateway::calls::TOKEN_KEYS;
use purlin_gateway::config::{Config, Pool, Route};
use purlin_gateway::core::Access;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::{ENOUGH, GET, breaker, calls, is_open, may_probe, state};
use crate::world::{PATIENCE, Running, Service, config, dead_address, full, passes};

const OTHER: &str = "GET /other HTTP/1.1\r\nHost: shop\r\n\r\n";

/// Two pools: `/other` goes to the second.
fn beside(service: SocketAddr, other: &Service) -> Config {
    let mut config = config(&[service]);
    config.pools.insert("other".into(), Pool { endpoints: vec![other.address.to_string()] });
    config.routes.push(Route::new("/other", Access::Public, "other"));
    config
}

#[tokio::test]
async fn a_service_that_is_gone_is_left_alone_and_used_again_when_it_is_back() {
    let (service, other) = (Service::named("service").await, Service::named("other").await);
    let address = service.address;
    let (calls, breakers) = calls(json!({ "gateway-service": { "breaker": { "timeout": "2s" } } }));
    let gateway = Running::calling(beside(address, &other), &calls).await;
    assert_eq!(gateway.ask(GET).await.text(), "service");
    drop(service);
    for _ in 0..ENOUGH {
        let answer = gateway.ask(GET).await;
        assert!(matches!(answer.problem().as_str(), "unavailable" | "broke-off"), "{answer:?}");
    }
    is_open(&gateway.ask(GET).await);
    assert_eq!(gateway.ask(OTHER).await.text(), "other");
    assert_eq!(breaker(&breakers, "other").status(Instant::now()).state, BreakerState::Closed);

    let _service =
        Service::on(TcpListener::bind(address).await.unwrap(), |_| async { Response::new(full("back")) });
    may_probe(&breakers).await;
    for _ in 0..2 {
        assert_eq!(gateway.ask(GET).await.text(), "back");
    }
    assert_eq!(state(&breakers), BreakerState::Closed);
}

#[tokio::test]
async fn an_operator_holds_a_hop_open_and_lets_it_go() {
    let service = Service::named("service").await;
    let (calls, breakers) = calls(json!({}));
    let gateway = Running::calling(config(&[service.address]), &calls).await;
    let held = breaker(&breakers, "service");
    held.force_by(Some(Forced::Open), Operator::new("a test", "it is looked at"));
    is_open(&gateway.ask(GET).await);
    assert!(service.got().is_empty());
    held.force_by(None, Operator::new("a test", "it is well"));
    assert_eq!(gateway.ask(GET).await.text(), "service");
}

#[tokio::test]
async fn a_gateway_of_its_own_shows_its_breakers_in_its_numbers() {
    let gateway = Running::start(config(&[dead_address().await])).await;
    for _ in 0..ENOUGH {
        assert_eq!(gateway.ask(GET).await.problem(), "unavailable");
    }
    is_open(&gateway.ask(GET).await);
    let numbers = gateway.metrics.render();
    assert!(numbers.contains("purlin_breaker_state{callee=\"gateway-service\"} 2"), "{numbers}");
    assert!(numbers.contains("gateway_refusals_total{problem=\"circuit-open\"} 1"), "{numbers}");
}

#[tokio::test]
async fn an_issuer_of_keys_that_is_away_is_left_alone_too() {
    let (calls, breakers) = calls(json!({}));
    let url = format!("http://{}/keys", dead_address().await).parse().unwrap();
    let clock = Clock::system();
    let verifier = Verifier::calling(url, Rules::default(), clock, calls.caller(TOKEN_KEYS));
    let held = breakers.find(TOKEN_KEYS).unwrap();
    let mut changes = held.changes();
    // It asks again and again, with pauses that need not be waited for.
    let time = async {
        loop {
            passes(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        () = verifier.keep_fresh() => unreachable!("it asks for ever"),
        () = time => unreachable!("it passes for ever"),
        change = tokio::time::timeout(PATIENCE, changes.next()) => {
            assert_eq!(change.expect("it opens in time").unwrap().to, BreakerState::Open);
        }
    }
    assert_eq!(held.status(Instant::now()).opened, 1);
    // While it is left alone, tokens may hold and nobody can say so.
    let (signer, _) = Signer::generate().unwrap();
    let token = signer.sign(&Claims::new("7", 4_000_000_000)).unwrap();
    assert!(matches!(verifier.verify(&token).await, Err(VerifyError::NoKeys)));
}
