//! Whose an address is: one user's, and nobody can read it from the record that says so.
//!
//! The record's key is a keyed hash of the address, so that an address can be looked for, and no address be found.

use purlin::message::Uuid;
use purlin::store::{Cause, Commit, CommitError, Query, ReadError, Revision, Row, Store};
use ring::hmac;
use ring::rand::SystemRandom;
use serde::{Deserialize, Serialize};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::user::normal;

/// The addresses of all users; cheap to clone.
#[derive(Clone)]
pub struct Addresses {
    store: Store,
    secret: hmac::Key,
}

/// The record that makes an address one user's alone.
#[derive(Debug, Serialize, Deserialize)]
struct Address {
    user_id: Uuid,
}

impl Row for Address {
    const COLLECTION: &'static str = "addresses";
}

/// What addresses are hashed with, as it is kept.
#[derive(Serialize, Deserialize)]
struct Secret {
    key: String,
}

impl Row for Secret {
    const COLLECTION: &'static str = "address_secrets";
}

impl Addresses {
    /// With the secret that is kept, or a new one that is kept from now on.
    pub async fn open(store: &Store) -> Result<Self, Cause> {
        store.define::<Address>().await?;
        store.define::<Secret>().await?;
        if store.get::<Secret>("current").await?.is_none() {
            let key: [u8; 32] = ring::rand::generate(&SystemRandom::new())
                .map_err(|_| "the machine gives no random bytes")?
                .expose();
            let secret = Secret { key: STANDARD.encode(key) };
            let commit = Commit::new().put_expecting("current", &secret, Revision::Absent, None);
            match store.commit(commit).await {
                Ok(_) | Err(CommitError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let secret = store.get::<Secret>("current").await?.ok_or("the secret of the addresses is gone")?;
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(secret.key)?);
        let addresses = Self { store: store.clone(), secret };
        addresses.hash_plain_ones().await?;
        Ok(addresses)
    }

    /// Whose the address is.
    pub async fn owner(&self, email: &str) -> Result<Option<Uuid>, ReadError> {
        Ok(self.store.get::<Address>(&self.key(email)).await?.map(|address| address.user_id))
    }

    /// The commit that also makes the address this user's, unless it is somebody's.
    pub fn take(&self, commit: Commit, email: &str, user_id: Uuid) -> Commit {
        commit.put_expecting(self.key(email), &Address { user_id }, Revision::Absent, None)
    }

    /// The commit after which the address is nobody's, if it is this user's.
    pub async fn give_back(&self, commit: Commit, email: &str, user_id: Uuid) -> Result<Commit, ReadError> {
        let key = self.key(email);
        let Some(record) = self.store.get_record(Address::COLLECTION, &key).await? else { return Ok(commit) };
        let own = record.decode::<Address>()?.user_id == user_id;
        Ok(if own { commit.delete::<Address>(key, Revision::Exact(record.revision)) } else { commit })
    }

    fn key(&self, email: &str) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.secret, normal(email).as_bytes()))
    }

    /// Earlier versions kept the address itself as the key.
    async fn hash_plain_ones(&self) -> Result<(), Cause> {
        let mut after = None;
        loop {
            let page = self.store.list::<Address>(Query::all().after(after).limit(500)).await?;
            let mut commit = Commit::new();
            // No hash has an `@`.
            for record in page.records.iter().filter(|record| record.key.contains('@')) {
                commit = commit
                    .delete::<Address>(&record.key, Revision::Exact(record.revision))
                    .put(self.key(&record.key), &record.decode::<Address>()?);
            }
            if !commit.is_empty() {
                self.store.commit(commit).await?;
            }
            let Some(next) = page.next else { return Ok(()) };
            after = Some(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_is_one_users_until_it_is_given_back() {
        let store = Store::memory();
        let (ada, bob) = (Uuid::from_u128(1), Uuid::from_u128(2));
        store.define::<Address>().await.unwrap();
        store.commit(Commit::new().put("old@example.org", &Address { user_id: bob })).await.unwrap();
        let addresses = Addresses::open(&store).await.unwrap();
        assert_eq!(addresses.owner("Old@example.org").await.unwrap(), Some(bob), "one of an earlier version");
        store.commit(addresses.take(Commit::new(), "ada@example.org", ada)).await.unwrap();
        let again = Addresses::open(&store).await.unwrap();
        assert_eq!(again.owner(" ADA@example.org").await.unwrap(), Some(ada));
        let taken = store.commit(again.take(Commit::new(), "ada@example.org", bob)).await;
        assert!(matches!(taken, Err(CommitError::Conflict(_))));
        let keys = store.list::<Address>(Query::all()).await.unwrap().records;
        assert!(keys.iter().all(|record| !record.key.contains("example")), "none can be read");
        for (user_id, owner) in [(bob, Some(ada)), (ada, None)] {
            let commit = again.give_back(Commit::new(), "ada@example.org", user_id).await.unwrap();
            if !commit.is_empty() {
                store.commit(commit).await.unwrap();
            }
            assert_eq!(again.owner("ada@example.org").await.unwrap(), owner);
        }
    }
}
