//! Collections and their records.

use crate::message::Timestamp;
use crate::store::{Collection, Commit, CommitError, Page, Query, ReadError, Record, Revision, Row};

use super::Store;

impl Store {
    /// The row of a key.
    pub async fn get<R: Row>(&self, key: &str) -> Result<Option<R>, ReadError> {
        self.get_record(R::COLLECTION, key).await?.map(|record| record.decode()).transpose()
    }

    /// The record of a key.
    pub async fn get_record(&self, collection: &str, key: &str) -> Result<Option<Record>, ReadError> {
        self.engine.get(collection.to_owned(), key.to_owned()).await
    }

    /// The records of keys, in the order of the keys: read together, which costs an engine less than one by one. All are
    /// in memory at once.
    pub async fn get_records(
        &self,
        collection: &str,
        keys: Vec<String>,
    ) -> Result<Vec<Option<Record>>, ReadError> {
        self.engine.get_many(collection.to_owned(), keys).await
    }

    /// The rows that a query asks for.
    pub async fn list<R: Row>(&self, query: Query) -> Result<Page, ReadError> {
        self.list_records(R::COLLECTION, query).await
    }

    /// The records that a query asks for.
    pub async fn list_records(&self, collection: &str, query: Query) -> Result<Page, ReadError> {
        let limit = query.effective_limit();
        let mut records = self.engine.list(collection.to_owned(), query).await?;
        let more = records.len() > limit;
        records.truncate(limit);
        let next = if more { records.last().map(|record| record.key.clone()) } else { None };
        Ok(Page { records, next })
    }

    /// At most `limit` rows that are due at or before a time, the longest due first.
    pub async fn due<R: Row>(&self, until: Timestamp, limit: usize) -> Result<Vec<Record>, ReadError> {
        self.engine.due(R::COLLECTION.to_owned(), until, None, limit).await
    }

    /// Makes the collection of a row, or gives it exactly the fields that the row has now.
    pub async fn define<R: Row>(&self) -> Result<(), CommitError> {
        self.define_collection(R::collection()).await
    }

    /// Makes a collection, or gives it exactly these fields (indexing what is there).
    pub async fn define_collection(&self, collection: Collection) -> Result<(), CommitError> {
        self.limits.check(&Commit::new().define(collection.clone()))?;
        self.engine.define(collection).await
    }

    /// The collections that there are, sorted by name.
    pub async fn collections(&self) -> Result<Vec<Collection>, ReadError> {
        self.engine.collections().await
    }

    /// Gives the records of `from` the name `to` at one instant; what `to` had is gone. The subjects' keys
    /// ([`personal::KEYS`]) stay where they are. [`Commit::swap`] does so to several, and with writes of records.
    ///
    /// [`personal::KEYS`]: crate::store::personal::KEYS
    pub async fn swap(&self, from: &str, to: &str) -> Result<(), CommitError> {
        self.commit(Commit::new().swap(from, to)).await.map(drop)
    }

    /// Removes a collection and its records. The subjects' keys ([`personal::KEYS`]) are not removed.
    ///
    /// [`personal::KEYS`]: crate::store::personal::KEYS
    pub async fn drop_collection(&self, name: &str) -> Result<(), CommitError> {
        self.commit(Commit::new().drop_collection(name)).await.map(drop)
    }

    /// Deletes rows of a collection whose due time has passed, at most a thousand; returns how many.
    pub async fn sweep<R: Row>(&self, now: Timestamp) -> Result<usize, CommitError> {
        let overdue =
            self.due::<R>(now, 1000).await.map_err(|error| CommitError::Unavailable(error.into()))?;
        let mut commit = Commit::new();
        for record in &overdue {
            commit = commit.delete::<R>(&record.key, Revision::Exact(record.revision));
        }
        if !commit.is_empty() {
            self.commit(commit).await?;
        }
        Ok(overdue.len())
    }
}

/// The longest name of a collection or field, in bytes.
pub(crate) const LONGEST_NAME: usize = 48;

/// Names become the names of tables and columns.
pub(in crate::store) fn check_name(name: &str) -> Result<(), CommitError> {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    let rest = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if first && rest && name.len() <= LONGEST_NAME && !name.starts_with("sqlite_") {
        return Ok(());
    }
    Err(CommitError::Invalid(format!(
        "`{name}` cannot name a collection or field: lower-case letters, digits and `_`, at most {LONGEST_NAME} bytes, not `sqlite_..`"
    )))
}
