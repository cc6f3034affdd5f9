//! What a closed breaker remembers.

use std::collections::VecDeque;
use std::time::Duration;

use super::BreakerConfig;

/// The failures among the last calls, each with the number of its call and its time.
///
/// While there are none a success changes nothing, so that it need not be told.
#[derive(Debug, Clone, Default)]
pub(super) struct Window {
    calls: u64,
    failures: VecDeque<(u64, Duration)>,
}

impl Window {
    pub(super) fn failures(&self) -> u32 {
        self.failures.len() as u32
    }

    pub(super) fn success(&mut self, config: &BreakerConfig) {
        self.count(config);
    }

    pub(super) fn failure(&mut self, config: &BreakerConfig, now: Duration) -> u32 {
        self.count(config);
        self.failures.retain(|(_, at)| now.saturating_sub(*at) <= config.memory);
        self.failures.push_back((self.calls, now));
        self.failures()
    }

    /// Counts a call, and forgets the failures that are further back than the window reaches.
    fn count(&mut self, config: &BreakerConfig) {
        self.calls += 1;
        let reach = u64::from(config.window.max(config.failure_threshold));
        while self.failures.front().is_some_and(|(call, _)| call + reach <= self.calls) {
            self.failures.pop_front();
        }
    }
}
