//! One token, taken apart and judged: pure, the time is an argument.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::claims::present;
use super::{Claims, Jwks};

/// What a token must say besides being signed by a known key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// What `iss` must be; none: it is not looked at.
    pub issuer: Option<String>,
    /// What `aud` must have; none: it is not looked at.
    pub audience: Option<String>,
    /// How far the issuer's clock may be from ours, in seconds.
    pub skew: u32,
}

/// Why a token does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is longer than 8 KiB.
    #[error("the token is too long")]
    TooLong,
    /// It is not three base64url parts of which the first two are JSON objects of the right shape.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// Its header has `crit`, or brings its own key along.
    #[error("the token's header has members that are not accepted")]
    Header,
    /// The key its header names is not in the set.
    #[error("the token is signed by a key that is not known")]
    UnknownKey,
    /// Its header names another algorithm than its key has.
    #[error("the token's algorithm is not its key's")]
    Algorithm,
    /// The signature is not the key's.
    #[error("the token's signature does not hold")]
    Signature,
    /// `exp` is past.
    #[error("the token has expired")]
    Expired,
    /// `nbf` or `iat` is ahead.
    #[error("the token does not hold yet")]
    NotYet,
    /// `iss` is not whom we trust.
    #[error("the token's issuer is not the one that is trusted here")]
    Issuer,
    /// `aud` does not have us.
    #[error("the token is not meant for this service")]
    Audience,
}

const MAX_TOKEN: usize = 8 << 10;

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
    #[serde(default, deserialize_with = "present")]
    typ: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    b64: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    jwk: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    jku: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    x5u: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    x5c: Option<IgnoredAny>,
}

/// The claims of `token`, if one of `keys` signed it and it keeps the rules at `now`.
pub(super) fn verify(token: &str, keys: &Jwks, rules: &Rules, now: i64) -> Result<Claims, TokenError> {
    if token.len() > MAX_TOKEN {
        return Err(TokenError::TooLong);
    }
    let (message, signature) =
        token.rsplit_once('.').ok_or(TokenError::Malformed("it has no three parts"))?;
    let (header, claims) = message.split_once('.').ok_or(TokenError::Malformed("it has no three parts"))?;
    let header: Header = json(header)?;
    header.check()?;
    let algorithm = keys.algorithm(&header.kid).ok_or(TokenError::UnknownKey)?;
    if algorithm != header.alg {
        return Err(TokenError::Algorithm);
    }
    let signature = URL_SAFE_NO_PAD
        .decode(signature)
        .map_err(|_| TokenError::Malformed("its signature is not base64url"))?;
    if !keys.verifies(&header.kid, message.as_bytes(), &signature) {
        return Err(TokenError::Signature);
    }
    let claims: Claims = json(claims)?;
    rules.check(&claims, now)?;
    Ok(claims)
}

/// Whether a key's id is one that we let into memory, logs and comparisons.
pub(super) fn is_kid(kid: &str) -> bool {
    (1..=128).contains(&kid.len()) && kid.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

fn json<T: DeserializeOwned>(part: &str) -> Result<T, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed("a part is not base64url"))?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Malformed("a part is not JSON of the right shape"))
}

impl Header {
    fn check(&self) -> Result<(), TokenError> {
        let foreign = [&self.crit, &self.b64, &self.jwk, &self.jku, &self.x5u, &self.x5c];
        let typ = self.typ.as_deref().unwrap_or("JWT");
        let is_jwt = typ.eq_ignore_ascii_case("JWT") || typ.eq_ignore_ascii_case("at+jwt");
        if foreign.iter().any(|member| member.is_some()) || !is_jwt {
            return Err(TokenError::Header);
        }
        if is_kid(&self.kid) { Ok(()) } else { Err(TokenError::UnknownKey) }
    }
}

impl Rules {
    /// Whether the claims hold at `now` (seconds since 1970).
    pub(super) fn check(&self, claims: &Claims, now: i64) -> Result<(), TokenError> {
        let skew = i64::from(self.skew);
        if claims.exp.saturating_add(skew) <= now {
            return Err(TokenError::Expired);
        }
        let starts = [claims.nbf, claims.iat].into_iter().flatten().max();
        if starts.is_some_and(|start| start.saturating_sub(skew) > now) {
            return Err(TokenError::NotYet);
        }
        if self.issuer.is_some() && self.issuer != claims.iss {
            return Err(TokenError::Issuer);
        }
        if self.audience.as_ref().is_some_and(|audience| !claims.aud.contains(audience)) {
            return Err(TokenError::Audience);
        }
        Ok(())
    }
}
