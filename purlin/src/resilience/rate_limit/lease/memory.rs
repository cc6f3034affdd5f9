//! The counter within one process: for tests, and the plainest form of what a counter does.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::{Answer, Ask, Counter, Grant, Key};

/// Counts in memory; clones count together.
#[derive(Debug, Clone)]
pub struct Memory {
    origin: Instant,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    /// When the quota of a key is full again, since the origin.
    full_at: HashMap<Key, Duration>,
    processes: HashMap<Uuid, Duration>,
}

impl Memory {
    /// After so long a process that says nothing is not counted any more.
    const GONE: Duration = Duration::from_secs(5);

    /// With nobody's quota used.
    pub fn new() -> Self {
        Self { origin: Instant::now(), counts: Arc::default() }
    }

    /// What is asked, at a time.
    pub fn lease_at(&self, now: Instant, process: Uuid, asks: &[Ask]) -> Answer {
        let now = now.saturating_duration_since(self.origin);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.processes.insert(process, now);
        counts.processes.retain(|_, seen| now.saturating_sub(*seen) < Self::GONE);
        let processes = u32::try_from(counts.processes.len()).unwrap_or(u32::MAX);
        let grants = asks.iter().map(|ask| counts.count(ask, processes, now)).collect();
        counts.full_at.retain(|_, full_at| *full_at > now);
        Answer { processes, grants }
    }
}

impl Counts {
    fn count(&mut self, ask: &Ask, processes: u32, now: Duration) -> Grant {
        let full_at = self.full_at.entry(ask.key).or_default();
        let ahead = full_at.saturating_sub(now).min(ask.furthest(processes)) + ask.interval * ask.spent;
        let room = ask.tolerance().saturating_sub(ahead).as_nanos() / ask.interval.as_nanos().max(1);
        let granted = ask.wanted.min(u32::try_from(room).unwrap_or(u32::MAX));
        let full_in = ahead + ask.interval * granted;
        *full_at = now + full_in;
        Grant { granted, full_in }
    }
}

impl Counter for Memory {
    type Error = Infallible;

    async fn lease(&self, process: Uuid, asks: Vec<Ask>) -> Result<Answer, Infallible> {
        Ok(self.lease_at(Instant::now(), process, &asks))
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}
