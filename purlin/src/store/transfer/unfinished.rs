//! The mark of an import that has not come to its end.

use serde::{Deserialize, Serialize};

use super::Header;
use crate::store::{Commit, CommitError, ReadError, Row, Store};

/// The one record of its collection.
const KEY: &str = "import";

/// Which export is being imported.
#[derive(Debug, Serialize, Deserialize)]
struct Import {
    header: Header,
}

impl Row for Import {
    const COLLECTION: &'static str = "purlin_import";
}

/// Whether a collection holds the mark; it is not moved itself.
pub(super) fn is_mark(collection: &str) -> bool {
    collection == Import::COLLECTION
}

/// The export that is half imported into a store, if there is one. Such a store is to be left alone until the same
/// export was imported to its end; or it is removed.
pub async fn unfinished(store: &Store) -> Result<Option<Header>, ReadError> {
    match store.get::<Import>(KEY).await {
        Ok(import) => Ok(import.map(|import| import.header)),
        // There is no such collection.
        Err(ReadError::Invalid(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Marks the store as half imported.
pub(super) async fn begin(store: &Store, header: &Header) -> Result<(), CommitError> {
    store.define::<Import>().await?;
    store.commit(Commit::new().put(KEY, &Import { header: header.clone() })).await.map(drop)
}

/// Removes the mark: all is there.
pub(super) async fn end(store: &Store) -> Result<(), CommitError> {
    store.drop_collection(Import::COLLECTION).await
}
