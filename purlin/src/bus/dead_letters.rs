//! What an operator sees of parked messages, and can do about them.

use serde::Serialize;

use crate::message::{Clock, Fault, FaultKind, Timestamp};
use crate::store::{Commit, CommitError, Page, Position, Query, ReadError, Record, Revision, Row, Store};

use super::backoff::Backoff;
use super::parked::{self, KeyState, ParkedKey, ParkedMessage, SeenKey};

/// The parked messages of all groups that keep theirs in one store.
///
/// What it does are plain writes of records: a group that runs notices them at once, one that does not when it starts.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    store: Store,
    clock: Clock,
}

/// A parked message, without its data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetter {
    /// What [`DeadLetters::show`] and the like take: the group, a dash, and the position in the bus.
    pub id: String,
    /// The group that could not handle it.
    pub group: String,
    /// The key whose later messages wait behind it.
    pub key: String,
    /// What happened.
    pub subject: String,
    /// Whether it is tried again by itself.
    pub state: DeadLetterState,
    /// The kind of the last failure; none while it has only waited behind another.
    pub kind: Option<FaultKind>,
    /// The reason of the last failure.
    pub reason: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was parked.
    pub parked_at: Timestamp,
    /// When it first failed.
    pub first_failure: Option<Timestamp>,
    /// When it last failed.
    pub last_failure: Option<Timestamp>,
    /// When it is tried next.
    pub next_attempt: Option<Timestamp>,
}

/// What becomes of a parked message by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeadLetterState {
    /// It is tried again.
    Retrying,
    /// It waits behind an earlier message of its key.
    Waiting,
    /// It has had all its attempts: an operator must replay or drop it.
    Dead,
}

/// Some parked messages, in the order of the bus, and where to go on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DeadLetterPage {
    /// The messages.
    pub items: Vec<DeadLetter>,
    /// What to give as `after` for the next page; none when this is the last.
    pub next: Option<String>,
}

/// A parked message with all that is kept of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetterDetails {
    /// As in a list.
    pub letter: DeadLetter,
    /// The whole message as JSON: id, source, stream, position, trace, data. Data that are too deep, or have numbers
    /// too large, for a JSON value in memory are one text.
    pub message: serde_json::Value,
}

impl DeadLetters {
    /// The parked messages in a store.
    pub fn new(store: &Store) -> Self {
        Self { store: store.clone(), clock: Clock::system() }
    }

