//! The handle of all limits of a process that are shared, and its one conversation with the counter.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as friendly;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use uuid::Uuid;

use crate::message::new_id;
use crate::telemetry::Metrics;

use super::asks::{Asks, Waiting};
use super::counter::{AnyCounter, Cause};
use super::shared::nanos;
use super::status::{SharedLimitsStatus, Standing};
use super::{Answer, Ask, Counter};

/// How a process talks with the counter. In files, durations are written as `100ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SharedLimitsConfig {
    /// How long an answer may take; later than that, the counter is lost.
    #[serde(with = "friendly")]
    pub deadline: Duration,
    /// How long an answer may take while the counter is lost, with finding it.
    #[serde(with = "friendly")]
    pub connect: Duration,
    /// How long to wait before a lost counter is looked for again.
    #[serde(with = "friendly")]
    pub retry: Duration,
    /// How often the counter hears of a process that has nothing to ask.
    #[serde(with = "friendly")]
    pub heartbeat: Duration,
    /// How long a lease lasts; one of a limit of less than a request in that time, as long as one request takes.
    #[serde(with = "friendly")]
    pub life: Duration,
    /// For how long, at the pace of a key, requests are leased ahead; at most for twice of that.
    #[serde(with = "friendly")]
    pub ahead: Duration,
}

impl Default for SharedLimitsConfig {
    /// 50 ms for an answer, a second for finding the counter, and again after half a second; a word every second; leases
    /// last a second and are made for 100 ms.
    fn default() -> Self {
        Self {
            deadline: Duration::from_millis(50),
            connect: Duration::from_secs(1),
            retry: Duration::from_millis(500),
            heartbeat: Duration::from_secs(1),
            life: Duration::from_secs(1),
            ahead: Duration::from_millis(100),
        }
    }
}

/// What the shared limits of a process have in common; cheap to clone.
#[derive(Debug, Clone)]
pub struct SharedLimits {
    hub: Arc<Hub>,
}

/// What a limit and the one who asks both hold.
pub(super) struct Hub {
    counter: Box<dyn AnyCounter>,
    process: Uuid,
    config: SharedLimitsConfig,
    origin: Instant,
    asks: Asks,
    shared: AtomicBool,
    processes: AtomicU32,
    standing: Standing,
}

impl SharedLimits {
    /// How many keys are asked for at once.
    const BATCH: usize = 256;

    /// Limits that `counter` counts, once [`run`](Self::run) runs.
    pub fn new(counter: impl Counter, metrics: &Metrics) -> Self {
        Self::with(counter, metrics, SharedLimitsConfig::default())
    }

    /// The same, with other times.
    pub fn with(counter: impl Counter, metrics: &Metrics, config: SharedLimitsConfig) -> Self {
        let hub = Hub {
            counter: Box::new(counter),
            process: new_id(),
            config,
            origin: Instant::now(),
            asks: Asks::default(),
            shared: AtomicBool::new(false),
            processes: AtomicU32::new(1),
            standing: Standing::new(metrics),
        };
        Self { hub: Arc::new(hub) }
    }

    /// Keeps the counts together, for ever. Without it every limit is this process's own.
    pub async fn run(&self) {
        loop {
            self.alone().await;
            self.together().await;
        }
    }

    /// How they stand.
    pub fn status(&self) -> SharedLimitsStatus {
        self.hub.standing.status()
    }

    /// Waits until the counter answers.
    pub async fn until_shared(&self) {
        self.until(true).await;
    }

    /// Waits until the counter does not answer.
    pub async fn until_alone(&self) {
        self.until(false).await;
    }

    async fn until(&self, shared: bool) {
        let mut watch = self.hub.standing.watch();
        let _ = watch.wait_for(|now| *now == shared).await;
    }

    pub(super) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// The counter is lost, or was never there: looks for it until it answers.
    async fn alone(&self) {
        let hub = &self.hub;
        loop {
            match hub.lease(hub.config.connect, Vec::new()).await {
                Ok(_) => return,
                Err(cause) => hub.lose(&cause),
            }
            tokio::time::sleep(hub.config.retry).await;
        }
    }

    /// The counter is there: asks what is to be asked, until there is no answer.
    async fn together(&self) {
        let hub = &self.hub;
        loop {
            let waiting = tokio::time::timeout(hub.config.heartbeat, hub.asks.next(Self::BATCH)).await;
            if let Err(cause) = hub.ask(waiting.unwrap_or_default()).await {
                hub.lose(&cause);
                return;
            }
        }
    }
}

impl Hub {
    pub(super) fn config(&self) -> &SharedLimitsConfig {
        &self.config
    }

    pub(super) fn asks(&self) -> &Asks {
        &self.asks
    }

    pub(super) fn is_shared(&self) -> bool {
        self.shared.load(Ordering::Acquire)
    }

    pub(super) fn processes(&self) -> u32 {
        self.processes.load(Ordering::Relaxed)
    }

    pub(super) fn since_origin(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.origin))
    }

    async fn ask(&self, waiting: Vec<Waiting>) -> Result<(), Cause> {
        let asked = self.since_origin(Instant::now());
        let (waiting, asks): (Vec<_>, Vec<_>) =
            waiting.into_iter().filter_map(|one| one.ask(asked).map(|ask| (one, ask))).unzip();
        self.standing.asked.inc_by(asks.len() as u64);
        let answer = match self.lease(self.config.deadline, asks).await {
            Ok(answer) => answer,
            Err(cause) => {
                self.standing.failed.inc_by(waiting.len() as u64);
                waiting.iter().for_each(Waiting::unanswered);
                return Err(cause);
            }
        };
        let now = self.since_origin(Instant::now());
        for (one, grant) in waiting.into_iter().zip(answer.grants) {
            self.standing.granted.inc_by(u64::from(grant.granted));
            one.answered(grant, asked, now);
        }
        Ok(())
    }

    /// One question to the counter.
    async fn lease(&self, limit: Duration, asks: Vec<Ask>) -> Result<Answer, Cause> {
        let wanted: Vec<u32> = asks.iter().map(|ask| ask.wanted).collect();
        let answer = tokio::time::timeout(limit, self.counter.lease(self.process, asks)).await;
        let answer = answer.map_err(|_| Unanswered::Late(limit))??;
        let granted = answer.grants.iter().map(|grant| grant.granted);
        if answer.grants.len() != wanted.len()
            || granted.zip(wanted).any(|(granted, wanted)| granted > wanted)
        {
            return Err(Unanswered::Misunderstood.into());
        }
        let processes = answer.processes.max(1);
        self.processes.store(processes, Ordering::Relaxed);
        self.shared.store(true, Ordering::Release);
        self.standing.found(processes);
        Ok(answer)
    }

    /// Every process goes on with its own part; what waits to be asked is not asked any more.
    fn lose(&self, cause: &Cause) {
        self.shared.store(false, Ordering::Release);
        loop {
            let waiting = self.asks.take(SharedLimits::BATCH);
            if waiting.is_empty() {
                break;
            }
            waiting.iter().for_each(Waiting::unanswered);
        }
        self.standing.lost(cause);
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("config", &self.config)
            .field("standing", &self.standing)
            .finish_non_exhaustive()
    }
}

/// The counter did not answer as it should.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error("there was no answer within {0:?}")]
    Late(Duration),
    #[error("the answer does not fit the question")]
    Misunderstood,
}
