//! Who runs the shop: one record for each, so that there is always somebody, and one that says that the first was made.

use purlin::message::Uuid;
use purlin::store::{Commit, CommitError, Query, ReadError, Revision, Row, Store};
use serde::{Deserialize, Serialize};

/// The administrators; cheap to clone.
#[derive(Clone)]
pub struct Administrators {
    store: Store,
}

/// Somebody who runs the shop; the record's key is his identifier.
#[derive(Debug, Serialize, Deserialize)]
struct Administrator {}

impl Row for Administrator {
    const COLLECTION: &'static str = "administrators";
}

/// The first administrator was made, whatever has become of him.
#[derive(Debug, Serialize, Deserialize)]
struct FirstMade {
    user_id: Uuid,
}

impl Row for FirstMade {
    const COLLECTION: &'static str = "first_administrator";
}

/// The one record of who was the first.
const FIRST: &str = "first";

impl Administrators {
    /// The administrators of a store.
    pub async fn open(store: &Store) -> Result<Self, CommitError> {
        store.define::<Administrator>().await?;
        store.define::<FirstMade>().await?;
        Ok(Self { store: store.clone() })
    }

    /// Whether the first was made, now or long ago.
    pub async fn is_first_made(&self) -> Result<bool, ReadError> {
        Ok(self.store.get::<FirstMade>(FIRST).await?.is_some())
    }

    /// The commit that also makes this user the first, once.
    pub fn first(&self, commit: Commit, user_id: Uuid) -> Commit {
        commit.put_expecting(FIRST, &FirstMade { user_id }, Revision::Absent, None).put_expecting(
            user_id.to_string(),
            &Administrator {},
            Revision::Absent,
            None,
        )
    }

    /// The commit after which this user runs the shop no more; none if he is the last who does.
    pub async fn resign(&self, commit: Commit, user_id: Uuid) -> Result<Option<Commit>, ReadError> {
        let own = user_id.to_string();
        let two = self.store.list::<Administrator>(Query::all().limit(2)).await?.records;
        let Some(other) = two.iter().find(|record| record.key != own) else { return Ok(None) };
        // Two who resign at once cannot both count on each other.
        let stays = commit.require::<Administrator>(&*other.key, Revision::Exact(other.revision));
        Ok(Some(stays.delete::<Administrator>(own, Revision::Any)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_is_made_once_and_the_last_stays() {
        let store = Store::memory();
        let administrators = Administrators::open(&store).await.unwrap();
        let (ada, bob) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert!(!administrators.is_first_made().await.unwrap());
        store.commit(administrators.first(Commit::new(), ada)).await.unwrap();
        assert!(administrators.is_first_made().await.unwrap());
        let second = store.commit(administrators.first(Commit::new(), bob)).await;
        assert!(matches!(second, Err(CommitError::Conflict(_))));
        assert!(administrators.resign(Commit::new(), ada).await.unwrap().is_none(), "he is the last");

        store.commit(Commit::new().put(bob.to_string(), &Administrator {})).await.unwrap();
        let first = administrators.resign(Commit::new(), ada).await.unwrap().unwrap();
        let other = administrators.resign(Commit::new(), bob).await.unwrap().unwrap();
        store.commit(first).await.unwrap();
        assert!(matches!(store.commit(other).await, Err(CommitError::Conflict(_))), "one of the two stays");
        assert!(administrators.resign(Commit::new(), bob).await.unwrap().is_none());
        assert!(administrators.is_first_made().await.unwrap(), "whatever became of him");
    }
}
