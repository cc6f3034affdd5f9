//! Reading on towards the end of the log, whichever of the two is told of first.
//!
//! Where a log ends is told apart from what it has: who answers a read (a connection to a server that was just promoted, or
//! that is read behind another) may lag behind whoever told of the end. A page then does not come any further, and asked
//! again at once it would not either.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{LogFilter, LogPage, Position, ReadError, Store};

/// The end of the log as it is told, for one who reads up to it.
pub(crate) struct Following {
    pub(super) store: Store,
    head: watch::Receiver<Position>,
    pauses: Pauses,
}

impl Following {
    pub(crate) fn of(store: &Store) -> Self {
        Self { store: store.clone(), head: store.watch(), pauses: Pauses::default() }
    }

    /// What is wanted of the next part of the log behind a position, once there is one: it has come further, also when it
    /// is empty. None once nothing more is told. It may be dropped while it waits.
    pub(crate) async fn next(
        &mut self,
        after: Position,
        filter: &LogFilter,
        limit: usize,
    ) -> Result<Option<LogPage>, ReadError> {
        loop {
            let head = *self.head.borrow_and_update();
            if head > after {
                let page = self.store.follow(after, filter, limit).await?;
                if page.through > after {
                    self.pauses = Pauses::default();
                    return Ok(Some(page));
                }
            }
            let told = match head > after {
                true => self.pauses.wait(&mut self.head).await,
                false => self.head.changed().await,
            };
            if told.is_err() {
                return Ok(None);
            }
        }
    }
}

/// How long a part of the log is waited for that is known to be there.
const PATIENCE: Duration = Duration::from_secs(10);

/// A part of the log that is known to be there cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the log cannot be read behind {0}, though it is said to go further")]
struct Lags(Position);

impl Store {
    /// As [`Store::read_log`], behind a position that the log is known to go beyond: the page comes further.
    pub(crate) async fn read_known(
        &self,
        after: Position,
        filter: &LogFilter,
        limit: usize,
    ) -> Result<LogPage, ReadError> {
        let (mut head, mut pauses) = (self.watch(), Pauses::default());
        let until = Instant::now() + PATIENCE;
        loop {
            let page = self.read_log(after, filter, limit).await?;
            if page.through > after {
                return Ok(page);
            }
            if Instant::now() >= until || pauses.wait(&mut head).await.is_err() {
                return Err(ReadError::Unavailable(Lags(after).into()));
            }
        }
    }
}

/// Pauses after which a page that has not come any further is asked for again; each is longer than the one before.
struct Pauses {
    next: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { next: Duration::from_millis(50) }
    }
}

impl Pauses {
    const LONGEST: Duration = Duration::from_millis(250);

    /// Waits for a pause, or until something was committed; an error once nothing more is told.
    async fn wait(&mut self, head: &mut watch::Receiver<Position>) -> Result<(), watch::error::RecvError> {
        let pause = self.next;
        self.next = (2 * pause).min(Self::LONGEST);
        tokio::time::timeout(pause, head.changed()).await.unwrap_or(Ok(()))
    }
}
