//! The handle of a read model: rows, how far they have come, and what is wanted of it.

use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::message::{Fault, FaultKind};
use crate::store::{Position, Query, ReadError, Row, Store};
use crate::telemetry::Metrics;

use super::fold::Definition;
use super::inner::Inner;
use super::{
    Fold, NotCaughtUp, OperateError, ParkedPage, Projection, ViewError, ViewStatus, Views, inline, run,
};

/// A read model. Cheap to clone; [`View::run`] it in one place, ask it anywhere in the same process.
pub struct View<F> {
    inner: Arc<Inner>,
    fold: PhantomData<fn() -> F>,
}

/// Some rows with their keys, and where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows<R> {
    /// The rows in the order of their keys.
    pub items: Vec<(String, R)>,
    /// The key behind which the next page begins; none when this is the last.
    pub next: Option<String>,
}

impl<F: Fold> View<F> {
    /// How many events a view parks unless it is told otherwise.
    pub const PARKED: u64 = 1000;

    /// The view of a projection, whose events and rows are in `store`.
    pub fn new(fold: F, store: &Store) -> Self {
        let inner = Inner::new(Definition::of(fold), store, Self::PARKED);
        Self { inner: Arc::new(inner), fold: PhantomData }
    }

    /// Parks at most so many events that cannot be folded, or wait behind one of their key; before the next one the view
    /// stops. 0: it stops before the first.
    pub fn park_at_most(self, events: u64) -> Self {
        self.inner.park_at_most.store(events, Ordering::Relaxed);
        self
    }

    /// Folds events on at most so many threads, while that pays; by default as many as there are cores.
    ///
    /// The rows are the same however many there are. Events that have one [`Fold::key`], or that want the same row
    /// ([`Fold::wants`]), are folded by one thread, in order; should others touch the same row after all, their batch is
    /// folded again by one. So a fold whose keys share rows is only folded on several cores if it names those rows.
    pub fn threads(self, threads: NonZeroUsize) -> Self {
        self.inner.cores.limit(threads);
        self
    }

    /// Shows how far behind the view is, how much is parked, and whether it stands still.
    pub fn metrics(self, metrics: &Metrics) -> Self {
        self.inner.show(metrics);
        self
    }

