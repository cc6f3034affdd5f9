//! The public keys of an issuer.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;

/// A set of public keys, read from a JWK set document (RFC 7517).
///
/// Keys that no token can be verified with here are left out: shared secrets, encryption keys, other curves and
/// algorithms, keys without a `kid`. EdDSA (Ed25519), ES256 and RS256 (2048 bits and more) remain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Jwks {
    keys: Vec<Key>,
}

/// One key; its algorithm is part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    kid: String,
    material: Material,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Material {
    Ed25519([u8; 32]),
    /// The uncompressed point.
    P256(Vec<u8>),
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
}

/// A document is not a JWK set.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// It is not JSON of the right shape.
    #[error("the document is not a JWK set")]
    Shape(#[source] serde_json::Error),
    /// Two of its keys have one `kid`.
    #[error("two keys of the set have the id `{kid}`")]
    Twice {
        /// The id.
        kid: String,
    },
    /// It has more keys than anybody needs.
    #[error("the set has more than {MAX_KEYS} keys")]
    TooMany,
}

const MAX_KEYS: usize = 64;

#[derive(Deserialize)]
struct Document {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

impl Jwks {
    /// Reads a JWK set.
    pub fn parse(document: &[u8]) -> Result<Self, JwksError> {
        let document: Document = serde_json::from_slice(document).map_err(JwksError::Shape)?;
        if document.keys.len() > MAX_KEYS {
            return Err(JwksError::TooMany);
        }
        let keys: Vec<Key> = document.keys.iter().filter_map(Key::read).collect();
        match (1..keys.len()).find(|at| keys[..*at].iter().any(|key| key.kid == keys[*at].kid)) {
            Some(at) => Err(JwksError::Twice { kid: keys[at].kid.clone() }),
            None => Ok(Self { keys }),
        }
    }

    /// The keys' ids.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| key.kid.as_str())
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The algorithm of the key `kid`, as a token's header names it.
    pub(super) fn algorithm(&self, kid: &str) -> Option<&'static str> {
        Some(self.key(kid)?.material.algorithm())
    }

    /// Whether the key `kid` made `signature` of `message`.
    pub(super) fn verifies(&self, kid: &str, message: &[u8], signature: &[u8]) -> bool {
        self.key(kid).is_some_and(|key| key.material.verifies(message, signature))
    }

    fn key(&self, kid: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.kid == kid)
    }
}

impl Key {
    /// The key, if it is one that tokens can be verified with.
    fn read(jwk: &Jwk) -> Option<Self> {
        let signs = jwk.usage.as_deref().is_none_or(|usage| usage == "sig")
            && jwk.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        let kid = jwk.kid.clone().filter(|kid| super::token::is_kid(kid))?;
        let material = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("OKP", Some("Ed25519")) => Material::Ed25519(bytes(&jwk.x)?.try_into().ok()?),
            ("EC", Some("P-256")) => Material::p256(&bytes(&jwk.x)?, &bytes(&jwk.y)?)?,
            ("RSA", None) => Material::Rsa { n: bytes(&jwk.n)?, e: bytes(&jwk.e)? },
            _ => return None,
        };
        let agrees = jwk.alg.as_deref().is_none_or(|alg| alg == material.algorithm());
        (signs && agrees).then_some(Self { kid, material })
    }
}

impl Material {
    fn p256(x: &[u8], y: &[u8]) -> Option<Self> {
        (x.len() == 32 && y.len() == 32).then(|| Self::P256([&[4], x, y].concat()))
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "EdDSA",
            Self::P256(_) => "ES256",
            Self::Rsa { .. } => "RS256",
        }
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature),
            Self::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            Self::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
        }
        .is_ok()
    }
}

fn bytes(member: &Option<String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(member.as_ref()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_verify_nothing_here_are_left_out() {
        let x = URL_SAFE_NO_PAD.encode([7; 32]);
        let document = serde_json::json!({ "keys": [
            { "kty": "OKP", "crv": "Ed25519", "kid": "good", "x": x },
            { "kty": "OKP", "crv": "Ed25519", "kid": "good too", "x": x, "use": "sig", "alg": "EdDSA", "key_ops": ["verify"] },
            { "kty": "OKP", "crv": "Ed25519", "x": x },
            { "kty": "OKP", "crv": "Ed25519", "kid": "short", "x": "AAAA" },
            { "kty": "OKP", "crv": "Ed25519", "kid": "enc", "x": x, "use": "enc" },
            { "kty": "OKP", "crv": "X25519", "kid": "curve", "x": x },
            { "kty": "OKP", "crv": "Ed25519", "kid": "alg", "x": x, "alg": "RS256" },
            { "kty": "oct", "kid": "secret", "k": x, "alg": "HS256" },
            { "kty": "EC", "crv": "P-384", "kid": "p384", "x": x, "y": x },
            { "kty": "RSA", "kid": "pss", "n": x, "e": "AQAB", "alg": "PS256" },
        ]});
        let keys = Jwks::parse(document.to_string().as_bytes()).unwrap();
        assert_eq!(keys.kids().collect::<Vec<_>>(), ["good", "good too"]);
    }

    #[test]
    fn two_keys_of_one_id_are_refused() {
        let key = serde_json::json!({ "kty": "OKP", "crv": "Ed25519", "kid": "a", "x": URL_SAFE_NO_PAD.encode([7; 32]) });
        let document = serde_json::json!({ "keys": [key, key] }).to_string();
        assert!(matches!(Jwks::parse(document.as_bytes()), Err(JwksError::Twice { kid }) if kid == "a"));
        assert!(matches!(Jwks::parse(b"{}"), Err(JwksError::Shape(_))));
    }
}
