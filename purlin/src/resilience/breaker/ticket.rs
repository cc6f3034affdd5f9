//! The result of a probe that nobody waits for.

use tokio::time::Instant;

use super::Breaker;
use super::permit::Leave;

/// Tells the result of a probe that was given up so that others may have its place, and went on all the same. It counts
/// once, in the half-open state that let the probe through and in no other, whether a place is free by then or not. Dropped,
/// it says nothing.
///
/// ```
/// use purlin::resilience::{Breaker, BreakerConfig, BreakerState};
/// use tokio::time::{Instant, advance};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let second = std::time::Duration::from_secs(1);
/// let config = BreakerConfig { failure_threshold: 1, success_threshold: 1, timeout: second, ..BreakerConfig::default() };
/// let breaker = Breaker::new("payments", config);
/// breaker.enter().unwrap().failed(Instant::now());
/// advance(second).await;
/// let probe = breaker.enter().unwrap();
/// let late = probe.ticket().expect("it is a probe");
/// probe.told_nothing();
/// assert!(breaker.enter().is_ok(), "its place is free");
/// late.succeeded(Instant::now());
/// assert_eq!(breaker.state(), BreakerState::Closed);
/// # });
/// ```
#[derive(Debug)]
pub struct Ticket {
    breaker: Breaker,
    leave: Leave,
}

impl Ticket {
    /// Of a call that was let through as a probe.
    #[inline]
    pub(super) fn of(breaker: &Breaker, leave: Leave) -> Option<Self> {
        match breaker.shared.gate.probes_in(leave.generation) {
            false => None,
            true => Some(Self { breaker: breaker.clone(), leave }),
        }
    }

    /// Whether what it tells would count: the state in which the probe was let through lasts.
    pub fn counts(&self) -> bool {
        self.breaker.shared.gate.is_in(self.leave.generation)
    }

    /// The callee answered; that it refused the request is an answer too.
    pub fn succeeded(self, now: Instant) {
        self.breaker.succeeded_late(self.leave, now);
    }

    /// The callee did not answer, or could not do its work.
    pub fn failed(self, now: Instant) {
        self.breaker.failed_late(self.leave, now);
    }
}
