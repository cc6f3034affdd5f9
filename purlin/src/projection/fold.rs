//! A batch of events folded into the rows they are about.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::de::DeserializeOwned;

use crate::bus::{chain, panic_text};
use crate::message::Fault;
use crate::store::{Collection, Commit, ReadError, Recorded, Revision, Store};

use super::{Misfit, Projection};

/// Why a batch was not folded.
pub(super) enum Unfolded {
    /// The event of this index does not fit; what stands before it does.
    Misfit(usize, Misfit),
    Read(ReadError),
}

/// The writes that events make of the rows of a collection.
pub(super) async fn fold<P: Projection>(
    projection: &P,
    store: &Store,
    collection: &Collection,
    events: &[Recorded],
) -> Result<Commit, Unfolded> {
    let mut rows = BTreeMap::<String, Option<P::Row>>::new();
    for (index, recorded) in events.iter().enumerate() {
        if recorded.envelope.is_retired::<P::Event>() {
            continue;
        }
        let misfit = |reason: String| Unfolded::Misfit(index, Misfit::of(recorded, reason));
        let key = unwinding(|| projection.key(recorded)).map_err(misfit)?;
        let row = match rows.remove(&key) {
            Some(row) => row,
            None => match load(store, collection, &key).await {
                Ok(row) => row,
                Err(error) if error.kind().is_transient() => return Err(Unfolded::Read(error)),
                Err(error) => return Err(misfit(format!("its row: {}", chain(&error)))),
            },
        };
        // Behind the last await: an event need not be `Send`.
        let event: P::Event = recorded.envelope.decode().map_err(|error| misfit(chain(&error)))?;
        let row = unwinding(|| projection.apply(row, &event, recorded)).map_err(misfit)?;
        rows.insert(key, row);
    }
    Ok(rows.into_iter().fold(Commit::new(), |commit, (key, row)| match row {
        Some(row) => commit.put_in(collection, key, &row, Revision::Any, None),
        None => commit.delete_in(collection, key, Revision::Any),
    }))
}

async fn load<R: DeserializeOwned>(
    store: &Store,
    collection: &Collection,
    key: &str,
) -> Result<Option<R>, ReadError> {
    let record = store.get_record(&collection.name, key).await?;
    record.map(|record| record.decode()).transpose()
}

/// What `work` gives, or what it said when it panicked.
fn unwinding<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work))
        .map_err(|panic| format!("the projection panicked: {}", panic_text(&*panic)))
}
