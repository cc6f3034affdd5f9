//! The endpoints of one service, in turn.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::uri::Authority;
use purlin::resilience::{RetryBudget, RetryBudgetConfig};
use tokio::time::Instant;

/// Endpoints that answer alike.
#[derive(Debug)]
pub(super) struct Pool {
    endpoints: Vec<Endpoint>,
    turn: AtomicUsize,
    origin: Instant,
    pause: Duration,
    /// How many requests may be sent again.
    pub(super) retries: RetryBudget,
}

/// Where one of them listens.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) authority: Authority,
    /// Until when it is tried last, in milliseconds since the pool's origin.
    rests_until: AtomicU64,
}

impl Pool {
    /// A pool whose endpoints rest for `pause` when they cannot be reached.
    pub(super) fn new(endpoints: impl IntoIterator<Item = Authority>, pause: Duration) -> Self {
        let endpoint = |authority| Endpoint { authority, rests_until: AtomicU64::new(0) };
        let endpoints = endpoints.into_iter().map(endpoint).collect();
        let origin = Instant::now();
        let retries = RetryBudget::new(RetryBudgetConfig::default(), origin);
        Self { endpoints, turn: AtomicUsize::new(0), origin, pause, retries }
    }

    /// The endpoints in the order in which the next request tries them: in turn, those that rest last.
    pub(super) fn order(&self, now: Instant) -> Vec<&Endpoint> {
        let (now, len) = (self.millis(now), self.endpoints.len());
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % len.max(1);
        let mut order: Vec<_> = (0..len).map(|step| &self.endpoints[(turn + step) % len]).collect();
        order.sort_by_key(|endpoint| endpoint.rests_until.load(Ordering::Relaxed) > now);
        order
    }

    /// `endpoint` could not be reached.
    pub(super) fn rest(&self, endpoint: &Endpoint, now: Instant) {
        endpoint.rests_until.store(self.millis(now + self.pause), Ordering::Relaxed);
    }

    fn millis(&self, instant: Instant) -> u64 {
        u64::try_from(instant.saturating_duration_since(self.origin).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(order: &[&Endpoint]) -> String {
        order.iter().map(|endpoint| endpoint.authority.host()).collect()
    }

    #[test]
    fn endpoints_take_turns_and_those_that_rest_come_last() {
        let pool = Pool::new(["a:1", "b:1", "c:1"].map(Authority::from_static), Duration::from_secs(1));
        let now = pool.origin;
        assert_eq!([(); 4].map(|()| names(&pool.order(now))), ["abc", "bca", "cab", "abc"]);
        pool.rest(&pool.endpoints[1], now);
        assert_eq!([(); 3].map(|()| names(&pool.order(now))), ["cab", "cab", "acb"]);
        let later = now + Duration::from_secs(1);
        assert_eq!([(); 3].map(|()| names(&pool.order(later))), ["bca", "cab", "abc"]);
    }
}