    /// Follows the log until `shutdown`. For the supervisor to run.
    ///
    /// Dropped at any point and run again, it goes on behind its last commit.
    pub fn run(
        &self,
        shutdown: CancellationToken,
    ) -> impl Future<Output = Result<(), ViewError>> + Send + use<F> + 'static {
        let inner = Arc::clone(&self.inner);
        async move {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => Ok(()),
                end = run::run(&inner) => end,
            }
        }
    }

    /// The view's store, with the rows written by each commit of events: whoever reads behind such a commit sees them.
    ///
    /// All who append to the view's categories must do so through this store (or its clones), with an expected version;
    /// the view must be run in one place too. Until it has caught up with the log it follows, as any other. A commit
    /// whose event cannot be folded is refused. Commits that change the same row at once are tried again, so a row that
    /// every commit changes makes them wait for each other. `position` of an event is 0 in such a fold, and `at` the
    /// time at which the commit was made ready.
    pub fn inline(&self) -> Store {
        inline::store(&self.inner)
    }

    /// The row of a key, of one of the kinds that the projection writes.
    pub async fn row<R: Row>(&self, key: &str) -> Result<Option<R>, ReadError> {
        self.inner.define().await?;
        self.inner.store.get::<R>(key).await.map_err(|error| self.unreadable(error))
    }

    /// The rows of a kind that a query asks for.
    pub async fn rows<R: Row>(&self, query: Query) -> Result<Rows<R>, ReadError> {
        self.inner.define().await?;
        let page = self.inner.store.list::<R>(query).await.map_err(|error| self.unreadable(error))?;
        let mut items = Vec::with_capacity(page.records.len());
        for record in page.records {
            let row = record.decode().map_err(|error| self.unreadable(error))?;
            items.push((record.key, row));
        }
        Ok(Rows { items, next: page.next })
    }

    /// Waits until the live rows have seen the log up to a position: reading your writes.
    ///
    /// The view must be run in this process. While a new version is built it does not come nearer.
    pub async fn wait_for(&self, wanted: Position, timeout: Duration) -> Result<(), NotCaughtUp> {
        if self.inner.seen(wanted, timeout).await {
            return Ok(());
        }
        Err(NotCaughtUp { view: F::NAME, wanted, reached: self.position() })
    }

    /// Up to where the live rows have seen the log, as this process knows.
    pub fn position(&self) -> Position {
        self.inner.position()
    }

    /// How many positions the live rows are behind the log.
    pub fn lag(&self) -> u64 {
        self.inner.lag()
    }

    /// How the view is, as its store tells.
    pub async fn status(&self) -> Result<ViewStatus, ReadError> {
        self.inner.prepare().await?;
        let status = super::status::of(&self.inner.store, F::NAME, self.inner.clock.now()).await?;
        Ok(status.unwrap_or_else(|| ViewStatus::unknown(F::NAME)))
    }

    /// Stops the view until [`View::resume`], in later lives of the program too. When this returns, no row changes.
    pub async fn pause(&self) -> Result<(), OperateError> {
        Views::new(self.prepared().await?).known(F::NAME).pause().await
    }

    /// Lets a paused view go on.
    pub async fn resume(&self) -> Result<(), OperateError> {
        Views::new(self.prepared().await?).known(F::NAME).resume().await
    }

    /// Has the rows built anew beside the live ones, which are followed meanwhile, and take their name. Goes on
    /// after a crash; an inline view follows until it is done.
    pub async fn rebuild(&self) -> Result<(), OperateError> {
        Views::new(self.prepared().await?).known(F::NAME).rebuild().await
    }

    /// Calls a rebuild off.
    pub async fn cancel_rebuild(&self) -> Result<(), OperateError> {
        Views::new(self.prepared().await?).known(F::NAME).cancel().await
    }

    /// Events that could not be folded, and those that wait behind one, in the order of the log.
    pub async fn parked(&self, after: Option<&str>, limit: usize) -> Result<ParkedPage, OperateError> {
        Views::new(self.prepared().await?).parked(F::NAME, after, limit).await
    }

    /// Has the parked events of a key tried again.
    pub async fn retry(&self, key: &str) -> Result<(), OperateError> {
        Views::new(self.prepared().await?).retry_key(F::NAME, key).await
    }

    /// Leaves a parked event out for good. When it was the first of its key, those behind it are tried.
    pub async fn drop_parked(&self, event: Position) -> Result<(), OperateError> {
        Views::new(self.prepared().await?).drop(F::NAME, event).await
    }

    async fn prepared(&self) -> Result<&Store, ReadError> {
        self.inner.prepare().await?;
        Ok(&self.inner.store)
    }

    /// Rows of an earlier version need not fit today's type: while they are being replaced that is no bug.
    fn unreadable(&self, error: ReadError) -> ReadError {
        if self.inner.rebuilding() && error.kind() == FaultKind::Bug {
            return ReadError::Unavailable(format!("the view `{}` is being built anew", F::NAME).into());
        }
        error
    }
}

impl<P: Projection> View<P> {
    /// The row of a key.
    pub async fn get(&self, key: &str) -> Result<Option<P::Row>, ReadError> {
        self.row(key).await
    }

    /// The rows that a query asks for.
    pub async fn list(&self, query: Query) -> Result<Rows<P::Row>, ReadError> {
        self.rows(query).await
    }
}

impl<F> Clone for View<F> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), fold: PhantomData }
    }
}

impl<F: Fold> std::fmt::Debug for View<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, position) = (F::NAME, self.position());
        f.debug_struct("View").field("name", &name).field("position", &position).finish_non_exhaustive()
    }
}
