//! The engine in memory: the semantics of every engine in their plainest form, and faults on demand.

mod state;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;

use crate::message::{Clock, Timestamp};

use crate::store::pool::Pool;
use crate::store::{
    Archived, BoxFuture, Cause, Change, Collection, Commit, CommitError, Committed, Engine, LogFilter, LogId,
    LogPage, Position, Query, ReadError, Record, Recorded, StreamId,
};

use state::State;

/// A store in memory. Clones share it, so that a test can "restart" by opening a second handle.
#[derive(Clone)]
pub struct Memory {
    shared: Arc<Shared>,
}

struct Shared {
    id: LogId,
    clock: Clock,
    state: Mutex<State>,
    head: watch::Sender<Position>,
    faults: Mutex<Faults>,
    window: AtomicUsize,
}

/// Events for which a page makes room at once.
const PAGE: usize = 4096;

const CLOSED: &str = "the store is closed";

/// What the engine does wrong on purpose.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// So many commits are refused as unavailable, and not applied.
    pub refuse: usize,
    /// Every commit takes so long.
    pub delay: Duration,
}

impl Memory {
    /// An empty store on the machine's clock.
    pub fn new() -> Self {
        Self::with_clock(Clock::system())
    }

    /// An empty store on a clock.
    pub fn with_clock(clock: Clock) -> Self {
        Self::of_log(LogId::new(), clock)
    }

    /// An empty store that goes on as a log that was made elsewhere: for imports.
    pub fn of_log(id: LogId, clock: Clock) -> Self {
        let (head, _) = watch::channel(Position::START);
        let state = Mutex::new(State { pool: Pool::of_page(), ..State::default() });
        let faults = Mutex::default();
        let window = AtomicUsize::new(usize::MAX);
        Self { shared: Arc::new(Shared { id, clock, state, head, faults, window }) }
    }

    /// Looks through at most so many positions of the log at a time, as engines on a disk do: a page is then short
    /// although more events follow.
    pub fn short_pages(self, positions: usize) -> Self {
        self.shared.window.store(positions.max(1), Ordering::Relaxed);
        self
    }

