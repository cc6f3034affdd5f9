//! The count of a process's commits, and what happens at the planned one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::Engine;
use crate::telemetry::Metrics;

use super::{CrashAt, Guarded, Side};

/// The commits of all stores of a process, counted together; cheap to clone.
#[derive(Clone)]
pub struct CrashPoints {
    shared: Arc<Shared>,
}

struct Shared {
    plan: Option<CrashAt>,
    begun: AtomicU64,
    applied: AtomicU64,
    crash: Box<dyn Fn(CrashAt) + Send + Sync>,
}

/// How many commits there have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Those that were asked for, the refused ones too: what `before` counts.
    pub begun: u64,
    /// Those that were applied: what `after` counts.
    pub applied: u64,
}

impl CrashPoints {
    /// Counts, and nothing ever happens.
    pub fn counting() -> Self {
        Self::new(None, |_| {})
    }

    /// Ends the process at the planned commit, on the spot: nothing is flushed, dropped or answered.
    ///
    /// It is not a power cut: what the process had given to the system, synced or not, is still there afterwards.
    pub fn at(plan: CrashAt) -> Self {
        Self::new(Some(plan), |_| std::process::abort())
    }

    /// Calls `crash` at the planned commit instead of ending the process, for tests of this very thing.
    pub fn calling(plan: CrashAt, crash: impl Fn(CrashAt) + Send + Sync + 'static) -> Self {
        Self::new(Some(plan), crash)
    }

    fn new(plan: Option<CrashAt>, crash: impl Fn(CrashAt) + Send + Sync + 'static) -> Self {
        let (begun, applied) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { shared: Arc::new(Shared { plan, begun, applied, crash: Box::new(crash) }) }
    }

    /// An engine whose commits are counted with those of all others that this wraps.
    ///
    /// An archiving counts as a commit. `Store::define` of a collection by itself is passed on uncounted.
    pub fn wrap<E: Engine>(&self, engine: E) -> Guarded<E> {
        Guarded::new(engine, self.clone())
    }

    /// How many commits there have been so far.
    pub fn counted(&self) -> Counted {
        let Shared { begun, applied, .. } = &*self.shared;
        // In this order, so that never more seem applied than begun.
        let applied = applied.load(Ordering::Acquire);
        Counted { begun: begun.load(Ordering::Acquire), applied }
    }

    /// Shows the counts in metrics: `purlin_chaos_commits` by `state` (begun, applied).
    pub fn observe(&self, metrics: &Metrics) {
        let points = self.clone();
        let help = "Commits counted as places to crash at";
        metrics.gauges_from("purlin_chaos_commits", help, ["state"], move || {
            let Counted { begun, applied } = points.counted();
            vec![(["begun".into()], begun as f64), (["applied".into()], applied as f64)]
        });
    }

    /// A commit begins.
    pub(super) fn begin(&self) {
        self.pass(Side::Before, &self.shared.begun);
    }

    /// A commit was applied.
    pub(super) fn applied(&self) {
        self.pass(Side::After, &self.shared.applied);
    }

    fn pass(&self, side: Side, count: &AtomicU64) {
        let commit = count.fetch_add(1, Ordering::AcqRel) + 1;
        let here = CrashAt { side, commit };
        if self.shared.plan == Some(here) {
            (self.shared.crash)(here);
        }
    }
}

impl fmt::Debug for CrashPoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (plan, counted) = (&self.shared.plan, self.counted());
        f.debug_struct("CrashPoints").field("plan", plan).field("counted", &counted).finish_non_exhaustive()
    }
}
