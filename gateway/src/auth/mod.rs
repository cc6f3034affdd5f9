//! Who a caller is: JSON web tokens (RFC 7519), verified with the keys that their issuer publishes (RFC 7517).
//!
//! The gateway and the services behind it verify by the same [`Verifier`]; the service that issues tokens holds a
//! [`Signer`]. The algorithm is the key's and never the token's choice, so there is no `none`, no shared secret, and no
//! confusion of the two; a claim of the wrong type is an error, never an absent claim.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use purlin::message::Clock;
//! use purlin_gateway::auth::{Claims, Rules, Signer, Verifier};
//!
//! let (signer, _pkcs8) = Signer::generate().unwrap();
//! let clock = Clock::system();
//! let token = signer.sign(&Claims::new("user-7", clock.now().as_second() + 3600)).unwrap();
//!
//! let verifier = Verifier::of(signer.jwks(), Rules::default(), clock);
//! assert_eq!(verifier.verify(&token).await.unwrap().sub, "user-7");
//! assert!(verifier.verify(&token[1..]).await.is_err());
//! # });
//! ```

mod cache;
mod claims;
mod jwks;
mod remote;
mod signer;
mod token;
mod verifier;

pub use claims::Claims;
pub use jwks::{Jwks, JwksError};
pub use remote::{KeysUrl, KeysUrlError};
pub use signer::{Signer, SignerError};
pub use token::{Rules, TokenError};
pub use verifier::{Verifier, VerifyError};
