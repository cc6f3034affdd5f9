//! Crash plans for sagas: the process dies at a chosen commit, and the next one goes on with what was written.
//!
//! [`crash_everywhere`] runs a saga once for every commit that it makes, kills the process before or after that
//! commit, starts another one on the same store, and hands what became of the saga to a check.
//!
//! ```
//! # use std::convert::Infallible;
//! # use purlin::message::Clock;
//! # use purlin::saga::{Saga, SagaError, SagaState, Sagas};
//! # use purlin::testing::saga::crash_everywhere;
//! async fn two_steps(saga: Saga<()>, _: ()) -> Result<(), SagaError> {
//!     saga.step("one", async |_| Ok::<_, Infallible>(())).await?;
//!     saga.step("two", async |_| Ok::<_, Infallible>(())).await
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let make = |store: &_| Sagas::new(store, (), Clock::system()).register("two", two_steps);
//! let crashes = crash_everywhere(make, "two", &(), |survived| {
//!     assert_eq!(survived.view.state, SagaState::Completed);
//! });
//! assert_eq!(crashes.await, 6, "the start, the first step, the second with the end: before and after each");
//! # });
//! ```

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::message::{Timestamp, new_id};
use crate::saga::{SagaView, Sagas, WaitError};
use crate::store::memory::Memory;
use crate::store::{
    Archived, BoxFuture, Cause, Collection, Commit, CommitError, Committed, Engine, Layer, LogFilter,
    LogPage, Position, Query, ReadError, Record, Recorded, Store, StreamId,
};

/// How long a saga of a test may take in one life, by tokio's clock.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// Where the process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crash {
    /// At which commit, from 1.
    pub commit: usize,
    /// Whether the commit was applied.
    pub applied: bool,
}

/// What became of a saga whose process died.
#[derive(Debug)]
pub struct Survived {
    /// Where it died; none if it came to its end before.
    pub crash: Option<Crash>,
    /// The saga.
    pub id: Uuid,
    /// How it ended, or where it rests.
    pub view: SagaView,
    /// The store, as the second process left it.
    pub store: Store,
}

/// Runs a saga once for every commit, dying before and after it, and checks what became of it; returns how many
/// crashes there were.
///
/// `make` is called once for each process, so what it builds has no memory of the one before.
pub async fn crash_everywhere<S, I>(
    make: impl Fn(&Store) -> Sagas<S>,
    kind: &str,
    input: &I,
    check: impl Fn(&Survived),
) -> usize
where
    S: Send + Sync + 'static,
    I: Serialize,
{
    for crashes in 0.. {
        let crash = Crash { commit: 1 + crashes / 2, applied: crashes % 2 == 1 };
        let survived = survive(crash, &make, kind, input).await;
        check(&survived);
        if survived.crash.is_none() {
            return crashes;
        }
    }
    unreachable!("a saga has an end")
}

/// Runs a saga in a process that dies at `crash`, and on in a second one.
pub async fn survive<S, I>(crash: Crash, make: impl Fn(&Store) -> Sagas<S>, kind: &str, input: &I) -> Survived
where
    S: Send + Sync + 'static,
    I: Serialize,
{
    let (memory, id) = (Memory::new(), new_id());
    let store = Store::new(memory.clone());
    let (mortal, mut dead) = Mortal::new(memory, crash);
    let first = live(make(&Store::new(mortal)), kind, id, input);
    let (crash, view) = tokio::select! {
        biased;
        _ = dead.wait_for(|dead| *dead) => (Some(crash), None),
        view = first => (None, Some(view)),
    };
    let view = match view {
        Some(view) => view,
        None => live(make(&store), kind, id, input).await,
    };
    Survived { crash, id, view: view.expect("the store in memory can be read, and the saga ends"), store }
}

