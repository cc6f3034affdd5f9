//! The store's own secret, under which requests and keys are hashed: a stolen store does not tell their content.

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::message::{Fault, FaultKind};
use crate::store::{Commit, CommitError, ReadError, Revision, Row, Store};

/// A key for HMAC-SHA-256.
#[derive(Clone)]
pub(super) struct Secret(hmac::Key);

#[derive(Serialize, Deserialize)]
struct SecretRow {
    bytes: [u8; 32],
}

impl Row for SecretRow {
    const COLLECTION: &'static str = "purlin_secrets";
}

const KEY: &str = "idempotency";

impl Secret {
    /// The secret of a store, which is drawn at the first time.
    pub(super) async fn of(store: &Store) -> Result<Self, SecretError> {
        store.define::<SecretRow>().await?;
        loop {
            if let Some(row) = store.get::<SecretRow>(KEY).await? {
                return Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &row.bytes)));
            }
            let mut row = SecretRow { bytes: [0; 32] };
            SystemRandom::new().fill(&mut row.bytes).map_err(|_| SecretError::NoRandomness)?;
            match store.commit(Commit::new().put_expecting(KEY, &row, Revision::Absent, None)).await {
                Ok(_) | Err(CommitError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The keyed hash of some parts; where one ends and the next begins counts.
    pub(super) fn hash(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(context.sign().as_ref());
        hash
    }
}

/// The secret of a store cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretError {
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the machine gives no random bytes")]
    NoRandomness,
}

impl Fault for SecretError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Commit(error) => error.kind(),
            Self::Read(error) => error.kind(),
            Self::NoRandomness => FaultKind::Unavailable,
        }
    }
}

/// Bytes as hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