    /// Uses another clock than the machine's.
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// At most `limit` parked messages, of one group or of all, behind the one that `after` names.
    pub async fn list(
        &self,
        group: Option<&str>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<DeadLetterPage, DeadLetterError> {
        let after = after.map(|id| Ok::<_, DeadLetterError>(Address::parse(id)?.record())).transpose()?;
        let query = Query::all().after(after).limit(limit);
        let query = match group {
            Some(group) => query.prefix(format!("{group}/")),
            None => query,
        };
        let Page { records, next } = if_any(self.store.list::<ParkedMessage>(query).await)?;
        let mut items = Vec::with_capacity(records.len());
        for record in &records {
            items.push(self.letter(record).await?.0);
        }
        let next = next.and(items.last().map(|last| last.id.clone()));
        Ok(DeadLetterPage { items, next })
    }

    /// A parked message and all that is kept of it.
    pub async fn show(&self, id: &str) -> Result<DeadLetterDetails, DeadLetterError> {
        let address = Address::parse(id)?;
        let record = if_any(self.store.get_record(ParkedMessage::COLLECTION, &address.record()).await)?;
        let record = record.ok_or_else(|| DeadLetterError::NotFound(id.to_owned()))?;
        let (letter, parked) = self.letter(&record).await?;
        let message = parked.message.shown().map_err(|source| unreadable(&record, source))?;
        Ok(DeadLetterDetails { letter, message })
    }

    /// Tries the messages of this one's key again, now, in order, and with all attempts before them.
    ///
    /// A message that waits behind others is not tried before them: order holds.
    pub async fn replay(&self, id: &str) -> Result<(), DeadLetterError> {
        let address = Address::parse(id)?;
        let key = self.key_of(id, &address).await?;
        self.replay_key(&address.group, &key).await
    }

    /// Tries the parked messages of a key again, as [`DeadLetters::replay`].
    pub async fn replay_key(&self, group: &str, key: &str) -> Result<(), DeadLetterError> {
        let mut races = Backoff::conflict();
        loop {
            let missing = || DeadLetterError::NotFound(format!("{group}/{key}"));
            let seen = if_any(SeenKey::read(&self.store, group, key).await)?.ok_or_else(missing)?;
            let row = seen.row.anew();
            let commit = row.put(Commit::new(), seen.revision, Some(self.clock.now()));
            if self.apply(commit, &mut races).await? {
                return Ok(());
            }
        }
    }

    /// Drops a message for good. When it was the first of its key, the ones behind it flow again.
    pub async fn drop(&self, id: &str) -> Result<(), DeadLetterError> {
        let address = Address::parse(id)?;
        let key = self.key_of(id, &address).await?;
        let mut races = Backoff::conflict();
        loop {
            let missing = || DeadLetterError::NotFound(id.to_owned());
            let seen = SeenKey::read(&self.store, &address.group, &key).await?.ok_or_else(missing)?;
            let commit = if seen.row.head == address.position {
                seen.advance(&self.store, self.clock.now()).await?
            } else {
                let message = self.store.get_record(ParkedMessage::COLLECTION, &address.record()).await?;
                let revision = Revision::Exact(message.ok_or_else(missing)?.revision);
                let row = ParkedKey { count: seen.row.count - 1, ..seen.row.clone() };
                row.put(Commit::new(), seen.revision, seen.due)
                    .delete::<ParkedMessage>(address.record(), revision)
            };
            if self.apply(commit, &mut races).await? {
                return Ok(());
            }
        }
    }

    /// The key of a parked message.
    async fn key_of(&self, id: &str, address: &Address) -> Result<String, DeadLetterError> {
        let message = if_any(self.store.get::<ParkedMessage>(&address.record()).await)?;
        message.map(|parked| parked.key).ok_or_else(|| DeadLetterError::NotFound(id.to_owned()))
    }

    /// Whether the commit was applied; false: somebody else has changed the key, look again.
    async fn apply(&self, commit: Commit, races: &mut Backoff) -> Result<bool, DeadLetterError> {
        match self.store.commit(commit).await {
            Ok(_) => Ok(true),
            Err(CommitError::Conflict(_)) if races.pause().await => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn letter(&self, record: &Record) -> Result<(DeadLetter, ParkedMessage), DeadLetterError> {
        let (parked, position): (ParkedMessage, _) = (record.decode()?, parked::position_of(&record.key)?);
        let seen = SeenKey::read(&self.store, &parked.group, &parked.key).await?;
        let first = seen.filter(|seen| seen.row.head == position);
        let (state, next_attempt) = match first {
            None => (DeadLetterState::Waiting, None),
            Some(SeenKey { row: ParkedKey { state: KeyState::Dead, .. }, .. }) => {
                (DeadLetterState::Dead, None)
            }
            Some(seen) => (DeadLetterState::Retrying, seen.due),
        };
        let failed = parked.failed.clone();
        let letter = DeadLetter {
            id: Address { group: parked.group.clone(), position }.to_string(),
            group: parked.group.clone(),
            key: parked.key.clone(),
            subject: parked.subject.clone(),
            state,
            kind: failed.as_ref().map(|failed| failed.kind),
            first_failure: failed.as_ref().map(|failed| failed.first),
            last_failure: failed.as_ref().map(|failed| failed.last),
            reason: failed.map(|failed| failed.reason),
            attempts: parked.attempts,
            parked_at: parked.parked_at,
            next_attempt,
        };
        Ok((letter, parked))
    }
}

fn unreadable(record: &Record, source: serde_json::Error) -> ReadError {
    ReadError::Unreadable { what: format!("the record `{}`", record.key), source: source.into() }
}

/// The id of a parked message, taken apart.
struct Address {
    group: String,
    position: Position,
}

impl Address {
    fn parse(id: &str) -> Result<Self, DeadLetterError> {
        let parts = id.rsplit_once('-').filter(|(group, _)| !group.is_empty());
        let parsed = parts.and_then(|(group, digits)| Some((group.to_owned(), digits.parse().ok()?)));
        let (group, position) = parsed.ok_or_else(|| DeadLetterError::NotFound(id.to_owned()))?;
        Ok(Self { group, position: Position(position) })
    }

    fn record(&self) -> String {
        parked::message_id(&self.group, self.position)
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.group, self.position)
    }
}

/// An operator's wish was not done.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// No such message, or key, is parked (any more).
    #[error("nothing is parked under `{0}`")]
    NotFound(String),
    /// The store cannot be read.
    #[error("the parked messages cannot be read")]
    Read(#[from] ReadError),
    /// The store cannot be written, or the key changed each time that it was tried.
    #[error("the parked messages cannot be changed")]
    Write(#[from] CommitError),
}

impl Fault for DeadLetterError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::NotFound(_) => FaultKind::NotFound,
            Self::Read(error) => error.kind(),
            Self::Write(error) => error.kind(),
        }
    }
}

/// What was read, or nothing of a store in which nothing was ever parked: who only looks must not write.
fn if_any<T: Default>(read: Result<T, ReadError>) -> Result<T, ReadError> {
    match read {
        Err(ReadError::Invalid(_)) => Ok(T::default()),
        read => read,
    }
}
