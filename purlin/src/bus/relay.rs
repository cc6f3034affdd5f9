//! From the outbox to the bus. The outbox is the service's log itself; the relay's cursor lives in the bus's store.

use serde::{Deserialize, Serialize};

use crate::message::{Fault, FaultKind};
use crate::store::{
    Commit, CommitError, Expected, Following, LogFilter, LogId, LogPage, Position, ReadError, Recorded,
    Revision, Row, Store,
};

use super::backoff::Backoff;
use super::message::copy_of;

/// How many events are read, and at most copied, at a time.
const PAGE: usize = 256;
/// How many bytes of data one commit copies, unless a single event has more.
const BYTES: usize = 4 << 20;
/// After so many positions without a public event the cursor is stored all the same.
const SKIPPED: u64 = 4096;

/// How far a service's log was copied.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Cursor {
    pub(super) log: LogId,
    pub(super) position: Position,
}

impl Row for Cursor {
    const COLLECTION: &'static str = "purlin_relays";
}

/// The relay of a source stopped, and will stop again until a person has looked.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The source is another log than the one whose copies the bus has (restored from a backup, say).
    #[error(
        "the relay of `{source_name}` knows incarnation {} of log {}, but its store is incarnation {} of log {}: \
         what was published and what the restored log says may differ", known.incarnation, known.log, found.incarnation, found.log
    )]
    OtherLog {
        /// The service.
        source_name: String,
        /// The log that was copied until now.
        known: LogId,
        /// The log of the store.
        found: LogId,
    },
    /// The source ends before the relay's cursor: it has lost events that were published.
    #[error("the log of `{source_name}` ends at {head}, but was copied up to {cursor}: it has lost its end")]
    SourceBehind {
        /// The service.
        source_name: String,
        /// Up to where it was copied.
        cursor: Position,
        /// Where its log ends.
        head: Position,
    },
    /// An event does not fit the bus.
    #[error("the event at {position} of `{source_name}`, a `{kind}`, cannot be copied to the bus")]
    Event {
        /// The service.
        source_name: String,
        /// Where the event stands.
        position: Position,
        /// Its kind.
        kind: String,
        /// What does not fit.
        #[source]
        source: crate::store::Cause,
    },
    /// The source cannot be read.
    #[error("the log of a relay's source cannot be read")]
    Read(#[from] ReadError),
    /// The bus cannot be written.
    #[error("the relay cannot write to the bus")]
    Write(#[from] CommitError),
}

impl Fault for RelayError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::OtherLog { .. } | Self::SourceBehind { .. } | Self::Event { .. } => FaultKind::Bug,
            Self::Read(error) => error.kind(),
            Self::Write(error) => error.kind(),
        }
    }
}

/// Up to where a source was copied.
pub(super) async fn cursor_of(bus: &Store, source: &str) -> Result<Position, ReadError> {
    match bus.get::<Cursor>(source).await {
        // Before the first relay has run there is no collection to read.
        Err(ReadError::Invalid(_)) | Ok(None) => Ok(Position::START),
        Ok(Some(cursor)) => Ok(cursor.position),
        Err(error) => Err(error),
    }
}

pub(super) async fn run(source: String, from: Store, bus: Store) -> Result<(), RelayError> {
    let mut relay = Relay { source, from, bus, position: Position::START, stored: Stored::default() };
    let mut backoff = Backoff::store();
    loop {
        let error = match relay.run().await {
            // Another life of this relay wrote last: go on from where it is.
            Err(RelayError::Write(CommitError::Conflict(_))) => continue,
            Err(error) if error.kind().is_transient() => error,
            end => return end,
        };
        tracing::warn!(source = relay.source, error = &error as &dyn std::error::Error, "the relay waits");
        backoff.pause().await;
    }
}

struct Relay {
    source: String,
    from: Store,
    bus: Store,
    /// Up to where the source was read.
    position: Position,
    stored: Stored,
}

/// The cursor as it stands in the bus's store.
#[derive(Default)]
struct Stored {
    position: Position,
    revision: Option<u64>,
}

impl Relay {
    async fn run(&mut self) -> Result<(), RelayError> {
        self.bus.define::<Cursor>().await?;
        self.load().await?;
        let mut log = Following::of(&self.from);
        while let Some(page) = log.next(self.position, &LogFilter::public(), PAGE).await? {
            self.copy(page).await?;
        }
        Ok(())
    }

    async fn load(&mut self) -> Result<(), RelayError> {
        let record = self.bus.get_record(Cursor::COLLECTION, &self.source).await?;
        let Some(record) = record else { return Ok(()) };
        let cursor: Cursor = record.decode()?;
        let (source_name, found) = (self.source.clone(), self.from.log_id());
        if cursor.log != found {
            return Err(RelayError::OtherLog { source_name, known: cursor.log, found });
        }
        let head = self.from.head_up_to(cursor.position).await?;
        if cursor.position > head {
            return Err(RelayError::SourceBehind { source_name, cursor: cursor.position, head });
        }
        self.position = cursor.position;
        self.stored = Stored { position: cursor.position, revision: Some(record.revision) };
        Ok(())
    }

    /// Copies a page in commits of a bearable size, each with the cursor behind its last event.
    async fn copy(&mut self, page: LogPage) -> Result<(), RelayError> {
        let (mut commit, mut bytes) = (Commit::new(), 0);
        for (index, event) in page.events.iter().enumerate() {
            let copy = copy_of(event, &self.source).map_err(|error| self.unfit(event, error))?;
            bytes += copy.data.len();
            commit = commit.append(event.stream.clone(), Expected::Any, [copy]);
            if bytes >= BYTES && index + 1 < page.events.len() {
                self.commit(std::mem::take(&mut commit), event.position, event).await?;
                bytes = 0;
            }
        }
        match page.events.last() {
            Some(last) if !commit.is_empty() => self.commit(commit, page.through, last).await?,
            _ if page.through.0 - self.stored.position.0 >= SKIPPED => {
                self.store(commit, page.through).await?;
            }
            _ => {}
        }
        self.position = page.through;
        Ok(())
    }

    async fn commit(&mut self, copies: Commit, through: Position, last: &Recorded) -> Result<(), RelayError> {
        match self.store(copies, through).await {
            Err(error @ CommitError::Invalid(_)) => Err(self.unfit(last, error)),
            other => Ok(other?),
        }
    }

    /// Applies copies and the cursor behind them.
    async fn store(&mut self, copies: Commit, through: Position) -> Result<(), CommitError> {
        let cursor = Cursor { log: self.from.log_id(), position: through };
        let expected = self.stored.revision.map_or(Revision::Absent, Revision::Exact);
        let commit = copies.put_expecting(&self.source, &cursor, expected, None);
        let committed = self.bus.commit(commit).await?;
        self.position = through;
        self.stored = Stored { position: through, revision: Some(committed.revision) };
        Ok(())
    }

    fn unfit(&self, event: &Recorded, source: impl Into<crate::store::Cause>) -> RelayError {
        RelayError::Event {
            source_name: self.source.clone(),
            position: event.position,
            kind: event.envelope.kind.to_string(),
            source: source.into(),
        }
    }
}
