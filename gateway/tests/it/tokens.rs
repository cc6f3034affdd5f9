//! Tokens, and the keys that come and go.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Response;
use purlin::message::{Clock, Timestamp};
use purlin_gateway::auth::{Claims, Jwks, Rules, Signer, Verifier, VerifyError};
use purlin_gateway::config::{Config, Rate, Route, Tokens};
use purlin_gateway::core::Access;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, KeyPair as _, RsaKeyPair, RsaPublicKeyComponents};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::world::{Answer, Running, Service, config, dead_address, full};

const NOW: i64 = 1_800_000_000;

/// An issuer whose published keys can be changed.
struct Issuer {
    service: Service,
    document: Arc<Mutex<Value>>,
}

impl Issuer {
    async fn start(document: Value) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), document)
    }

    fn on(listener: TcpListener, document: Value) -> Self {
        let document = Arc::new(Mutex::new(document));
        let published = Arc::clone(&document);
        let service = Service::on(listener, move |_| {
            let body = full(published.lock().unwrap().to_string());
            async { Response::new(body) }
        });
        Self { service, document }
    }

    fn url(&self) -> String {
        format!("http://{}/.well-known/jwks.json", self.service.address)
    }
}

fn guarded(service: &Service, jwks_url: String) -> Config {
    let mut config = config(&[service.address]);
    config.routes = vec![
        Route::new("/", Access::Public, "service"),
        Route::new("/mine", Access::Authenticated, "service"),
        Route::new("/admin", Access::Role("admin".into()), "service"),
    ];
    config.tokens = Some(Tokens { jwks_url, issuer: Some("users".into()), audience: None, skew_s: 0 });
    config
}

fn claims(sub: &str, roles: &[&str]) -> Claims {
    let roles = roles.iter().map(|role| (*role).to_owned()).collect();
    Claims { iss: Some("users".into()), roles, ..Claims::new(sub, NOW + 3600) }
}

async fn ask(gateway: &Running, path: &str, token: &str) -> Answer {
    gateway.ask(format!("GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n")).await
}

fn clock() -> Clock {
    Clock::manual(Timestamp::from_second(NOW).unwrap()).0
}

