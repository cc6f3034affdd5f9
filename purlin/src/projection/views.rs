//! What an operator sees of the views of a store, and can do about them.

use serde::Serialize;

use crate::bus::Backoff;
use crate::message::{Clock, Fault, FaultKind, Timestamp};
use crate::store::{Commit, CommitError, Position, Query, ReadError, Record, Revision, Row, Store};

use super::ViewStatus;
use super::checkpoint::Stored;
use super::control::{Control, Inline, Seen};
use super::parked::{Held, Parked, ParkedEvent, ParkedKey, Room, records};
use super::swap::built;

/// The views that have their rows in one store.
///
/// What it does are plain writes of records: a view that runs notices them at once, one that does not when it starts.
#[derive(Debug, Clone)]
pub struct Views {
    store: Store,
    clock: Clock,
}

/// Some events that a view could not fold, in the order of the log, and where to go on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ParkedPage {
    /// The events.
    pub items: Vec<ParkedItem>,
    /// What to give as `after` for the next page; none when this is the last.
    pub next: Option<String>,
}

/// An event that a view could not fold, or that waits behind one of its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParkedItem {
    /// The key that is folded in order.
    pub key: String,
    /// Where the event stands in the log.
    pub position: Position,
    /// Its stream.
    pub stream: String,
    /// Its kind.
    pub kind: String,
    /// What becomes of it.
    pub state: ParkedState,
    /// What was wrong when it was last tried; none while it has only waited.
    pub reason: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was parked.
    pub parked_at: Timestamp,
    /// When it was last tried.
    pub last_attempt: Option<Timestamp>,
    /// It is missing in rows that are built beside the live ones.
    pub beside: bool,
}

/// What becomes of a parked event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ParkedState {
    /// It does not fit: an operator must correct the program, or drop it.
    Parked,
    /// It waits behind an earlier event of its key.
    Waiting,
    /// It is tried as soon as the view runs.
    Retrying,
}

impl Views {
    /// The views in a store.
    pub fn new(store: &Store) -> Self {
        Self { store: store.clone(), clock: store.clock() }
    }

    /// All views that were ever run on the store, by name.
    pub async fn list(&self) -> Result<Vec<ViewStatus>, OperateError> {
        let mut views = Vec::new();
        for record in if_any(records::<Control>(&self.store, "").await)? {
            views.extend(if_any(super::status::of(&self.store, &record.key, self.clock.now()).await)?);
        }
        Ok(views)
    }

    /// How a view is.
    pub async fn show(&self, name: &str) -> Result<ViewStatus, OperateError> {
        let status = if_any(super::status::of(&self.store, name, self.clock.now()).await)?;
        status.ok_or_else(|| OperateError::NotFound(format!("a view `{name}`")))
    }

    /// Stops a view until [`Views::resume`], in later lives of the program too. When this returns, no row changes.
    pub async fn pause(&self, name: &str) -> Result<(), OperateError> {
        self.existing(name).await?.pause().await
    }

    /// Lets a paused view go on.
    pub async fn resume(&self, name: &str) -> Result<(), OperateError> {
        self.existing(name).await?.resume().await
    }

    /// Has the rows of a view built anew beside the live ones, and take their name.
    pub async fn rebuild(&self, name: &str) -> Result<(), OperateError> {
        self.existing(name).await?.rebuild().await
    }

    /// Calls off what [`Views::rebuild`] asked for.
    pub async fn cancel_rebuild(&self, name: &str) -> Result<(), OperateError> {
        self.existing(name).await?.cancel().await
    }

