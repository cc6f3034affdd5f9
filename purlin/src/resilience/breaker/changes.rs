//! Changes of state, for those who want to hear of them.

use std::fmt;
use std::sync::{Arc, OnceLock};

use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::Instant;

use super::BreakerState;

/// How many changes wait for a subscriber who does not take them; then he misses the oldest.
const KEPT: usize = 64;

/// A breaker changed its state.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Which breaker.
    pub breaker: Arc<str>,
    /// What it did with calls before.
    pub from: BreakerState,
    /// What it does with them now. The same as before, if an operator forced what was, or when probes were replaced.
    pub to: BreakerState,
    /// Why.
    pub reason: Reason,
    /// When.
    pub at: Instant,
}

/// Why a breaker changed its state.
#[derive(Debug, Clone, PartialEq)]
pub enum Reason {
    /// So many failures among the last calls.
    Failures {
        /// How many, the last one included.
        failures: u32,
    },
    /// The share of failures.
    FailureRate {
        /// The share, 0 to 1.
        rate: f64,
        /// Of how many calls.
        calls: u64,
    },
    /// The share of slow calls.
    SlowRate {
        /// The share, 0 to 1.
        rate: f64,
        /// Of how many calls.
        calls: u64,
    },
    /// It was open for its time, and a call came that may probe.
    TimedOut,
    /// Enough probes succeeded.
    ProbesSucceeded,
    /// A probe failed.
    ProbeFailed,
    /// A probe was slow.
    ProbeSlow,
    /// No probe had a result in time; others take their places.
    ProbesHung,
    /// An operator forced a state, gave it back, or made the breaker forget.
    Operator(Operator),
}

/// Who does something to a breaker by hand, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// Who.
    pub by: Arc<str>,
    /// Why.
    pub why: Arc<str>,
}

impl Operator {
    /// Somebody with a reason.
    pub fn new(by: impl Into<Arc<str>>, why: impl Into<Arc<str>>) -> Self {
        Self { by: by.into(), why: why.into() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |rate: &f64| rate * 100.0;
        match self {
            Self::Failures { failures } => write!(f, "{failures} calls failed"),
            Self::FailureRate { rate, calls } => write!(f, "{:.1} % of {calls} calls failed", share(rate)),
            Self::SlowRate { rate, calls } => write!(f, "{:.1} % of {calls} calls were slow", share(rate)),
            Self::TimedOut => f.write_str("its time is over"),
            Self::ProbesSucceeded => f.write_str("enough probes succeeded"),
            Self::ProbeFailed => f.write_str("a probe failed"),
            Self::ProbeSlow => f.write_str("a probe was slow"),
            Self::ProbesHung => f.write_str("no probe had a result in time"),
            Self::Operator(Operator { by, why }) => write!(f, "{by}: {why}"),
        }
    }
}

/// The changes of one breaker, or of all of a registry, in the order in which they happen.
#[derive(Debug)]
pub struct Changes {
    receiver: broadcast::Receiver<Change>,
    missed: u64,
}

impl Changes {
    /// The next change; none when there can be no more, because the breaker is gone. May be cancelled.
    pub async fn next(&mut self) -> Option<Change> {
        loop {
            match self.receiver.recv().await {
                Ok(change) => return Some(change),
                Err(RecvError::Lagged(missed)) => self.missed += missed,
                Err(RecvError::Closed) => return None,
            }
        }
    }

    #[cfg(test)]
    pub(super) fn waiting(&mut self) -> Option<Change> {
        self.receiver.try_recv().ok()
    }

    /// How many changes are lost because nobody took them; [`Breaker::status`](super::Breaker::status) says how it
    /// stands.
    pub fn missed(&self) -> u64 {
        self.missed
    }
}

/// Where changes go; costs nothing until somebody subscribes. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Feed {
    sender: Arc<OnceLock<broadcast::Sender<Change>>>,
}

impl Feed {
    pub(super) fn subscribe(&self) -> Changes {
        let sender = self.sender.get_or_init(|| broadcast::Sender::new(KEPT));
        Changes { receiver: sender.subscribe(), missed: 0 }
    }

    pub(super) fn tell(&self, change: &Change) {
        if let Some(sender) = self.sender.get() {
            // An error means that nobody listens any more.
            let _ = sender.send(change.clone());
        }
    }
}
