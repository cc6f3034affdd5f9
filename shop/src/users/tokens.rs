//! Tokens: signed with a key that is kept, so that a token outlives the process.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use purlin::message::{Clock, Timestamp, Uuid};
use purlin::store::{Cause, Commit, CommitError, Revision, Row, Store};
use purlin_gateway::auth::{Claims, Signer, SignerError};
use serde::{Deserialize, Serialize};

use crate::contracts::who::Role;

/// How long a token holds.
const LASTS: i64 = 12 * 3600;

/// Issues tokens; cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    signer: Arc<Signer>,
    clock: Clock,
}

/// The key as it is kept.
#[derive(Serialize, Deserialize)]
struct Key {
    pkcs8: String,
}

impl Row for Key {
    const COLLECTION: &'static str = "signing_keys";
}

impl Tokens {
    /// With the key that is kept, or a new one that is kept from now on.
    pub async fn open(store: &Store, clock: &Clock) -> Result<Self, Cause> {
        store.define::<Key>().await?;
        if store.get::<Key>("current").await?.is_none() {
            let (_, pkcs8) = Signer::generate()?;
            let key = Key { pkcs8: STANDARD.encode(pkcs8) };
            let commit = Commit::new().put_expecting("current", &key, Revision::Absent, None);
            match store.commit(commit).await {
                Ok(_) | Err(CommitError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let key = store.get::<Key>("current").await?.ok_or("the signing key is gone")?;
        let signer = Arc::new(Signer::from_pkcs8(&STANDARD.decode(key.pkcs8)?)?);
        Ok(Self { signer, clock: clock.clone() })
    }

    /// A token for a user, and until when it holds.
    pub fn issue(&self, user_id: Uuid, role: Role) -> Result<(String, Timestamp), SignerError> {
        let now = self.clock.now().as_second();
        let expires_at = Timestamp::from_second(now + LASTS).unwrap_or(Timestamp::MAX);
        let claims = Claims {
            iat: Some(now),
            iss: Some("shop".into()),
            roles: vec![role.as_str().into()],
            ..Claims::new(user_id.to_string(), expires_at.as_second())
        };
        Ok((self.signer.sign(&claims)?, expires_at))
    }

    /// The public half of the key, as everybody may have it.
    pub fn document(&self) -> serde_json::Value {
        self.signer.document()
    }
}
