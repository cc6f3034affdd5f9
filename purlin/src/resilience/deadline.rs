//! Until when an answer is of use.
//!
//! A deadline is an instant, not a span, so that waiting anywhere uses it up everywhere. It belongs to the
//! running task, and a deadline inside another one is never later than that.

use std::time::Duration;

use tokio::task::futures::TaskLocalFuture;
use tokio::time::Instant;

use crate::message::{Fault, FaultKind, Timestamp};

tokio::task_local! {
    static CURRENT: Deadline;
}

/// The instant after which nobody waits for the answer any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// A century ahead: spans that the clock cannot express end here.
    const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

    /// A span from now on.
    pub fn after(span: Duration) -> Self {
        Self::from(Instant::now(), span)
    }

    /// A span from `start` on.
    pub fn from(start: Instant, span: Duration) -> Self {
        Self(start + span.min(Self::FAR))
    }

    /// This very instant.
    pub fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// The instant.
    pub fn instant(self) -> Instant {
        self.0
    }

    /// How long it is until then; zero once it has passed.
    pub fn remaining(self) -> Duration {
        self.remaining_at(Instant::now())
    }

    /// How long it is from `now` until then; zero once it has passed.
    pub fn remaining_at(self, now: Instant) -> Duration {
        self.0.saturating_duration_since(now)
    }

    /// Whether it is over.
    pub fn has_passed(self) -> bool {
        self.remaining().is_zero()
    }

    /// The time of day at which it passes, for what is stored ([`Envelope::until`](crate::message::Envelope::until));
    /// `now` is the present one.
    pub fn time_of_day(self, now: Timestamp) -> Timestamp {
        now.checked_add(self.remaining()).unwrap_or(Timestamp::MAX)
    }

    /// The earlier one of this and the running task's deadline.
    pub fn tightened(self) -> Self {
        current().map_or(self, |outer| outer.min(self))
    }

    /// Does `work` within this deadline (see [`within`]), and drops it unfinished when the deadline passes.
    pub async fn enforce<F: Future>(self, work: F) -> Result<F::Output, DeadlineExceeded> {
        let deadline = self.tightened();
        let work = tokio::time::timeout_at(deadline.0, CURRENT.scope(deadline, work));
        work.await.map_err(|_| DeadlineExceeded)
    }
}

/// The deadline of the running task, if it has one.
pub fn current() -> Option<Deadline> {
    CURRENT.try_with(|deadline| *deadline).ok()
}

/// Makes `deadline`, or the present one if that is earlier, the deadline of `work`. It is only told, not cut
/// off: that is [`Deadline::enforce`].
pub async fn within<F: Future>(deadline: Deadline, work: F) -> F::Output {
    CURRENT.scope(deadline.tightened(), work).await
}

/// As [`within`], for a deadline that is known to be no later than the present one.
pub(super) fn scope<F: Future>(deadline: Deadline, work: F) -> TaskLocalFuture<Deadline, F> {
    CURRENT.scope(deadline, work)
}

/// The deadline passed before there was an answer; whether there was an effect is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the deadline passed before there was an answer")]
pub struct DeadlineExceeded;

impl Fault for DeadlineExceeded {
    fn kind(&self) -> FaultKind {
        FaultKind::Timeout
    }

    fn code(&self) -> &str {
        "deadline-exceeded"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_deadline_inside_another_never_grows() {
        let outer = Deadline::after(SECOND);
        within(outer, async {
            within(Deadline::after(10 * SECOND), async { assert_eq!(current(), Some(outer)) }).await;
            let shorter = Deadline::after(SECOND / 2);
            within(shorter, async { assert_eq!(current(), Some(shorter)) }).await;
            assert_eq!(current(), Some(outer));
        })
        .await;
        assert_eq!(current(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn work_is_cut_off_at_the_earliest_deadline() {
        let start = Instant::now();
        let inner = async { Deadline::after(10 * SECOND).enforce(std::future::pending::<()>()).await };
        assert_eq!(within(Deadline::after(SECOND), inner).await, Err(DeadlineExceeded));
        assert_eq!(start.elapsed(), SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_uses_it_up() {
        let deadline = Deadline::after(3 * SECOND);
        tokio::time::advance(SECOND).await;
        assert_eq!(deadline.remaining(), 2 * SECOND);
        tokio::time::advance(5 * SECOND).await;
        assert!(deadline.has_passed());
        assert_eq!(deadline.remaining(), Duration::ZERO);
    }

    #[test]
    fn a_span_without_end_is_no_overflow() {
        assert!(!Deadline::after(Duration::MAX).has_passed());
    }
}
