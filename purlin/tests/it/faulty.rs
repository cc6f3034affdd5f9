//! A store that fails on purpose at chosen commits, and a process that can die there.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::try_join_all;
use purlin::store::{
    Archived, BoxFuture, Change, Collection, Commit, CommitError, Committed, Engine, Layer, LogFilter,
    LogPage, Position, Query, ReadError, Record, Recorded, Store, StreamId,
};
use tokio::sync::watch;

/// What happens at a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is refused as unavailable, and not applied.
    Refused,
    /// The process dies before it.
    DeadBefore,
    /// The process dies behind it, before it hears that it was applied.
    DeadBehind,
    /// The process dies; the commit is on its way to the disk, and applied only when the next life first commits.
    Late,
    /// As late, but applied when the next life first reads a log: it knows how far it was, not yet the rest.
    LateRead,
}

/// The commits of all stores of a process, counted, and what happens at which.
#[derive(Clone)]
pub(crate) struct Fates(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    lives: watch::Sender<u32>,
}

#[derive(Default)]
struct State {
    commits: usize,
    reads: Reads,
    /// Every page of a stream takes so long.
    slow: Duration,
    read_only: bool,
    plan: BTreeMap<usize, Fate>,
    before: BTreeMap<usize, BoxFuture<'static, ()>>,
    before_swap: Option<BoxFuture<'static, ()>>,
    at_swap: Option<Fate>,
    before_get: HashMap<(String, String), BoxFuture<'static, ()>>,
    dead: bool,
    late: Vec<(Arc<dyn Engine>, Commit)>,
    late_read: Vec<(Arc<dyn Engine>, Commit)>,
}

/// What was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reads {
    /// Pages of streams.
    pub(crate) pages: usize,
    /// Events in them.
    pub(crate) events: usize,
    /// Records.
    pub(crate) records: usize,
}

impl Fates {
    pub(crate) fn new(plan: impl IntoIterator<Item = (usize, Fate)>) -> Self {
        let state = State { plan: plan.into_iter().collect(), ..State::default() };
        let (lives, _) = watch::channel(0);
        Self(Arc::new(Shared { state: Mutex::new(state), lives }))
    }

    /// A store that meets these fates, on what `engine` keeps.
    pub(crate) fn store(&self, engine: &Arc<dyn Engine>) -> Store {
        Store::new(Faulty { engine: Arc::clone(engine), fates: self.clone() })
    }

    /// Something that somebody else does right before a commit.
    pub(crate) fn before(&self, commit: usize, work: impl Future<Output = ()> + Send + 'static) {
        self.state().before.insert(commit, Box::pin(work));
    }

    /// Something that somebody else does right before the next time that a record is read.
    pub(crate) fn before_get(
        &self,
        collection: &str,
        key: &str,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        self.state().before_get.insert((collection.to_owned(), key.to_owned()), Box::pin(work));
    }

    /// Something that somebody else does right before the next commit that gives collections other names.
    pub(crate) fn before_swap(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.state().before_swap = Some(Box::pin(work));
    }

    /// What happens at the next commit that gives collections other names.
    pub(crate) fn at_swap(&self, fate: Fate) {
        self.state().at_swap = Some(fate);
    }

    /// Runs lives of a process, one after the other, until one ends by itself.
    pub(crate) async fn live<T, Fut: Future<Output = T>>(&self, life: impl Fn() -> Fut) -> T {
        loop {
            let mut lives = self.0.lives.subscribe();
            self.state().dead = false;
            tokio::select! {
                biased;
                _ = lives.changed() => {}
                end = life() => return end,
            }
        }
    }

    /// Waits until the process has died.
    pub(crate) async fn died(&self) {
        let mut lives = self.0.lives.subscribe();
        let _ = lives.wait_for(|lives| *lives > 0).await;
    }

    pub(crate) fn commits(&self) -> usize {
        self.state().commits
    }

    /// What was read since this was asked last.
    pub(crate) fn take_reads(&self) -> Reads {
        std::mem::take(&mut self.state().reads)
    }

    /// From now on reading a page of a stream takes so long.
    pub(crate) fn slow_down(&self, slow: Duration) {
        self.state().slow = slow;
    }

    /// From now on nothing can be written or defined.
    pub(crate) fn make_read_only(&self) {
        self.state().read_only = true;
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }
}

