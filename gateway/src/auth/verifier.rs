//! Tokens in, claims out: the handle that the gateway and the services hold.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use purlin::message::{Clock, Fault, FaultKind};
use purlin::resilience::{Breakers, Caller, Calls, Policies, deadline};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::cache::Cache;
use super::remote::{KeysUrl, fetch};
use super::{Claims, Jwks, Rules, TokenError, token};
use crate::calls::{TOKEN_KEYS, section};

/// Verifies tokens; cheap to clone.
///
/// With keys [from a URL](Verifier::from_url) they are fetched when a token first needs them, again when a token
/// names a key that is not known (at most once in 5 s), and every 5 minutes while [`keep_fresh`](Self::keep_fresh)
/// runs. While the issuer is away, the last good keys go on holding.
#[derive(Debug, Clone)]
pub struct Verifier {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    rules: Rules,
    clock: Clock,
    held: RwLock<Held>,
    cache: Cache,
    source: Option<Source>,
}

/// The keys at present; the epoch counts how often they changed.
#[derive(Debug, Clone, Default)]
struct Held {
    keys: Arc<Jwks>,
    epoch: u64,
}

#[derive(Debug)]
struct Source {
    url: KeysUrl,
    /// How the issuer is called.
    caller: Caller,
    /// Held while fetching, so that only one does.
    last: Mutex<Option<Attempt>>,
}

#[derive(Debug, Clone, Copy)]
struct Attempt {
    at: Instant,
    succeeded: bool,
}

impl Attempt {
    /// Until when nobody need try again.
    fn rests_until(self) -> Instant {
        self.at + if self.succeeded { MIN_INTERVAL } else { RETRY_INTERVAL }
    }
}

const CACHED_TOKENS: usize = 10_000;
const MIN_INTERVAL: Duration = Duration::from_secs(5);
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
const REFRESH_INTERVAL: Duration = Duration::from_secs(300);

/// A token was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It does not hold, and never will here: the caller needs another one.
    #[error("{0}")]
    Invalid(TokenError),
    /// The key it names could not be asked for: it may hold.
    #[error("the keys to verify the token with cannot be had at the moment")]
    NoKeys,
}

impl Fault for VerifyError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Invalid(_) => FaultKind::Rejected,
            Self::NoKeys => FaultKind::Unavailable,
        }
    }

    fn code(&self) -> &str {
        match self {
            Self::Invalid(_) => "unauthorized",
            Self::NoKeys => "unavailable",
        }
    }

    fn is_of_another(&self) -> bool {
        matches!(self, Self::NoKeys)
    }
}

impl Verifier {
    /// Verifies with keys that never change.
    pub fn of(keys: Jwks, rules: Rules, clock: Clock) -> Self {
        Self::new(keys, rules, clock, None)
    }

    /// Verifies with the keys that an issuer publishes.
    pub fn from_url(url: KeysUrl, rules: Rules, clock: Clock) -> Self {
        let policies = Policies::built_in().with("the gateway", section([]));
        let calls = Calls::new(policies.expect("our own policies make sense"), &Breakers::new());
        Self::calling(url, rules, clock, calls.caller(TOKEN_KEYS))
    }

    /// Verifies with the keys that an issuer publishes, who is called as `caller` says.
    pub fn calling(url: KeysUrl, rules: Rules, clock: Clock, caller: Caller) -> Self {
        Self::new(Jwks::default(), rules, clock, Some(Source { url, caller, last: Mutex::new(None) }))
    }

    fn new(keys: Jwks, rules: Rules, clock: Clock, source: Option<Source>) -> Self {
        let held = RwLock::new(Held { keys: Arc::new(keys), epoch: 1 });
        Self { shared: Arc::new(Shared { rules, clock, held, cache: Cache::new(CACHED_TOKENS), source }) }
    }

    /// The claims of a token that holds now.
    pub async fn verify(&self, token: &str) -> Result<Arc<Claims>, VerifyError> {
        match (self.verify_with_held(token), &self.shared.source) {
            (Err(TokenError::UnknownKey), Some(source)) => self.verify_with_new(token, source).await,
            (result, _) => result.map_err(VerifyError::Invalid),
        }
    }

