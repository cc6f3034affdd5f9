//! How much may be under way, and how much may wait.

use std::time::Duration;

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as friendly;
use serde::{Deserialize, Serialize};

use super::AdaptiveConfig;

/// How much may be under way, and how much may wait.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BulkheadConfig {
    /// How many may be under way at once; at least 1. With `adaptive` it is the most that may ever be.
    pub max_under_way: usize,
    /// How many more may wait; the next one is refused.
    pub max_waiting: usize,
    /// How long one waits at most; never past its deadline.
    #[serde(with = "friendly")]
    pub max_wait: Duration,
    /// How the number of places is found by itself; none: it is always `max_under_way`.
    pub adaptive: Option<AdaptiveConfig>,
}

impl Default for BulkheadConfig {
    /// 1024 places, always; as many may wait, for up to a second.
    fn default() -> Self {
        Self { max_under_way: 1024, max_waiting: 1024, max_wait: Duration::from_secs(1), adaptive: None }
    }
}
