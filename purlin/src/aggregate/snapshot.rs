//! A state that was written down, so that loading need not fold every event from the first on.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::store::{Commit, CommitError, ReadError, Row, Store, StreamId};

use super::{Aggregate, Root};

/// The record of a snapshot, under its stream's name.
#[derive(Serialize, Deserialize)]
struct Snapshot {
    format: u32,
    version: u64,
    state: Box<RawValue>,
}

impl Row for Snapshot {
    const COLLECTION: &'static str = "purlin_snapshots";
}

/// Makes the collection that snapshots live in.
pub(super) async fn define(store: &Store) -> Result<(), CommitError> {
    store.define::<Snapshot>().await
}

/// The aggregate as of its last snapshot, if one of this format is there.
pub(super) async fn read<A: Aggregate>(
    store: &Store,
    stream: &StreamId,
    id: &str,
) -> Result<Option<Root<A>>, ReadError> {
    let Some(snapshot) = store.get::<Snapshot>(stream.as_str()).await? else { return Ok(None) };
    if snapshot.format != A::SNAPSHOT_VERSION {
        return Ok(None);
    }
    match serde_json::from_str(snapshot.state.get()) {
        Ok(state) => Ok(Some(Root::at(id, state, snapshot.version))),
        Err(error) => {
            tracing::warn!(%stream, %error, "a snapshot does not fit its aggregate and is ignored");
            Ok(None)
        }
    }
}

/// Writes a snapshot down. It is only a short cut: when it fails, that is logged and nothing is lost.
pub(super) async fn write<A: Aggregate>(store: &Store, stream: &StreamId, root: &Root<A>) {
    let written = async {
        let state = serde_json::value::to_raw_value(root.state())?;
        let snapshot = Snapshot { format: A::SNAPSHOT_VERSION, version: root.version(), state };
        store.commit(Commit::new().put(stream.as_str(), &snapshot)).await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    };
    if let Err(error) = written.await {
        tracing::warn!(%stream, error, "a snapshot could not be written");
    }
}