    /// The claims of a token that was verified before and holds now: what costs next to nothing to say.
    pub(crate) fn verified(&self, token: &str) -> Option<Arc<Claims>> {
        let claims = self.shared.cache.get(token, self.held().epoch)?;
        self.shared.rules.check(&claims, self.shared.clock.now().as_second()).is_ok().then_some(claims)
    }

    /// Fetches the keys now and then, for ever; whoever runs it decides when it ends.
    pub async fn keep_fresh(&self) {
        let Some(source) = &self.shared.source else {
            return std::future::pending().await;
        };
        loop {
            let succeeded = self.refresh(source).await;
            tokio::time::sleep(if succeeded { REFRESH_INTERVAL } else { RETRY_INTERVAL }).await;
        }
    }

    /// Whether there is a key to verify with.
    pub fn has_keys(&self) -> bool {
        !self.held().keys.is_empty()
    }

    fn verify_with_held(&self, token: &str) -> Result<Arc<Claims>, TokenError> {
        let now = self.shared.clock.now().as_second();
        let held = self.held();
        if let Some(claims) = self.shared.cache.get(token, held.epoch) {
            self.shared.rules.check(&claims, now)?;
            return Ok(claims);
        }
        let claims = Arc::new(token::verify(token, &held.keys, &self.shared.rules, now)?);
        self.shared.cache.put(token, Arc::clone(&claims), held.epoch);
        Ok(claims)
    }

    /// The token names a key that is not known: perhaps the issuer has a new one.
    #[cold]
    async fn verify_with_new(&self, token: &str, source: &Source) -> Result<Arc<Claims>, VerifyError> {
        let succeeded = self.refresh(source).await;
        match self.verify_with_held(token) {
            Err(TokenError::UnknownKey) if !succeeded => Err(VerifyError::NoKeys),
            result => result.map_err(VerifyError::Invalid),
        }
    }

