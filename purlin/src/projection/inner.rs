//! A view, whatever it is of: what its handles share, and what it tells of how far it is.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OnceCell, watch};

use crate::message::Clock;
use crate::store::{CommitError, Position, ReadError, Recorded, Store};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Gauge;

use super::checkpoint::{Checkpoint, Stored, Target};
use super::control::Control;
use super::cores::Cores;
use super::fold::Definition;
use super::parked::{ParkedEvent, ParkedKey};

/// A view, whatever it is of.
pub(super) struct Inner {
    pub(super) definition: Definition,
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) park_at_most: AtomicU64,
    pub(super) cores: Cores,
    /// Some store of this process writes the rows with its commits.
    pub(super) writes_inline: AtomicBool,
    /// No event is missing in the rows that were written inline.
    pub(super) verified: AtomicBool,
    /// What was parked has been tried again since the program began; of the rows beside the live ones, too.
    pub(super) tried: AtomicBool,
    pub(super) tried_beside: AtomicBool,
    progress: watch::Sender<Progress>,
    /// When the oldest event was committed that is known not to be in the rows, in microseconds; 0: none is.
    behind_since: AtomicI64,
    gauges: OnceLock<Gauges>,
    defined: OnceCell<()>,
    prepared: OnceCell<()>,
}

/// How far the live rows have come.
#[derive(Debug, Clone, Default, PartialEq)]
struct Progress {
    position: Position,
    /// The commits of events write the rows.
    inline: bool,
    /// The live rows are of an earlier version.
    rebuilding: bool,
}

/// What a view tells the metrics.
struct Gauges {
    lag: Gauge,
    lag_seconds: Gauge,
    parked: Gauge,
    stopped: Gauge,
}

impl Inner {
    pub(super) fn new(definition: Definition, store: &Store, parked: u64) -> Self {
        let (progress, _) = watch::channel(Progress::default());
        Self {
            definition,
            store: store.clone(),
            clock: store.clock(),
            park_at_most: AtomicU64::new(parked),
            cores: Cores::default(),
            writes_inline: AtomicBool::new(false),
            verified: AtomicBool::new(false),
            tried: AtomicBool::new(false),
            tried_beside: AtomicBool::new(false),
            progress,
            behind_since: AtomicI64::new(0),
            gauges: OnceLock::new(),
            defined: OnceCell::new(),
            prepared: OnceCell::new(),
        }
    }

    /// Shows how the view goes among these numbers.
    pub(super) fn show(&self, metrics: &Metrics) {
        let gauge = |name, help| metrics.gauge(name, help, ["view"]).with([self.definition.name]);
        self.gauges.get_or_init(|| Gauges {
            lag: gauge("purlin_view_lag", "Positions of the log that a view has yet to look at"),
            lag_seconds: gauge(
                "purlin_view_lag_seconds",
                "Age of the oldest event that a view has yet to fold",
            ),
            parked: gauge(
                "purlin_view_parked_events",
                "Events that a view could not fold, or that wait behind one",
            ),
            stopped: gauge("purlin_view_stopped", "1 when a view stands before an event that it cannot fold"),
        });
    }

    /// Waits until the live rows have seen a position; false: they have not in time.
    pub(super) async fn seen(&self, wanted: Position, timeout: Duration) -> bool {
        let mut progress = self.progress.subscribe();
        let seen = progress.wait_for(|progress| {
            progress.position >= wanted || (progress.inline && self.store.head() >= wanted)
        });
        matches!(tokio::time::timeout(timeout, seen).await, Ok(Ok(_)))
    }

    /// Whether the live rows are of an earlier version.
    pub(super) fn rebuilding(&self) -> bool {
        self.progress.borrow().rebuilding
    }

    /// Makes the collections of the live rows. Those of another version of the program are left as they are: it may be
    /// writing them yet, and the rows that take their place bring their own fields with them.
    pub(super) async fn define(&self) -> Result<(), ReadError> {
        let define = || async {
            let there =
                if self.of_another_version().await? { self.store.collections().await? } else { Vec::new() };
            for collection in &self.definition.collections {
                if !there.iter().any(|there| there.name == collection.name) {
                    self.store.define_collection(collection.clone()).await.map_err(undefined)?;
                }
            }
            Ok(())
        };
        self.defined.get_or_try_init(define).await.copied()
    }

