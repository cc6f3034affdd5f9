//! The handle of a read model: rows, how far they have come, and what stops them.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{OnceCell, watch};
use tokio_util::sync::CancellationToken;

use crate::message::{Fault, FaultKind};
use crate::store::{CommitError, Position, Query, ReadError, Row, Store};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Gauge;

use super::{Misfit, NotCaughtUp, Projection, ViewError, run};

/// A read model. Cheap to clone; [`View::run`] it in one place, ask it anywhere in the same process.
pub struct View<P> {
    pub(super) inner: Arc<Inner<P>>,
}

pub(super) struct Inner<P> {
    pub(super) projection: P,
    pub(super) store: Store,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) gauges: OnceLock<Gauges>,
    defined: OnceCell<()>,
}

/// How far the live rows have come, and what their view is doing.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    pub(super) position: Position,
    pub(super) state: ViewState,
}

/// What a view tells the metrics.
pub(super) struct Gauges {
    pub(super) lag: Gauge,
    pub(super) stopped: Gauge,
}

/// What a view is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum ViewState {
    /// It has not been run in this process yet.
    #[default]
    Starting,
    /// It follows the log.
    Live,
    /// It builds its rows anew beside those of an earlier version, which are what can be read meanwhile.
    Rebuilding {
        /// How far it has come.
        position: Position,
    },
    /// It stands before an event that it cannot fold.
    Stopped(Misfit),
}

/// A view as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ViewStatus {
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: u32,
    /// Up to where the live rows have seen the log.
    pub position: Position,
    /// How many positions they are behind.
    pub lag: u64,
    /// What it is doing.
    #[serde(flatten)]
    pub state: ViewState,
}

/// Some rows with their keys, and where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows<R> {
    /// The rows in the order of their keys.
    pub items: Vec<(String, R)>,
    /// The key behind which the next page begins; none when this is the last.
    pub next: Option<String>,
}

impl<P: Projection> View<P> {
    /// The view of a projection, whose events and rows are in `store`.
    pub fn new(projection: P, store: &Store) -> Self {
        let (progress, _) = watch::channel(Progress::default());
        let (store, defined, gauges) = (store.clone(), OnceCell::new(), OnceLock::new());
        Self { inner: Arc::new(Inner { projection, store, progress, gauges, defined }) }
    }

    /// Shows how far behind the view is, and whether it stands still.
    pub fn metrics(self, metrics: &Metrics) -> Self {
        let gauge = |name, help| metrics.gauge(name, help, ["view"]).with([P::NAME]);
        let lag = gauge("purlin_view_lag", "Positions of the log that a view has yet to look at");
        let stopped =
            gauge("purlin_view_stopped", "1 when a view stands before an event that it cannot fold");
        self.inner.gauges.get_or_init(|| Gauges { lag, stopped });
        self
    }

    /// Follows the log until `shutdown`. For the supervisor to run.
    ///
    /// Dropped at any point and run again, it goes on behind its last commit.
    pub fn run(
        &self,
        shutdown: CancellationToken,
    ) -> impl Future<Output = Result<(), ViewError>> + Send + use<P> + 'static {
        let inner = Arc::clone(&self.inner);
        async move {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => Ok(()),
                end = run::run(&inner) => end,
            }
        }
    }

    /// The row of a key.
    pub async fn get(&self, key: &str) -> Result<Option<P::Row>, ReadError> {
        self.inner.define().await?;
        self.inner.store.get::<P::Row>(key).await.map_err(|error| self.unreadable(error))
    }

    /// The rows that a query asks for.
    pub async fn list(&self, query: Query) -> Result<Rows<P::Row>, ReadError> {
        self.inner.define().await?;
        let page = self.inner.store.list::<P::Row>(query).await?;
        let mut items = Vec::with_capacity(page.records.len());
        for record in page.records {
            let row = record.decode().map_err(|error| self.unreadable(error))?;
            items.push((record.key, row));
        }
        Ok(Rows { items, next: page.next })
    }

    /// Waits until the live rows have seen the log up to a position: reading your writes.
    ///
    /// The view must be run in this process. While it is built anew it does not come nearer.
    pub async fn wait_for(&self, wanted: Position, timeout: Duration) -> Result<(), NotCaughtUp> {
        let mut progress = self.inner.progress.subscribe();
        let seen = progress.wait_for(|progress| progress.position >= wanted);
        if let Ok(Ok(_)) = tokio::time::timeout(timeout, seen).await {
            return Ok(());
        }
        Err(NotCaughtUp { view: P::NAME, wanted, reached: self.position() })
    }

    /// Up to where the live rows have seen the log.
    pub fn position(&self) -> Position {
        self.inner.progress.borrow().position
    }

    /// How many positions the live rows are behind the log.
    pub fn lag(&self) -> u64 {
        self.inner.store.head().0.saturating_sub(self.position().0)
    }

    /// How the view is.
    pub fn status(&self) -> ViewStatus {
        let Progress { position, state } = self.inner.progress.borrow().clone();
        let lag = self.inner.store.head().0.saturating_sub(position.0);
        ViewStatus { name: P::NAME, version: P::VERSION, position, lag, state }
    }

    /// Rows of an earlier version need not fit today's type: while they are being replaced that is no bug.
    fn unreadable(&self, error: ReadError) -> ReadError {
        let rebuilding = matches!(self.inner.progress.borrow().state, ViewState::Rebuilding { .. });
        if rebuilding && error.kind() == FaultKind::Bug {
            return ReadError::Unavailable(format!("the view `{}` is being built anew", P::NAME).into());
        }
        error
    }
}

impl<P: Projection> Inner<P> {
    /// Makes the collection of the live rows.
    pub(super) async fn define(&self) -> Result<(), ReadError> {
        let defined = self.defined.get_or_try_init(|| self.store.define::<P::Row>()).await;
        defined.copied().map_err(|error| match error {
            CommitError::Invalid(reason) => ReadError::Invalid(reason),
            error => ReadError::Unavailable(error.into()),
        })
    }

    pub(super) fn collection(&self) -> &'static str {
        P::Row::COLLECTION
    }
}

impl<P> Clone for View<P> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<P: Projection> std::fmt::Debug for View<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("status", &self.status()).finish_non_exhaustive()
    }
}
