//! When a breaker opens and closes.

use std::time::Duration;

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as friendly;
use serde::{Deserialize, Serialize};

/// When a breaker opens and closes. In files, durations are written as `30s` or `1m 30s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerConfig {
    /// How many failures open it; at least 1.
    pub failure_threshold: u32,
    /// Among how many of the last calls they are counted. As many as `failure_threshold` (or fewer) means: in
    /// a row.
    pub window: u32,
    /// How old a failure may be to be counted, so that those of yesterday do not add up with one of today.
    #[serde(with = "friendly")]
    pub memory: Duration,
    /// How many successful probes close it, and how many may be under way at a time; at least 1.
    pub success_threshold: u32,
    /// How long it stays open before it lets a probe through.
    #[serde(with = "friendly")]
    pub timeout: Duration,
    /// A call that is given up without a result is a failure if it took at least this long, otherwise it says
    /// nothing: who waits for an answer that never comes must not keep the breaker closed.
    #[serde(with = "friendly")]
    pub abandoned_after: Duration,
}

impl Default for BreakerConfig {
    /// 5 failures among 20 calls and within a minute open it for 5 s, 2 successful probes close it; a call
    /// given up after a second is a failure.
    fn default() -> Self {
        Self {
            failure_threshold: 5,
            window: 20,
            memory: Duration::from_secs(60),
            success_threshold: 2,
            timeout: Duration::from_secs(5),
            abandoned_after: Duration::from_secs(1),
        }
    }
}
