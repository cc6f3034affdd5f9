//! What an adapter implements: one count a key, for every process that asks.

use std::error::Error;
use std::pin::Pin;
use std::time::Duration;

use uuid::Uuid;

use super::Key;

/// Counts for all processes together, by a clock of its own.
///
/// A future that is dropped may have had its effect or not; nobody asks again for what it was to do.
pub trait Counter: Send + Sync + 'static {
    /// Why it did not answer.
    type Error: Error + Send + Sync + 'static;

    /// Notes that `process` is there, and answers each ask, in their order. No ask is also a question: who is there?
    fn lease(
        &self,
        process: Uuid,
        asks: Vec<Ask>,
    ) -> impl Future<Output = Result<Answer, Self::Error>> + Send;
}

/// What a process says and wants of one key. Together with the state of the key (the time at which the quota is full
/// again) it is all that a decision takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Whose quota it is.
    pub key: Key,
    /// What one request costs: one over the rate.
    pub interval: Duration,
    /// How many requests the full quota has.
    pub burst: u32,
    /// How many were let through already: they are counted, whether there is room for them or not.
    pub spent: u32,
    /// How many more are wanted: as many of them are given as there is room for.
    pub wanted: u32,
}

impl Ask {
    /// How long a full quota takes to come back.
    pub fn tolerance(&self) -> Duration {
        self.interval.saturating_mul(self.burst)
    }

    /// How far ahead the time of the full quota can be, with every process having spent its own part: what is further
    /// is the work of a clock that was put back.
    pub fn furthest(&self, processes: u32) -> Duration {
        (self.tolerance() * 2).saturating_add(self.interval.saturating_mul(processes))
    }
}

/// The answer to an ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// How many of the wanted requests the process may let through.
    pub granted: u32,
    /// When the quota is full again, if nothing more comes, with what was spent and granted.
    pub full_in: Duration,
}

/// The answer to a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// How many processes are there, with the one that asked.
    pub processes: u32,
    /// One for each ask.
    pub grants: Vec<Grant>,
}

pub(super) type Cause = Box<dyn Error + Send + Sync>;

/// The same, for whoever does not care which it is.
pub(super) trait AnyCounter: Send + Sync {
    fn lease(
        &self,
        process: Uuid,
        asks: Vec<Ask>,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, Cause>> + Send + '_>>;
}

impl<C: Counter> AnyCounter for C {
    fn lease(
        &self,
        process: Uuid,
        asks: Vec<Ask>,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, Cause>> + Send + '_>> {
        Box::pin(async move { Ok(Counter::lease(self, process, asks).await?) })
    }
}