    /// Sets what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        *self.shared.faults.lock().expect("no panic holds the faults") = faults;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().expect("a panic under the state's lock is a bug of this engine")
    }

    fn state_to_change(&self) -> Result<MutexGuard<'_, State>, CommitError> {
        let state = self.state();
        if state.closed { Err(CommitError::Unavailable(CLOSED.into())) } else { Ok(state) }
    }

    fn state_to_read(&self) -> Result<MutexGuard<'_, State>, ReadError> {
        let state = self.state();
        if state.closed { Err(ReadError::Unavailable(CLOSED.into())) } else { Ok(state) }
    }

    /// The delay and refusal that this commit meets.
    fn meet_fault(&self) -> (Duration, bool) {
        let mut faults = self.shared.faults.lock().expect("no panic holds the faults");
        let refused = faults.refuse > 0;
        faults.refuse = faults.refuse.saturating_sub(1);
        (faults.delay, refused)
    }

    fn apply(&self, commit: &Commit) -> Result<Committed, CommitError> {
        let mut state = self.state_to_change()?;
        state.check(commit)?;
        state.at = state.at.max(self.shared.clock.now()).max(state.last);
        state.revision = (state.revision + 1).max(state.at.as_microsecond().unsigned_abs());
        let appended = commit.appends.iter().map(|append| state.append(append)).collect();
        state.write(commit);
        commit.changes.iter().cloned().for_each(|change| state.change(change));
        let (position, revision, at) = (Position(state.events.len() as u64), state.revision, state.at);
        // Under the lock, so that the head never goes back.
        self.shared.head.send_replace(position);
        Ok(Committed { position, revision, at, appended, repeated: false })
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Engine for Memory {
    fn log_id(&self) -> LogId {
        self.shared.id
    }

    fn clock(&self) -> Clock {
        self.shared.clock.clone()
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(async move {
            let (delay, refused) = self.meet_fault();
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            if refused {
                return Err(CommitError::Unavailable("told to refuse".into()));
            }
            self.apply(&commit)
        })
    }

    fn read_stream(
        &self,
        stream: StreamId,
        from: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Recorded>, ReadError>> {
        let state = match self.state_to_read() {
            Ok(state) => state,
            Err(closed) => return Box::pin(std::future::ready(Err(closed))),
        };
        let indexes = state.streams.get(&stream).map_or(&[][..], Vec::as_slice);
        let skip = usize::try_from(from.saturating_sub(1)).unwrap_or(usize::MAX);
        let events =
            indexes.iter().skip(skip).take(limit).map(|index| state.events[*index].clone()).collect();
        Box::pin(std::future::ready(Ok(events)))
    }

    fn read_stream_back(
        &self,
        stream: StreamId,
        before: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Recorded>, ReadError>> {
        let state = match self.state_to_read() {
            Ok(state) => state,
            Err(closed) => return Box::pin(std::future::ready(Err(closed))),
        };
        let indexes = state.streams.get(&stream).map_or(&[][..], Vec::as_slice);
        let until = usize::try_from(before.saturating_sub(1)).unwrap_or(usize::MAX).min(indexes.len());
        let newest = indexes[..until].iter().rev().take(limit);
        let events = newest.map(|index| state.events[*index].clone()).collect();
        Box::pin(std::future::ready(Ok(events)))
    }

    fn read_log(
        &self,
        after: Position,
        filter: LogFilter,
        limit: usize,
    ) -> BoxFuture<'_, Result<LogPage, ReadError>> {
        let state = match self.state_to_read() {
            Ok(state) => state,
            Err(closed) => return Box::pin(std::future::ready(Err(closed))),
        };
        let skip = usize::try_from(after.0).unwrap_or(usize::MAX);
        let room = state.events.len().saturating_sub(skip).min(limit).min(PAGE);
        let mut page = LogPage { events: Vec::with_capacity(room), through: after };
        for event in state.events.iter().skip(skip).take(self.shared.window.load(Ordering::Relaxed)) {
            if page.events.len() == limit {
                break;
            }
            page.through = event.position;
            if filter.admits(event) {
                page.events.push(event.clone());
            }
        }
        Box::pin(std::future::ready(Ok(page)))
    }

    fn watch(&self) -> watch::Receiver<Position> {
        self.shared.head.subscribe()
    }

    fn get(&self, collection: String, key: String) -> BoxFuture<'_, Result<Option<Record>, ReadError>> {
        let get = || Ok(self.state_to_read()?.table(&collection)?.records.get(&key).cloned());
        Box::pin(std::future::ready(get()))
    }

    fn get_many(
        &self,
        collection: String,
        keys: Vec<String>,
    ) -> BoxFuture<'_, Result<Vec<Option<Record>>, ReadError>> {
        let get = || {
            let state = self.state_to_read()?;
            let records = &state.table(&collection)?.records;
            Ok(keys.iter().map(|key| records.get(key).cloned()).collect())
        };
        Box::pin(std::future::ready(get()))
    }

    fn list(&self, collection: String, query: Query) -> BoxFuture<'_, Result<Vec<Record>, ReadError>> {
        let list = || {
            let state = self.state_to_read()?;
            let table = state.table(&collection)?;
            table.definition.check(&query)?;
            let mut found = Vec::new();
            for record in table.page(&query) {
                if table.admits(record, &query.equal)? {
                    found.push(record.clone());
                }
                if found.len() > query.effective_limit() {
                    break;
                }
            }
            Ok(found)
        };
        Box::pin(std::future::ready(list()))
    }

    fn due(
        &self,
        collection: String,
        until: Timestamp,
        prefix: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, ReadError>> {
        let find = || {
            let state = self.state_to_read()?;
            let prefix = prefix.as_deref().unwrap_or_default();
            let due = |record: &&Record| {
                record.due.is_some_and(|due| due <= until) && record.key.starts_with(prefix)
            };
            let mut records: Vec<Record> =
                state.table(&collection)?.records.values().filter(due).cloned().collect();
            records.sort_by(|a, b| (a.due, &a.key).cmp(&(b.due, &b.key)));
            records.truncate(limit);
            Ok(records)
        };
        Box::pin(std::future::ready(find()))
    }

    fn collections(&self) -> BoxFuture<'_, Result<Vec<Collection>, ReadError>> {
        let state = self.state_to_read();
        let all =
            state.map(|state| state.collections.values().map(|table| table.definition.clone()).collect());
        Box::pin(std::future::ready(all))
    }

    fn define(&self, collection: Collection) -> BoxFuture<'_, Result<(), CommitError>> {
        let define = || {
            self.state_to_change()?.change(Change::Define(collection));
            Ok(())
        };
        Box::pin(std::future::ready(define()))
    }

    /// Nothing moves in memory; it is only counted what another engine would move.
    fn archive(&self, streams: Vec<StreamId>, limit: usize) -> BoxFuture<'_, Result<Archived, CommitError>> {
        let archived = self.state_to_change().map(|mut state| state.archive(streams, limit));
        Box::pin(std::future::ready(archived))
    }

    fn backup<'a>(&'a self, _to: &'a Path) -> BoxFuture<'a, Result<(), Cause>> {
        Box::pin(std::future::ready(Err(
            "a store in memory has no backup: nothing of it is meant to last".into()
        )))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.state().closed = true;
        Box::pin(std::future::ready(()))
    }
}