    /// Whether the keys are as the issuer published them a moment ago.
    async fn refresh(&self, source: &Source) -> bool {
        let mut last = source.last.lock().await;
        if let Some(attempt) = last.filter(|attempt| Instant::now() < attempt.rests_until()) {
            return attempt.succeeded;
        }
        // A call is large, and seldom made; what waits for it would be all of it.
        let succeeded = match Box::pin(source.caller.call_once(|| Box::pin(fetch(&source.url)))).await {
            Ok(keys) => {
                if last.is_some_and(|last| !last.succeeded) {
                    tracing::info!(url = %source.url, "the keys of the token issuer could be fetched again");
                }
                self.hold(keys);
                true
            }
            // It was given too little time: that must not keep others from trying.
            Err(_) if deadline::current().is_some_and(|deadline| deadline.has_passed()) => return false,
            Err(error) => {
                let (url, error) = (&source.url, &error as &(dyn std::error::Error + 'static));
                // Once for as long as it lasts: it is tried twice a second.
                match last.is_some_and(|last| !last.succeeded) {
                    true => tracing::debug!(%url, error, "the keys of the token issuer could not be fetched"),
                    false => tracing::warn!(%url, error, "the keys of the token issuer could not be fetched"),
                }
                false
            }
        };
        *last = Some(Attempt { at: Instant::now(), succeeded });
        succeeded
    }

    fn hold(&self, keys: Jwks) {
        let mut held = self.shared.held.write().unwrap_or_else(PoisonError::into_inner);
        if *held.keys != keys {
            *held = Held { keys: Arc::new(keys), epoch: held.epoch + 1 };
        }
    }

    fn held(&self) -> Held {
        self.shared.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use purlin::message::{ManualClock, Timestamp};
    use serde_json::{Value, json};

    use super::*;
    use crate::auth::Signer;

    const NOW: i64 = 1_800_000_000;

    fn verifier(rules: Rules) -> (Verifier, Signer, ManualClock) {
        let (signer, _) = Signer::generate().unwrap();
        let (clock, hand) = Clock::manual(Timestamp::from_second(NOW).unwrap());
        (Verifier::of(signer.jwks(), rules, clock), signer, hand)
    }

    /// A token with any header and claims, rightly signed.
    fn signed(signer: &Signer, header: &Value, claims: &str) -> String {
        let message =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims));
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signer.sign_bytes(message.as_bytes())))
    }

    async fn error(verifier: &Verifier, token: &str) -> Option<TokenError> {
        match verifier.verify(token).await {
            Ok(_) => None,
            Err(VerifyError::Invalid(error)) => Some(error),
            Err(VerifyError::NoKeys) => panic!("the keys are held"),
        }
    }

    #[tokio::test]
    async fn claims_of_the_wrong_type_make_a_token_invalid() {
        let (verifier, signer, _) = verifier(Rules::default());
        let header = json!({ "alg": "EdDSA", "kid": signer.kid() });
        let good = r#"{"sub":"7","exp":1800000100,"more":{"exp":null}}"#;
        assert_eq!(error(&verifier, &signed(&signer, &header, good)).await, None);
        for claims in [
            r#"{"sub":"7"}"#,
            r#"{"exp":1800000100}"#,
            r#"{"sub":7,"exp":1800000100}"#,
            r#"{"sub":"7","exp":"1800000100"}"#,
            r#"{"sub":"7","exp":1800000100.5}"#,
            r#"{"sub":"7","exp":1e12}"#,
            r#"{"sub":"7","exp":null}"#,
            r#"{"sub":"7","exp":true}"#,
            r#"{"sub":"7","exp":[1800000100]}"#,
            r#"{"sub":"7","exp":1800000100,"exp":1900000000}"#,
            r#"{"sub":"7","sub":"8","exp":1800000100}"#,
            r#"{"sub":"7","exp":1800000100,"nbf":null}"#,
            r#"{"sub":"7","exp":1800000100,"nbf":"1900000000"}"#,
            r#"{"sub":"7","exp":1800000100,"iat":null}"#,
            r#"{"sub":"7","exp":1800000100,"iss":5}"#,
            r#"{"sub":"7","exp":1800000100,"aud":[]}"#,
            r#"{"sub":"7","exp":1800000100,"aud":[1]}"#,
            r#"{"sub":"7","exp":1800000100,"roles":"admin"}"#,
            r#"{"sub":"7","exp":1800000100,"roles":null}"#,
            r#"["7"]"#,
            "null",
            "",
        ] {
            let said = error(&verifier, &signed(&signer, &header, claims)).await;
            assert!(matches!(said, Some(TokenError::Malformed(_))), "{claims}: {said:?}");
        }
    }

    #[tokio::test]
    async fn a_header_decides_nothing_but_which_key() {
        let (verifier, signer, _) = verifier(Rules::default());
        let claims = r#"{"sub":"7","exp":1800000100}"#;
        let kid = signer.kid();
        for (header, why) in [
            (json!({ "alg": "none", "kid": kid }), TokenError::Algorithm),
            (json!({ "alg": "None", "kid": kid }), TokenError::Algorithm),
            (json!({ "alg": "HS256", "kid": kid }), TokenError::Algorithm),
            (json!({ "alg": "RS256", "kid": kid }), TokenError::Algorithm),
            (json!({ "alg": "eddsa", "kid": kid }), TokenError::Algorithm),
            (json!({ "alg": "EdDSA", "kid": "other" }), TokenError::UnknownKey),
            (json!({ "alg": "EdDSA", "kid": "" }), TokenError::UnknownKey),
            (json!({ "alg": "EdDSA", "kid": "../../etc/passwd" }), TokenError::UnknownKey),
            (json!({ "alg": "EdDSA", "kid": kid, "crit": ["exp"] }), TokenError::Header),
            (json!({ "alg": "EdDSA", "kid": kid, "b64": false }), TokenError::Header),
            (json!({ "alg": "EdDSA", "kid": kid, "jwk": signer.document() }), TokenError::Header),
            (json!({ "alg": "EdDSA", "kid": kid, "jku": "http://evil" }), TokenError::Header),
            (json!({ "alg": "EdDSA", "kid": kid, "x5u": "http://evil" }), TokenError::Header),
            (json!({ "alg": "EdDSA", "kid": kid, "x5c": [] }), TokenError::Header),
            (json!({ "alg": "EdDSA", "kid": kid, "typ": "JWE" }), TokenError::Header),
        ] {
            assert_eq!(error(&verifier, &signed(&signer, &header, claims)).await, Some(why), "{header}");
        }
        for header in [json!({ "alg": "EdDSA" }), json!({ "kid": kid }), json!({ "alg": "EdDSA", "kid": 7 })]
        {
            let said = error(&verifier, &signed(&signer, &header, claims)).await;
            assert!(matches!(said, Some(TokenError::Malformed(_))), "{header}: {said:?}");
        }
    }

    #[tokio::test]
    async fn a_changed_token_does_not_hold() {
        let (verifier, signer, _) = verifier(Rules::default());
        let (stranger, _) = Signer::generate().unwrap();
        let token = signer.sign(&Claims::new("7", NOW + 100)).unwrap();
        let (message, signature) = token.rsplit_once('.').unwrap();
        let forged = signed(
            &stranger,
            &json!({ "alg": "EdDSA", "kid": signer.kid() }),
            r#"{"sub":"7","exp":1800000100}"#,
        );
        assert_eq!(error(&verifier, &token).await, None);
        assert_eq!(error(&verifier, &forged).await, Some(TokenError::Signature));
        assert_eq!(error(&verifier, &format!("{message}.")).await, Some(TokenError::Signature));
        for broken in [
            format!("{token}="),
            format!("{token}.x"),
            format!(" {token}"),
            format!("{message}.{}", &signature[1..]),
            message.to_owned(),
            String::new(),
            "..".to_owned(),
        ] {
            assert!(error(&verifier, &broken).await.is_some(), "{broken}");
        }
        assert_eq!(error(&verifier, &"x".repeat(9000)).await, Some(TokenError::TooLong));
    }

    #[tokio::test]
    async fn a_token_that_was_verified_before_still_expires() {
        let (verifier, signer, hand) = verifier(Rules { skew: 5, ..Rules::default() });
        let token = signer.sign(&Claims::new("7", NOW + 100)).unwrap();
        assert_eq!(error(&verifier, &token).await, None);
        hand.advance(Duration::from_secs(104));
        assert_eq!(error(&verifier, &token).await, None);
        hand.advance(Duration::from_secs(1));
        assert_eq!(error(&verifier, &token).await, Some(TokenError::Expired));
    }

    #[tokio::test]
    async fn a_token_from_the_future_issuer_or_audience_of_others_does_not_hold() {
        let rules = Rules { issuer: Some("us".into()), audience: Some("shop".into()), skew: 5 };
        let (verifier, signer, _) = verifier(rules);
        let good = Claims {
            iss: Some("us".into()),
            aud: vec!["other".into(), "shop".into()],
            iat: Some(NOW),
            nbf: Some(NOW + 5),
            ..Claims::new("7", NOW + 100)
        };
        let said = async |claims: Claims| error(&verifier, &signer.sign(&claims).unwrap()).await;
        assert_eq!(said(good.clone()).await, None);
        assert_eq!(said(Claims { nbf: Some(NOW + 6), ..good.clone() }).await, Some(TokenError::NotYet));
        assert_eq!(said(Claims { iat: Some(NOW + 60), ..good.clone() }).await, Some(TokenError::NotYet));
        assert_eq!(said(Claims { iss: Some("them".into()), ..good.clone() }).await, Some(TokenError::Issuer));
        assert_eq!(said(Claims { iss: None, ..good.clone() }).await, Some(TokenError::Issuer));
        assert_eq!(
            said(Claims { aud: vec!["other".into()], ..good.clone() }).await,
            Some(TokenError::Audience)
        );
        assert_eq!(said(Claims { aud: vec![], ..good }).await, Some(TokenError::Audience));
    }

    #[test]
    fn a_stored_key_pair_is_the_same_key() {
        let (signer, pkcs8) = Signer::generate().unwrap();
        assert_eq!(Signer::from_pkcs8(&pkcs8).unwrap().kid(), signer.kid());
        assert!(matches!(Signer::from_pkcs8(b"nonsense"), Err(crate::auth::SignerError::Key)));
    }
}