#[tokio::test]
async fn a_token_opens_what_its_bearer_may_see() {
    let (signer, _) = Signer::generate().unwrap();
    let issuer = Issuer::start(signer.document()).await;
    let service = Service::named("service").await;
    let gateway = Running::with_clock(guarded(&service, issuer.url()), clock()).await;
    let user = signer.sign(&claims("7", &["user"])).unwrap();
    let admin = signer.sign(&claims("1", &["admin"])).unwrap();
    assert_eq!(ask(&gateway, "/mine", &user).await.status, 200);
    assert_eq!(service.only().header("authorization"), Some(format!("Bearer {user}").as_str()));
    let refused = ask(&gateway, "/admin", &user).await;
    assert_eq!((refused.status, refused.problem().as_str()), (403, "forbidden"));
    assert_eq!(ask(&gateway, "/admin", &admin).await.status, 200);
    let nobody = gateway.ask("GET /mine HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!((nobody.status, nobody.problem().as_str()), (401, "unauthorized"));
}

#[tokio::test]
async fn a_token_that_does_not_hold_is_401_where_one_is_needed() {
    let ((signer, _), (stranger, _)) = (Signer::generate().unwrap(), Signer::generate().unwrap());
    let issuer = Issuer::start(signer.document()).await;
    let service = Service::named("service").await;
    let gateway = Running::with_clock(guarded(&service, issuer.url()), clock()).await;
    let good = claims("7", &[]);
    let expired = signer.sign(&Claims { exp: NOW, ..good.clone() }).unwrap();
    let foreign = stranger.sign(&good).unwrap();
    let other_issuer = signer.sign(&Claims { iss: Some("them".into()), ..good.clone() }).unwrap();
    let unsigned = format!(
        "{}.{}.",
        URL_SAFE_NO_PAD.encode(json!({ "alg": "none", "kid": signer.kid() }).to_string()),
        URL_SAFE_NO_PAD.encode(serde_json::to_string(&good).unwrap())
    );
    for token in [expired.as_str(), &foreign, &other_issuer, &unsigned, "", "x", "a.b.c"] {
        let answer = ask(&gateway, "/mine", token).await;
        assert_eq!((answer.status, answer.problem().as_str()), (401, "unauthorized"), "{token}");
        assert!(!answer.text().contains(signer.kid()), "no secret of ours belongs in an answer");
    }
    assert!(service.got().is_empty());
    assert_eq!(ask(&gateway, "/", &expired).await.status, 200);
    let basic = gateway.ask("GET /mine HTTP/1.1\r\nHost: a\r\nAuthorization: Basic YTpi\r\n\r\n").await;
    assert_eq!(basic.status, 401);
}

#[tokio::test]
async fn users_have_shares_of_their_own() {
    let (signer, _) = Signer::generate().unwrap();
    let issuer = Issuer::start(signer.document()).await;
    let service = Service::named("service").await;
    let mut config = guarded(&service, issuer.url());
    config.rate = Some(Rate { per_second: 1, burst: 3 });
    let gateway = Running::with_clock(config, clock()).await;
    let token = |sub: &str| signer.sign(&claims(sub, &[])).unwrap();
    let (a, b, c) = (token("a"), token("b"), token("c"));
    for status in [200, 200, 200, 429] {
        assert_eq!(ask(&gateway, "/mine", &a).await.status, status);
    }
    assert_eq!(ask(&gateway, "/mine", &b).await.status, 200);
    // Nobody's share is spent by those without a token at his address,
    for status in [200, 200, 200, 429] {
        assert_eq!(gateway.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.status, status);
    }
    assert_eq!(ask(&gateway, "/mine", &c).await.status, 200);
    // and who makes up tokens gets no further than so many.
    for status in [429, 429, 429] {
        assert_eq!(ask(&gateway, "/mine", "made.up.token").await.status, status);
    }
    assert_eq!(ask(&gateway, "/mine", &token("d")).await.status, 429);
    assert_eq!(ask(&gateway, "/mine", &b).await.status, 200);
}

#[tokio::test]
async fn many_users_behind_one_address_are_all_let_in() {
    let (signer, _) = Signer::generate().unwrap();
    let issuer = Issuer::start(signer.document()).await;
    let service = Service::named("service").await;
    let mut config = guarded(&service, issuer.url());
    config.rate = Some(Rate { per_second: 1, burst: 2 });
    let gateway = Running::with_clock(config, clock()).await;
    for user in 0..20 {
        let token = signer.sign(&claims(&user.to_string(), &[])).unwrap();
        assert_eq!(ask(&gateway, "/mine", &token).await.status, 200, "{user}");
    }
}

#[tokio::test]
async fn what_nobody_could_answer_counts_as_well() {
    let service = Service::named("service").await;
    let mut config = config(&[service.address]);
    config.rate = Some(Rate { per_second: 1, burst: 2 });
    let gateway = Running::start(config).await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(gateway.ask("BREW / HTTP/1.1\r\nHost: a\r\n\r\n").await.status);
    }
    assert_eq!(statuses, [501, 501, 429]);
}

/// Only timers are moved; the sockets are real.
#[tokio::test]
async fn a_new_key_is_found_and_the_old_one_forgotten() {
    let ((old, _), (new, _)) = (Signer::generate().unwrap(), Signer::generate().unwrap());
    let issuer = Issuer::start(old.document()).await;
    let verifier = Verifier::from_url(issuer.url().parse().unwrap(), Rules::default(), clock());
    let token = |signer: &Signer| signer.sign(&claims("7", &[])).unwrap();
    verifier.verify(&token(&old)).await.unwrap();

    *issuer.document.lock().unwrap() = new.document();
    // Right after a fetch a token with another key cannot make us fetch again.
    let early = verifier.verify(&token(&new)).await;
    assert!(matches!(early, Err(VerifyError::Invalid(_))), "{early:?}");
    assert_eq!(issuer.service.got().len(), 1);

    after(5).await;
    verifier.verify(&token(&new)).await.unwrap();
    assert_eq!(issuer.service.got().len(), 2);
    let gone = verifier.verify(&token(&old)).await;
    assert!(matches!(gone, Err(VerifyError::Invalid(_))), "{gone:?}");
}

