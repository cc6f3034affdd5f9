//! The handle that everything else holds.

mod collections;
mod once;

pub(crate) use collections::LONGEST_NAME;
pub(super) use collections::check_name;

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use crate::message::{Clock, Timestamp};
use crate::store::memory::Memory;
use crate::store::personal::{self, Personalized};
use crate::store::reading::{Reading, is_cut};
use crate::store::tail::Tail;
use crate::store::tenant::{self, Tenanted};
use crate::store::{
    Cause, Commit, CommitError, Committed, Engine, Limits, LogFilter, LogId, LogPage, Position, ReadError,
    Recorded, StreamId, TokenError, WriteKind,
};
use crate::telemetry;

/// A store: cheap to clone, whatever engine serves it.
#[derive(Clone)]
pub struct Store {
    pub(in crate::store) engine: Arc<dyn Engine>,
    /// The engine that stores, below the one that seals and opens personal data.
    pub(in crate::store) bare: Arc<dyn Engine>,
    pub(in crate::store) limits: Limits,
    /// What stands above the engine that seals.
    pub(in crate::store) above: Above,
    tail: Arc<Tail>,
    /// Whose part of a store it is.
    tenant: Option<Arc<str>>,
}

/// What a handle has above the engine that seals and opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Above {
    /// Nothing.
    Nothing,
    /// An engine that does something with each commit.
    Engine,
    /// The store that it was made of has such an engine, and it has none: what it commits would pass that by.
    PassedBy,
}

impl Above {
    /// Of a handle that is made without what stood above.
    pub(in crate::store) fn without(self) -> Self {
        if self == Self::Nothing { Self::Nothing } else { Self::PassedBy }
    }
}

impl Store {
    /// A store on an engine.
    pub fn new(engine: impl Engine) -> Self {
        let bare: Arc<dyn Engine> = Arc::new(engine);
        let engine = Arc::new(Personalized::new(Arc::clone(&bare), None));
        Self::of(engine, bare, Limits::default())
    }

    pub(in crate::store) fn of(engine: Arc<dyn Engine>, bare: Arc<dyn Engine>, limits: Limits) -> Self {
        let (above, tail) = (Above::Nothing, Arc::default());
        Self { engine, bare, limits, above, tail, tenant: None }
    }

    /// The same store with another engine above what stores, and what this one has above that.
    pub(in crate::store) fn over(&self, engine: Arc<dyn Engine>, above: Above) -> Self {
        let tenant = self.tenant.clone();
        Self { tenant, above, ..Self::of(engine, Arc::clone(&self.bare), self.limits) }
    }

    /// A new store in memory, which ends with its last handle.
    pub fn memory() -> Self {
        Self::new(Memory::new())
    }

    /// The part of the store that is a tenant's: a store of its own in all that is read and written by stream, tag and
    /// key, while positions and collections are shared with all others. Collections are swapped and removed, and
    /// backups are made, by the store itself.
    ///
    /// A tenant's name is 1 to 48 lower-case letters, digits and `_`. A tenant may have tenants of its own.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use purlin::message::Envelope;
    /// use purlin::store::{Commit, Expected, LogFilter, Position, Store, StreamId};
    ///
    /// let store = Store::memory();
    /// let (acme, other) = (store.tenant("acme").unwrap(), store.tenant("other").unwrap());
    /// let order = StreamId::new("order", "4711").unwrap();
    /// let placed = Commit::new().append(order.clone(), Expected::NoStream, [Envelope::raw("order.placed", "{}")]);
    /// acme.commit(placed).await.unwrap();
    /// assert!(other.read_stream(&order, 1, 10).await.unwrap().is_empty());
    /// let log = store.read_log(Position::START, &LogFilter::all(), 10).await.unwrap();
    /// assert_eq!(log.events[0].stream.tenant(), Some("acme"));
    /// # });
    /// ```
    pub fn tenant(&self, name: &str) -> Result<Self, CommitError> {
        if !tenant::is_name(name) {
            return Err(CommitError::Invalid(format!(
                "`{name}` cannot name a tenant: lower-case letters, digits and `_`, at most {} bytes",
                tenant::MAX_LEN
            )));
        }
        let tenanted = |engine: &Arc<dyn Engine>| -> Arc<dyn Engine> {
            Arc::new(Tenanted::new(Arc::clone(engine), name))
        };
        let engine = tenanted(&self.engine);
        let bare = if self.is_sealed() { Arc::clone(&engine) } else { tenanted(&self.bare) };
        let (tenant, above) = (Some(name.into()), self.above);
        Ok(Self { tenant, above, ..Self::of(engine, bare, self.limits) })
    }

