//! The private side: what the service that issues tokens holds.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::json;

use super::{Claims, Jwks};

/// An Ed25519 key pair that signs tokens.
///
/// Its id is the thumbprint of its public key (RFC 7638), so the same key has the same id everywhere.
#[derive(Debug)]
pub struct Signer {
    pair: Ed25519KeyPair,
    kid: String,
}

/// A key pair or a token could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// The machine gives no random bytes.
    #[error("the system's random source failed")]
    Random,
    /// The bytes are not an Ed25519 key pair in PKCS#8 version 2, as [`Signer::generate`] gives them.
    #[error("the bytes are not an Ed25519 key pair in PKCS#8")]
    Key,
    /// The claims do not fit JSON.
    #[error("the claims cannot be written as JSON")]
    Claims(#[source] serde_json::Error),
}

impl Signer {
    /// A new key pair, and its PKCS#8 bytes to be kept secret and stored.
    pub fn generate() -> Result<(Self, Vec<u8>), SignerError> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| SignerError::Random)?;
        Ok((Self::from_pkcs8(pkcs8.as_ref())?, pkcs8.as_ref().to_vec()))
    }

    /// The key pair that was stored.
    pub fn from_pkcs8(bytes: &[u8]) -> Result<Self, SignerError> {
        let pair = Ed25519KeyPair::from_pkcs8(bytes).map_err(|_| SignerError::Key)?;
        let x = URL_SAFE_NO_PAD.encode(pair.public_key());
        let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
        let kid = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, canonical.as_bytes()));
        Ok(Self { pair, kid })
    }

    /// The key's id.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public key as a JWK set, for `/.well-known/jwks.json`.
    pub fn document(&self) -> serde_json::Value {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key());
        let key =
            json!({ "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": self.kid, "x": x });
        json!({ "keys": [key] })
    }

    /// The public key, for who verifies in the same process.
    pub fn jwks(&self) -> Jwks {
        Jwks::parse(self.document().to_string().as_bytes()).expect("our own document is a JWK set")
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Claims) -> Result<String, SignerError> {
        let header = json!({ "alg": "EdDSA", "typ": "JWT", "kid": self.kid }).to_string();
        let claims = serde_json::to_vec(claims).map_err(SignerError::Claims)?;
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.sign_bytes(message.as_bytes()));
        Ok(format!("{message}.{signature}"))
    }

    pub(super) fn sign_bytes(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}