    /// Whether the live rows were built by another version of the program.
    async fn of_another_version(&self) -> Result<bool, ReadError> {
        match Stored::read(&self.store, self.definition.name).await {
            Ok(live) => Ok(live.is_some_and(|live| live.checkpoint.version != self.definition.version)),
            // No view was ever run on this store.
            Err(ReadError::Invalid(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes all collections that a view works with.
    pub(super) async fn prepare(&self) -> Result<(), ReadError> {
        self.define().await?;
        let prepare = || async {
            self.store.define::<Checkpoint>().await?;
            self.store.define::<Control>().await?;
            self.store.define::<ParkedKey>().await?;
            self.store.define::<ParkedEvent>().await
        };
        self.prepared.get_or_try_init(prepare).await.copied().map_err(undefined)
    }

    pub(super) fn position(&self) -> Position {
        let progress = self.progress.borrow();
        if progress.inline { self.store.head().max(progress.position) } else { progress.position }
    }

    pub(super) fn lag(&self) -> u64 {
        self.store.head().0.saturating_sub(self.position().0)
    }

    /// Tells how far the live rows have come.
    pub(super) fn publish(&self, target: &Target) {
        if target.building {
            return;
        }
        self.tell(Progress { position: target.position, inline: false, rebuilding: false });
        if self.store.head() <= target.position {
            self.behind_since.store(0, Ordering::Relaxed);
        }
        if let Some(gauges) = self.gauges.get() {
            gauges.parked.set(number(target.parked.events()));
            gauges.stopped.set(0);
        }
        self.show_lag();
    }

    pub(super) fn publish_inline(&self) {
        self.tell(Progress { position: self.store.head(), inline: true, rebuilding: false });
        self.behind_since.store(0, Ordering::Relaxed);
        self.show_lag();
    }

    /// The commits do not write the rows any more.
    pub(super) fn publish_following(&self) {
        self.progress.send_if_modified(|progress| std::mem::take(&mut progress.inline));
    }

    pub(super) fn publish_rebuilding(&self) {
        let position = self.progress.borrow().position;
        self.tell(Progress { position, inline: false, rebuilding: true });
    }

    /// Rows that were built have become the live ones.
    pub(super) fn publish_swapped(&self, position: Position) {
        self.tell(Progress { position, inline: false, rebuilding: false });
    }

    pub(super) fn publish_paused(&self, position: Option<Position>) {
        let position = position.unwrap_or_else(|| self.position());
        self.tell(Progress { position, inline: false, rebuilding: false });
    }

    fn tell(&self, now: Progress) {
        self.progress.send_if_modified(|progress| {
            let changed = *progress != now;
            *progress = now;
            changed
        });
    }

    /// Notes the oldest event that is not in the live rows yet.
    pub(super) fn oldest(&self, target: &Target, event: Option<&Recorded>) {
        if let Some(event) = event.filter(|_| !target.building) {
            self.behind_since.store(event.at.as_microsecond(), Ordering::Relaxed);
            self.show_lag();
        }
    }

    pub(super) fn show_lag(&self) {
        let Some(gauges) = self.gauges.get() else { return };
        gauges.lag.set(number(self.lag()));
        let since = self.behind_since.load(Ordering::Relaxed);
        let age = if since == 0 { 0 } else { self.clock.now().as_microsecond().saturating_sub(since) };
        gauges.lag_seconds.set(age.max(0) / 1_000_000);
    }

    pub(super) fn show_stopped(&self) {
        if let Some(gauges) = self.gauges.get() {
            gauges.stopped.set(1);
        }
    }
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn undefined(error: CommitError) -> ReadError {
    match error {
        CommitError::Invalid(reason) => ReadError::Invalid(reason),
        error => ReadError::Unavailable(error.into()),
    }
}