struct Faulty {
    engine: Arc<dyn Engine>,
    fates: Fates,
}

impl Faulty {
    /// In a dead process nothing goes on.
    async fn alive(&self) {
        if self.fates.state().dead {
            std::future::pending::<()>().await;
        }
    }

    async fn die(&self) -> ! {
        self.fates.state().dead = true;
        self.fates.0.lives.send_modify(|lives| *lives += 1);
        std::future::pending().await
    }
}

impl Layer for Faulty {
    fn inner(&self) -> &dyn Engine {
        &*self.engine
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(async move {
            self.alive().await;
            let swaps = commit.changes.iter().any(|change| matches!(change, Change::Swap { .. }));
            let (fate, late, before) = {
                let mut state = self.fates.state();
                state.commits += 1;
                let number = state.commits;
                let mut before = Vec::from_iter(state.before.remove(&number));
                let mut fate = state.plan.remove(&number);
                if swaps {
                    before.extend(state.before_swap.take());
                    fate = fate.or(state.at_swap.take());
                }
                (fate, std::mem::take(&mut state.late), before)
            };
            for work in before {
                work.await;
            }
            for (engine, commit) in late {
                let _ = engine.commit(commit).await;
            }
            match fate {
                _ if self.fates.state().read_only => Err(CommitError::Unavailable("read-only".into())),
                None => self.engine.commit(commit).await,
                Some(Fate::Refused) => Err(CommitError::Unavailable("told to refuse".into())),
                Some(Fate::DeadBefore) => self.die().await,
                Some(Fate::DeadBehind) => {
                    let _ = self.engine.commit(commit).await;
                    self.die().await
                }
                Some(Fate::Late) => {
                    self.fates.state().late.push((Arc::clone(&self.engine), commit));
                    self.die().await
                }
                Some(Fate::LateRead) => {
                    self.fates.state().late_read.push((Arc::clone(&self.engine), commit));
                    self.die().await
                }
            }
        })
    }

    fn read_stream(
        &self,
        stream: StreamId,
        from: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Recorded>, ReadError>> {
        Box::pin(async move {
            let slow = self.fates.state().slow;
            if !slow.is_zero() {
                tokio::time::sleep(slow).await;
            }
            let events = self.engine.read_stream(stream, from, limit).await?;
            let reads = &mut self.fates.state().reads;
            (reads.pages, reads.events) = (reads.pages + 1, reads.events + events.len());
            Ok(events)
        })
    }

    fn read_log(
        &self,
        after: Position,
        filter: LogFilter,
        limit: usize,
    ) -> BoxFuture<'_, Result<LogPage, ReadError>> {
        Box::pin(async move {
            self.alive().await;
            let late = std::mem::take(&mut self.fates.state().late_read);
            for (engine, commit) in late {
                let _ = engine.commit(commit).await;
            }
            self.engine.read_log(after, filter, limit).await
        })
    }

    fn get(&self, collection: String, key: String) -> BoxFuture<'_, Result<Option<Record>, ReadError>> {
        let before = {
            let mut state = self.fates.state();
            state.reads.records += 1;
            state.before_get.remove(&(collection.clone(), key.clone()))
        };
        Box::pin(async move {
            if let Some(before) = before {
                before.await;
            }
            self.engine.get(collection, key).await
        })
    }

    fn get_many(
        &self,
        collection: String,
        keys: Vec<String>,
    ) -> BoxFuture<'_, Result<Vec<Option<Record>>, ReadError>> {
        Box::pin(try_join_all(keys.into_iter().map(move |key| Layer::get(self, collection.clone(), key))))
    }

    fn list(&self, collection: String, query: Query) -> BoxFuture<'_, Result<Vec<Record>, ReadError>> {
        Box::pin(async move {
            let records = self.engine.list(collection, query).await?;
            self.fates.state().reads.records += records.len();
            Ok(records)
        })
    }

    fn define(&self, collection: Collection) -> BoxFuture<'_, Result<(), CommitError>> {
        Box::pin(async move {
            if self.fates.state().read_only {
                return Err(CommitError::Unavailable("read-only".into()));
            }
            self.engine.define(collection).await
        })
    }

    fn archive(&self, streams: Vec<StreamId>, limit: usize) -> BoxFuture<'_, Result<Archived, CommitError>> {
        Box::pin(async move {
            self.alive().await;
            self.engine.archive(streams, limit).await
        })
    }
}