/// One process: whoever wants the saga asks for it, again if the first time there was no answer.
async fn live<S, I>(sagas: Sagas<S>, kind: &str, id: Uuid, input: &I) -> Result<SagaView, WaitError>
where
    S: Send + Sync + 'static,
    I: Serialize,
{
    sagas.prepare().await.expect("a store in memory takes definitions");
    let shutdown = CancellationToken::new();
    let start = sagas.start(kind, id, input).expect("the test registered this kind");
    match sagas.store().commit(start).await {
        Ok(_) | Err(CommitError::Conflict(_)) => {}
        Err(error) => panic!("a store in memory takes a start: {error}"),
    }
    sagas.kick(id);
    tokio::select! {
        view = sagas.wait(id, PATIENCE) => view,
        ran = sagas.clone().run(shutdown) => panic!("nobody stopped the engine: {ran:?}"),
    }
}

/// A store whose process dies at a commit: from then on nothing is answered.
pub struct Mortal<E> {
    engine: E,
    crash: Crash,
    commits: AtomicUsize,
    dead: Arc<watch::Sender<bool>>,
}

impl<E: Engine> Mortal<E> {
    /// An engine on `engine` that dies at `crash`, and a channel that tells when.
    pub fn new(engine: E, crash: Crash) -> (Self, watch::Receiver<bool>) {
        let (dead, told) = watch::channel(false);
        (Self { engine, crash, commits: AtomicUsize::new(0), dead: Arc::new(dead) }, told)
    }

    fn is_dead(&self) -> bool {
        *self.dead.borrow()
    }

    async fn die<T>(&self) -> T {
        self.dead.send_replace(true);
        std::future::pending().await
    }

    /// The answer of the living; the dead do not answer.
    fn answer<'a, T: Send + 'a>(&'a self, answer: BoxFuture<'a, T>) -> BoxFuture<'a, T> {
        match self.is_dead() {
            true => Box::pin(std::future::pending()),
            false => answer,
        }
    }
}

impl<E: Engine> Layer for Mortal<E> {
    fn inner(&self) -> &dyn Engine {
        &self.engine
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        self.answer(Box::pin(async move {
            let dies = self.commits.fetch_add(1, Ordering::AcqRel) + 1 == self.crash.commit;
            if dies && !self.crash.applied {
                return self.die().await;
            }
            let committed = self.engine.commit(commit).await;
            if dies { self.die().await } else { committed }
        }))
    }

    fn read_stream(
        &self,
        stream: StreamId,
        from: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Recorded>, ReadError>> {
        self.answer(self.engine.read_stream(stream, from, limit))
    }

    fn read_stream_back(
        &self,
        stream: StreamId,
        before: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Recorded>, ReadError>> {
        self.answer(self.engine.read_stream_back(stream, before, limit))
    }

    fn read_log(
        &self,
        after: Position,
        filter: LogFilter,
        limit: usize,
    ) -> BoxFuture<'_, Result<LogPage, ReadError>> {
        self.answer(self.engine.read_log(after, filter, limit))
    }

    fn get(&self, collection: String, key: String) -> BoxFuture<'_, Result<Option<Record>, ReadError>> {
        self.answer(self.engine.get(collection, key))
    }

    fn get_many(
        &self,
        collection: String,
        keys: Vec<String>,
    ) -> BoxFuture<'_, Result<Vec<Option<Record>>, ReadError>> {
        self.answer(self.engine.get_many(collection, keys))
    }

    fn list(&self, collection: String, query: Query) -> BoxFuture<'_, Result<Vec<Record>, ReadError>> {
        self.answer(self.engine.list(collection, query))
    }

    fn due(
        &self,
        collection: String,
        until: Timestamp,
        prefix: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, ReadError>> {
        self.answer(self.engine.due(collection, until, prefix, limit))
    }

    fn collections(&self) -> BoxFuture<'_, Result<Vec<Collection>, ReadError>> {
        self.answer(self.engine.collections())
    }

    fn define(&self, collection: Collection) -> BoxFuture<'_, Result<(), CommitError>> {
        self.answer(self.engine.define(collection))
    }

    fn archive(&self, streams: Vec<StreamId>, limit: usize) -> BoxFuture<'_, Result<Archived, CommitError>> {
        self.answer(self.engine.archive(streams, limit))
    }

    fn backup<'a>(&'a self, to: &'a Path) -> BoxFuture<'a, Result<(), Cause>> {
        self.answer(self.engine.backup(to))
    }
}
