//! When a snapshot is worth writing.

use std::time::Duration;

/// When a snapshot of an aggregate is written. Whichever comes first counts; with neither, none is written or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotPolicy {
    /// With the update that makes so many events since the last one.
    pub every: Option<u64>,
    /// With the update whose load took so long to read and fold what came behind the last one, if that were ten events
    /// at least: so large, or so far away, are they.
    pub after: Option<Duration>,
}

impl SnapshotPolicy {
    /// Every 100 events, and when a load took more than 20 milliseconds.
    pub const DEFAULT: Self = Self { every: Some(100), after: Some(Duration::from_millis(20)) };

    /// For aggregates of few events: loading reads them all, and asks for no snapshot first.
    pub const NEVER: Self = Self { every: None, after: None };

    /// When so many events came since the last one, however long they take to load; 0: never.
    pub const fn every(events: u64) -> Self {
        Self { every: if events == 0 { None } else { Some(events) }, after: None }
    }

    /// To fold fewer events is never slow because of them.
    const FEW: u64 = 10;

    /// Whether an update that leaves so many events behind the last snapshot writes one.
    pub(super) fn is_due(self, behind: u64, slow: bool) -> bool {
        self.every.is_some_and(|every| behind >= every) || slow && behind >= Self::FEW
    }

    /// Whether so many are behind it that no update seems to write one, so that a load must.
    pub(super) fn is_overdue(self, behind: u64, slow: bool) -> bool {
        self.every.is_some_and(|every| behind >= every.saturating_mul(2)) || slow && behind >= 2 * Self::FEW
    }

    /// Whether loading took long.
    pub(super) fn is_slow(self, took: Duration) -> bool {
        self.after.is_some_and(|after| took >= after)
    }

    /// After so many events more, a state that was too large for a record is tried again.
    pub(super) fn retry(self) -> u64 {
        self.every.unwrap_or(100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whichever_comes_first_counts() {
        let (every, both) = (SnapshotPolicy::every(100), SnapshotPolicy::DEFAULT);
        assert!(!every.is_due(99, every.is_slow(Duration::MAX)), "how long it took is nothing to it");
        assert!(every.is_due(100, false) && both.is_due(100, false) && !both.is_due(99, false));
        assert!(both.is_due(10, true) && !both.is_due(9, true));
        assert!(both.is_slow(Duration::from_millis(20)) && !both.is_slow(Duration::from_millis(19)));
        assert!(!both.is_overdue(199, false) && both.is_overdue(200, false));
        assert!(!both.is_overdue(19, true) && both.is_overdue(20, true));
        let never = SnapshotPolicy::NEVER;
        assert!(!never.is_due(u64::MAX, never.is_slow(Duration::MAX)));
    }
}
