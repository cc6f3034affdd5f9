//! The mark of an import that has not come to its end.

use serde::{Deserialize, Serialize};

use super::Header;
use crate::message::Timestamp;
use crate::store::{Commit, CommitError, Engine, Position, ReadError, Row, Store};

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

/// An import into a store was cut off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is half imported (from the export of {at}, which goes up to {head}): import the same export again, to its end, or \
     remove the store"
)]
pub struct HalfImported {
    /// When the export was written.
    pub at: Timestamp,
    /// How far it goes.
    pub head: Position,
}

/// As [`unfinished`], for engines: they ask when they open a store, and refuse one that is half imported unless their
/// options say otherwise.
pub async fn half_imported(engine: &dyn Engine) -> Result<Option<HalfImported>, ReadError> {
    match engine.get(Import::COLLECTION.to_owned(), KEY.to_owned()).await {
        Ok(Some(record)) => {
            let Header { at, head, .. } = record.decode::<Import>()?.header;
            Ok(Some(HalfImported { at, head }))
        }
        // There is no such collection.
        Ok(None) | Err(ReadError::Invalid(_)) => Ok(None),
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