    /// At most `limit` parked events of a view, behind the one that a page ended with.
    pub async fn parked(
        &self,
        name: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<ParkedPage, OperateError> {
        let after = after.map(str::to_owned).filter(|after| after.starts_with(&Room::all(name)));
        let query = Query::all().prefix(Room::all(name)).after(after).limit(limit);
        let page = if_any(self.store.list::<ParkedEvent>(query).await)?;
        let live = if_any(Stored::read(&self.store, name).await)?;
        let live = Room::new(name, live.map_or(0, |live| live.checkpoint.room));
        let mut items = Vec::with_capacity(page.records.len());
        for record in &page.records {
            items.push(self.item(name, &live, record).await?);
        }
        Ok(ParkedPage { items, next: page.next })
    }

    async fn item(&self, name: &str, live: &Room, record: &Record) -> Result<ParkedItem, OperateError> {
        let event: ParkedEvent = record.decode()?;
        let room = Room::of(name, &record.key).unwrap_or_else(|| live.clone());
        let key = self.store.get::<ParkedKey>(&room.key_id(&event.key)).await?;
        let state = match key {
            Some(key) if key.head == event.position && key.retry => ParkedState::Retrying,
            Some(key) if key.head == event.position => ParkedState::Parked,
            _ => ParkedState::Waiting,
        };
        let ParkedEvent { key, position, stream, kind, reason, attempts, parked_at, last_attempt, .. } =
            event;
        let beside = room != *live;
        Ok(ParkedItem {
            key,
            position,
            stream,
            kind,
            state,
            reason,
            attempts,
            parked_at,
            last_attempt,
            beside,
        })
    }

    /// Has the parked events of this one's key tried again, in order.
    pub async fn retry(&self, name: &str, event: Position) -> Result<(), OperateError> {
        let key = self.key_of(name, event).await?;
        self.retry_key(name, &key).await
    }

    /// Has the parked events of a key tried again, in order.
    pub async fn retry_key(&self, name: &str, key: &str) -> Result<(), OperateError> {
        self.on_key(name, key, Wish::Retry).await
    }

    /// Leaves an event out for good. When it was the first of its key, those behind it are tried.
    pub async fn drop(&self, name: &str, event: Position) -> Result<(), OperateError> {
        let key = self.key_of(name, event).await?;
        self.on_key(name, &key, Wish::Drop(event)).await
    }

    /// Changes what is parked of a key, and makes the view look. Should the view have changed it meanwhile, all is decided
    /// anew; afterwards it can change nothing until it has looked, as its commits require the control record that this
    /// replaces.
    async fn on_key(&self, name: &str, key: &str, wish: Wish) -> Result<(), OperateError> {
        let mut races = Backoff::conflict();
        loop {
            let seen = if_any(Seen::read(&self.store, name).await.map(Some))?;
            let (mut commit, seen) = (Commit::new(), seen.ok_or_else(|| missing(key))?);
            for room in self.rooms(name).await? {
                if let Some(record) = self.store.get_record(ParkedKey::COLLECTION, &room.key_id(key)).await? {
                    commit = commit.and(self.wished(wish, &room, Held::of(&record)?).await?);
                }
            }
            if commit.is_empty() {
                return Err(missing(key));
            }
            let row = Control { wishes: seen.row.wishes + 1, ..seen.row.clone() };
            match self.store.commit(seen.replace(commit, &row)).await {
                Ok(_) => return Ok(()),
                Err(CommitError::Conflict(_)) if races.pause().await => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn wished(&self, wish: Wish, room: &Room, held: Held) -> Result<Commit, ReadError> {
        let row = held.row.clone();
        let row = match wish {
            Wish::Retry => ParkedKey { retry: true, ..row },
            Wish::Drop(event) if row.head == event => {
                return Ok(Parked::advance(&self.store, room, &held).await?.0);
            }
            Wish::Drop(_) => ParkedKey { count: row.count.saturating_sub(1), ..row },
        };
        let commit = held.replace(Commit::new(), room, &row);
        let Wish::Drop(event) = wish else { return Ok(commit) };
        let id = room.event_id(event);
        match self.store.get_record(ParkedEvent::COLLECTION, &id).await? {
            Some(record) => Ok(commit.delete::<ParkedEvent>(id, Revision::Exact(record.revision))),
            None => Ok(Commit::new()),
        }
    }

    /// The key of a parked event.
    async fn key_of(&self, name: &str, event: Position) -> Result<String, OperateError> {
        for room in self.rooms(name).await? {
            let found = if_any(self.store.get::<ParkedEvent>(&room.event_id(event)).await)?;
            if let Some(found) = found {
                return Ok(found.key);
            }
        }
        Err(OperateError::NotFound(format!("a parked event at {event}")))
    }

    /// Where events of a view may be parked.
    async fn rooms(&self, name: &str) -> Result<Vec<Room>, OperateError> {
        let live = if_any(Stored::read(&self.store, name).await)?;
        let mut rooms = vec![Room::new(name, live.map_or(0, |live| live.checkpoint.room))];
        rooms.extend(if_any(built(&self.store, name).await)?.map(|built| Room::new(name, built.room)));
        Ok(rooms)
    }

    /// A view that is there, in a store whose collections may not have been made.
    async fn existing<'a>(&'a self, name: &'a str) -> Result<Known<'a>, OperateError> {
        self.show(name).await?;
        Ok(self.known(name))
    }

    /// A view that the caller knows to be there.
    pub(super) fn known<'a>(&'a self, name: &'a str) -> Known<'a> {
        Known { store: &self.store, name }
    }
}

/// What is to become of the parked events of a key.
#[derive(Debug, Clone, Copy)]
enum Wish {
    Retry,
    Drop(Position),
}

/// One of the views.
pub(super) struct Known<'a> {
    store: &'a Store,
    name: &'a str,
}

impl Known<'_> {
    pub(super) async fn pause(&self) -> Result<(), OperateError> {
        self.change(|control| Ok(Control { paused: true, ..control })).await
    }

    pub(super) async fn resume(&self) -> Result<(), OperateError> {
        self.change(|control| Ok(Control { paused: false, ..control })).await
    }

    pub(super) async fn rebuild(&self) -> Result<(), OperateError> {
        let live = Stored::read(self.store, self.name).await?;
        let version = live.map(|live| live.checkpoint.version);
        self.change(|control| match version {
            _ if control.rebuild => Err(OperateError::Busy("it is being built anew already")),
            Some(version) if version < control.version => {
                Err(OperateError::Busy("a new version of it is being built"))
            }
            _ => Ok(Control { rebuild: true, ..control }),
        })
        .await
    }

    pub(super) async fn cancel(&self) -> Result<(), OperateError> {
        self.change(|control| match control.rebuild {
            true => Ok(Control { rebuild: false, ..control }),
            false => Err(OperateError::Busy("no rebuild of it was asked for that could be called off")),
        })
        .await
    }

    /// Replaces the control record; whoever writes rows of the view has stopped when this returns.
    async fn change(
        &self,
        change: impl Fn(Control) -> Result<Control, OperateError>,
    ) -> Result<(), OperateError> {
        let mut races = Backoff::conflict();
        loop {
            let seen = Seen::read(self.store, self.name).await?;
            let row = change(Control { wishes: seen.row.wishes + 1, ..seen.row.clone() })?;
            let follows = row.paused || row.rebuild;
            let commit = if follows && row.inline != Inline::Off {
                seen.demote(self.store, row).await?
            } else {
                seen.replace(Commit::new(), &row)
            };
            match self.store.commit(commit).await {
                Ok(_) => return Ok(()),
                Err(CommitError::Conflict(_)) if races.pause().await => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// An operator's wish was not done.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    /// There is no such thing (any more).
    #[error("there is not {0} here")]
    NotFound(String),
    /// The view's present state does not allow it.
    #[error("the view cannot do this now: {0}")]
    Busy(&'static str),
    /// The store cannot be read.
    #[error("the views cannot be read")]
    Read(#[from] ReadError),
    /// The store cannot be written, or the view changed each time that it was tried.
    #[error("the views cannot be changed")]
    Write(#[from] CommitError),
}

impl Fault for OperateError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::NotFound(_) => FaultKind::NotFound,
            Self::Busy(_) => FaultKind::Conflict,
            Self::Read(error) => error.kind(),
            Self::Write(error) => error.kind(),
        }
    }
}

fn missing(key: &str) -> OperateError {
    OperateError::NotFound(format!("a parked event of the key `{key}`"))
}

/// What was read, or nothing of a store that never had views: who only looks must not make their collections in it.
fn if_any<T: Default>(read: Result<T, ReadError>) -> Result<T, ReadError> {
    match read {
        Err(ReadError::Invalid(_)) => Ok(T::default()),
        read => read,
    }
}