#[tokio::test]
async fn the_last_good_keys_hold_while_the_issuer_is_away_or_talks_nonsense() {
    let ((signer, _), (other, _)) = (Signer::generate().unwrap(), Signer::generate().unwrap());
    let issuer = Issuer::start(signer.document()).await;
    let verifier = Verifier::from_url(issuer.url().parse().unwrap(), Rules::default(), clock());
    let known = signer.sign(&claims("7", &[])).unwrap();
    verifier.verify(&known).await.unwrap();
    for nonsense in
        [json!({}), json!("x"), json!({ "keys": [] }), json!({ "keys": [{ "kty": "oct", "k": "AA" }] })]
    {
        *issuer.document.lock().unwrap() = nonsense;
        after(5).await;
        // A key that is not known may be one that could not be had.
        let unknown = verifier.verify(&other.sign(&claims("7", &[])).unwrap()).await;
        assert!(matches!(unknown, Err(VerifyError::NoKeys)), "{unknown:?}");
        verifier.verify(&signer.sign(&claims("8", &[])).unwrap()).await.unwrap();
    }
    drop(issuer);
    after(5).await;
    verifier.verify(&signer.sign(&claims("9", &[])).unwrap()).await.unwrap();
}

#[tokio::test]
async fn many_callers_with_an_unknown_key_cause_one_fetch() {
    let ((signer, _), (stranger, _)) = (Signer::generate().unwrap(), Signer::generate().unwrap());
    let issuer = Issuer::start(signer.document()).await;
    let verifier = Verifier::from_url(issuer.url().parse().unwrap(), Rules::default(), clock());
    let token = stranger.sign(&claims("7", &[])).unwrap();
    let all = futures_util::future::join_all((0..50).map(|_| verifier.verify(&token))).await;
    assert!(all.iter().all(|one| matches!(one, Err(VerifyError::Invalid(_)))));
    assert_eq!(issuer.service.got().len(), 1);
}

#[tokio::test]
async fn without_keys_the_gateway_is_not_ready_and_says_503_until_they_come() {
    let (signer, _) = Signer::generate().unwrap();
    let address = dead_address().await;
    let service = Service::named("service").await;
    let gateway = Running::with_clock(guarded(&service, format!("http://{address}/keys")), clock()).await;
    let token = signer.sign(&claims("7", &[])).unwrap();
    let answer = ask(&gateway, "/mine", &token).await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "unavailable"));
    assert_eq!(ask(&gateway, "/", &token).await.status, 200);
    assert!(gateway.gateway.readiness().is_err());
    assert_eq!(gateway.ask("GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n").await.status, 503);

    let _issuer = Issuer::on(TcpListener::bind(address).await.unwrap(), signer.document());
    let back = async {
        while gateway.ask("GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n").await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::world::PATIENCE, back).await.expect("the keys are fetched without a request");
    assert_eq!(ask(&gateway, "/mine", &token).await.status, 200);
}

#[tokio::test]
async fn es256_and_rs256_tokens_hold_by_their_own_keys_only() {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let ec = EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random)
        .unwrap();
    let rsa = RsaKeyPair::from_pkcs8(include_bytes!("rsa-2048.pk8")).unwrap();
    let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let (point, public) = (ec.public_key().as_ref(), RsaPublicKeyComponents::<Vec<u8>>::from(rsa.public()));
    let keys = json!({ "keys": [
        { "kty": "EC", "crv": "P-256", "kid": "ec", "x": b64(&point[1..33]), "y": b64(&point[33..]) },
        { "kty": "RSA", "kid": "rsa", "n": b64(&public.n), "e": b64(&public.e) },
    ]});
    let keys = Jwks::parse(keys.to_string().as_bytes()).unwrap();
    let verifier = Verifier::of(keys, Rules::default(), clock());
    let token = |alg: &str, kid: &str| {
        let header = b64(json!({ "alg": alg, "kid": kid }).to_string().as_bytes());
        let message =
            format!("{header}.{}", b64(serde_json::to_string(&claims("7", &[])).unwrap().as_bytes()));
        let signature = if alg == "ES256" {
            ec.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec()
        } else {
            let mut signature = vec![0; rsa.public().modulus_len()];
            rsa.sign(&signature::RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).unwrap();
            signature
        };
        format!("{message}.{}", b64(&signature))
    };
    assert_eq!(verifier.verify(&token("ES256", "ec")).await.unwrap().sub, "7");
    assert_eq!(verifier.verify(&token("RS256", "rsa")).await.unwrap().sub, "7");
    for (alg, kid) in
        [("ES256", "rsa"), ("RS256", "ec"), ("RS512", "rsa"), ("PS256", "rsa"), ("HS256", "rsa")]
    {
        assert!(verifier.verify(&token(alg, kid)).await.is_err(), "{alg} {kid}");
    }
}

/// Lets `seconds` pass for timers only.
async fn after(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(seconds)).await;
    tokio::time::resume();
}