    /// Whose part of a store it is, if it is a tenant's.
    pub(crate) fn tenant_name(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// The same store for a handle that does something with each commit: `engine` stands above the one that serves it.
    pub(crate) fn under(&self, engine: impl Engine) -> Self {
        let above = if self.above == Above::PassedBy { Above::PassedBy } else { Above::Engine };
        self.over(Arc::new(engine), above)
    }

    /// What serves it, for a handle that does something with each commit.
    pub(crate) fn engine(&self) -> Arc<dyn Engine> {
        Arc::clone(&self.engine)
    }

    /// The clock that tells when a commit happens.
    pub(crate) fn clock(&self) -> Clock {
        self.engine.clock()
    }

    /// Applies a commit: all of it, durably, or nothing.
    ///
    /// From the first poll on it is in the engine's hands: dropping the future (a timeout, a caller who left) does not
    /// undo it, and whether it happened is then not known. Who wants to ask again gives it an id
    /// ([`Commit::with_id`]).
    pub async fn commit(&self, mut commit: Commit) -> Result<Committed, CommitError> {
        self.limits.check(&commit)?;
        self.check_personal(&commit)?;
        trace(&mut commit);
        to_the_microsecond(&mut commit);
        match commit.id.take() {
            None => self.engine.commit(commit).await,
            Some((id, keep)) => self.commit_once(commit, id.to_string(), keep).await,
        }
    }

    /// At most `limit` events of a stream from a version on (the first has version 1); fewer only at its end.
    pub async fn read_stream(
        &self,
        stream: &StreamId,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Recorded>, ReadError> {
        Reading::forwards(&*self.engine, stream.clone(), from, limit).all().await
    }

    /// As [`Store::read_stream`], but at most what the engine gives at once, and whether there may be more.
    pub(crate) async fn read_stream_page(
        &self,
        stream: &StreamId,
        from: u64,
        limit: usize,
    ) -> Result<(Vec<Recorded>, bool), ReadError> {
        let events = self.engine.read_stream(stream.clone(), from, limit).await?;
        let more = events.len() == limit || is_cut(&events);
        Ok((events, more))
    }

    /// At most `limit` events of a stream whose versions are before one (`u64::MAX`: from its end), the newest first;
    /// fewer only at its beginning.
    pub async fn read_stream_back(
        &self,
        stream: &StreamId,
        before: u64,
        limit: usize,
    ) -> Result<Vec<Recorded>, ReadError> {
        Reading::backwards(&*self.engine, stream.clone(), before, limit).all().await
    }

    /// As [`Store::read_stream_back`], but at most what the engine gives at once, and whether there may be more.
    pub(crate) async fn read_stream_back_page(
        &self,
        stream: &StreamId,
        before: u64,
        limit: usize,
    ) -> Result<(Vec<Recorded>, bool), ReadError> {
        let events = self.engine.read_stream_back(stream.clone(), before, limit).await?;
        let more = events.len() == limit || is_cut(&events);
        Ok((events, more))
    }

    /// What a commit may hold.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// At most `limit` wanted events of the log behind a position.
    pub async fn read_log(
        &self,
        after: Position,
        filter: &LogFilter,
        limit: usize,
    ) -> Result<LogPage, ReadError> {
        filter.check()?;
        self.engine.read_log(after, filter.clone(), limit).await
    }

    /// As [`Store::read_log`], and close to the end of the log from what other followers have read.
    pub(crate) async fn follow(
        &self,
        after: Position,
        filter: &LogFilter,
        limit: usize,
    ) -> Result<LogPage, ReadError> {
        // What is kept is sealed: who meets personal data reads them himself.
        match self.tail.page(&*self.bare, after, filter, limit).await {
            Some(page) if self.is_sealed() || !page.events.iter().any(personal::may_be_in) => Ok(page),
            _ => self.read_log(after, filter, limit).await,
        }
    }

    /// The position of the last committed event.
    pub fn head(&self) -> Position {
        *self.engine.watch().borrow()
    }

    /// Where the log ends, as far as it matters whether that is before `wanted`. [`Store::head`] is what this process
    /// has heard of; what others have committed in a database since is looked for in the log itself.
    pub(crate) async fn head_up_to(&self, wanted: Position) -> Result<Position, ReadError> {
        let mut head = self.head();
        while head < wanted {
            let page = self.bare.read_log(head, LogFilter::all(), 1000).await?;
            if page.through <= head {
                break;
            }
            head = page.through;
        }
        Ok(head)
    }

    /// A channel that holds the last position and is marked as changed by every commit.
    pub fn watch(&self) -> watch::Receiver<Position> {
        self.engine.watch()
    }

    /// The time, by the clock of the store.
    pub fn now(&self) -> Timestamp {
        self.engine.clock().now()
    }

    /// Which log this is.
    pub fn log_id(&self) -> LogId {
        self.engine.log_id()
    }

    /// A position of this log as an opaque token for the world outside.
    pub fn token(&self, position: Position) -> String {
        self.log_id().token(position)
    }

    /// The position that [`Store::token`] wrote, in this process or in another; one that the log has not reached is
    /// refused. While the log cannot be read none is: whoever waits for the position learns of it.
    pub async fn parse_token(&self, token: &str) -> Result<Position, TokenError> {
        let position = self.log_id().parse_token(token)?;
        match self.head_up_to(position).await {
            Ok(head) if head < position => Err(TokenError::Ahead),
            _ => Ok(position),
        }
    }

    /// Writes a copy of the whole store, as of one instant, to a new file; with an archive, to a second one beside it whose
    /// name ends with `.archive`. The file has its name once the copy is whole and durable, its archive included; whoever opens it as a store begins a new incarnation of the log.
    pub async fn backup(&self, to: &Path) -> Result<(), Cause> {
        self.engine.backup(to).await
    }

    /// Finishes what was taken and stops; whatever is asked later is refused as unavailable.
    pub async fn close(&self) {
        self.engine.close().await;
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("log", &self.log_id()).field("head", &self.head()).finish()
    }
}

/// Gives every event that has no trace the one that is at work.
fn trace(commit: &mut Commit) {
    let Some(context) = telemetry::current() else { return };
    // What happened at another time happened in another trace.
    let now = commit.appends.iter_mut().filter(|append| append.at.is_none());
    for event in now.flat_map(|append| &mut append.events) {
        event.meta.trace.get_or_insert(context);
    }
}

/// Stores keep times to the microsecond.
fn to_the_microsecond(commit: &mut Commit) {
    for at in commit.appends.iter_mut().filter_map(|append| append.at.as_mut()) {
        *at = Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(*at);
    }
    for write in &mut commit.writes {
        if let WriteKind::Put { due: Some(due), .. } = &mut write.kind {
            *due = Timestamp::from_microsecond(due.as_microsecond()).unwrap_or(*due);
        }
    }
}
