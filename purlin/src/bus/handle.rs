//! The handle that services publish to and consume from.

use crate::store::{Position, ReadError, Store};

use super::{Group, RelayError, relay};

/// A bus: cheap to clone.
///
/// The embedded bus is a log of its own, in one process or, over an engine that many processes share, in many.
#[derive(Debug, Clone)]
pub struct Bus {
    log: Store,
}

impl Bus {
    /// A bus over the log of a store that serves nothing else.
    #[expect(clippy::needless_pass_by_value, reason = "a bus has its store for itself")]
    pub fn embedded(store: Store) -> Self {
        // What is personal crosses the bus as it is at rest.
        Self { log: store.sealed() }
    }

    /// Copies the public events of a service's log to the bus: in order, each exactly once.
    ///
    /// The future is to be run by the supervisor and ends only with an error. Dropped at any point and run again it
    /// goes on where it was: the cursor is committed with the copies. `source` names the service for ever.
    pub fn relay(
        &self,
        source: &str,
        store: &Store,
    ) -> impl Future<Output = Result<(), RelayError>> + Send + use<> + 'static {
        relay::run(source.to_owned(), store.sealed(), self.log.clone())
    }

    /// A consumer group: `store` keeps its marks, its parked messages, and the effects of its handlers.
    ///
    /// A new group begins with the first message of the bus.
    pub fn group(&self, name: impl Into<String>, store: &Store) -> Group {
        Group::new(name.into(), self.log.clone(), store.clone())
    }

    /// The position of the last message.
    pub fn head(&self) -> Position {
        self.log.head()
    }

    /// How many events of a service's log the relay has yet to look at.
    pub async fn relay_lag(&self, source: &str, store: &Store) -> Result<u64, ReadError> {
        let cursor = relay::cursor_of(&self.log, source).await?;
        Ok(store.head().0.saturating_sub(cursor.0))
    }
}
