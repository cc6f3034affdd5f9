//! The endpoints of one service, in turn.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::uri::Authority;
use purlin::resilience::{Caller, RetryBudget, RetryBudgetConfig};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::room::Room;
use super::send::A_WHILE;

/// Endpoints that answer alike.
#[derive(Debug)]
pub(super) struct Pool {
    endpoints: Vec<Endpoint>,
    turn: AtomicUsize,
    origin: Instant,
    pause: Duration,
    /// How many requests may be sent again.
    pub(super) retries: RetryBudget,
    /// How many requests may be under way.
    pub(super) room: Room,
    /// What stands around a request.
    pub(super) caller: Caller,
    /// When it answered last, in milliseconds since the origin.
    answered: AtomicU64,
    /// Since when callers have asked in vain who may have to blame themselves.
    silence: Mutex<Option<Silence>>,
    /// How many large bodies may be waited for at once, while it is not known whether the service is there.
    pub(super) large: Semaphore,
}

/// How many large bodies may be waited for at once.
const LARGE: usize = 4;

/// An open breaker that lets a probe through so soon may do so by the time that a request comes to it.
const SOON: Duration = Duration::from_millis(10);

/// Requests that ended one after another without an answer.
#[derive(Debug, Clone, Copy)]
struct Silence {
    /// When the service had the first of them.
    begun: Instant,
    /// When the last of them ended.
    seen: Instant,
}

/// Where one of them listens.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) authority: Authority,
    /// Until when it is tried last, in milliseconds since the pool's origin.
    rests_until: AtomicU64,
    under_way: Arc<AtomicUsize>,
}

/// A request that an endpoint has in hand, for as long as this lives.
#[derive(Debug)]
pub(crate) struct InHand(Arc<AtomicUsize>);

impl Pool {
    /// A pool with so much room, whose endpoints rest for `pause` when they cannot be reached.
    pub(super) fn new(
        endpoints: impl IntoIterator<Item = Authority>,
        pause: Duration,
        room: Room,
        caller: Caller,
    ) -> Self {
        let endpoint =
            |authority| Endpoint { authority, rests_until: AtomicU64::new(0), under_way: Arc::default() };
        let endpoints = endpoints.into_iter().map(endpoint).collect();
        let origin = Instant::now();
        let retries = RetryBudget::new(RetryBudgetConfig::default(), origin);
        Self {
            endpoints,
            turn: AtomicUsize::new(0),
            origin,
            pause,
            retries,
            room,
            caller,
            answered: AtomicU64::new(0),
            silence: Mutex::new(None),
            large: Semaphore::new(LARGE),
        }
    }

    /// The endpoints in the order in which the next request tries them: those that rest last, and before them the one
    /// with the fewest requests in hand; in turn, where that is the same.
    pub(super) fn order(&self, now: Instant) -> Vec<&Endpoint> {
        let (now, len) = (self.millis(now), self.endpoints.len());
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % len.max(1);
        let mut order: Vec<_> = (0..len).map(|step| &self.endpoints[(turn + step) % len]).collect();
        order.sort_by_cached_key(|endpoint| {
            let rests = endpoint.rests_until.load(Ordering::Relaxed) > now;
            (rests, endpoint.under_way.load(Ordering::Relaxed))
        });
        order
    }

    /// `endpoint` could not be reached.
    pub(super) fn rest(&self, endpoint: &Endpoint, now: Instant) {
        endpoint.rests_until.store(self.millis(now + self.pause), Ordering::Relaxed);
    }

    /// It answers somebody.
    pub(super) fn answers(&self, now: Instant) {
        self.answered.store(self.millis(now), Ordering::Relaxed);
    }

    /// Whether it has answered anybody since: then it is there, whatever hangs.
    pub(super) fn has_answered_since(&self, begun: Instant) -> bool {
        self.answered.load(Ordering::Relaxed) > self.millis(begun)
    }

    /// Requests of callers who gave little time, or whose bodies are not taken, end one after another without an answer, the
    /// last one at `now`, having been with the service since `since`. Whether nobody had an answer for as long as `given`:
    /// then it is not their doing.
    pub(super) fn is_silent_for(&self, given: Duration, since: Instant, now: Instant) -> bool {
        let mut silence = self.silence.lock().unwrap_or_else(PoisonError::into_inner);
        let before = silence.filter(|before| {
            // Where nobody asked for longer, nobody knows whether it would have answered.
            !self.has_answered_since(before.begun) && since <= before.seen + A_WHILE
        });
        let begun = before.map_or(since, |before| before.begun.min(since));
        *silence = Some(Silence { begun, seen: now });
        now.saturating_duration_since(begun) >= given
    }

    /// Whether a service that has taken the beginning of a body since `begun`, and no more of it, is away, and does not merely
    /// refuse bodies: nobody is answered for as long as `given`. Whoever sends what is refused must not keep a service shut that
    /// is back: while its breaker probes, others tell.
    pub(super) fn takes_nothing(&self, given: Duration, begun: Instant, now: Instant) -> bool {
        // Asked in this order: a request that came to one who probed, or answered others meanwhile, is no part of a silence.
        self.caller.breaker().is_closed()
            && !self.has_answered_since(begun)
            && self.is_silent_for(given, begun, now)
    }

    /// Whether the next request would be a probe, or may be one. Every request with a body asks.
    pub(super) fn may_probe(&self, now: Instant) -> bool {
        let breaker = self.caller.breaker();
        !breaker.is_closed() && breaker.rests(now).is_none_or(|rests| rests <= SOON)
    }

    fn millis(&self, instant: Instant) -> u64 {
        u64::try_from(instant.saturating_duration_since(self.origin).as_millis()).unwrap_or(u64::MAX)
    }
}

impl Endpoint {
    /// It gets a request.
    pub(super) fn begin(&self) -> InHand {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        InHand(Arc::clone(&self.under_way))
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use purlin::resilience::{Breakers, CallPolicy, Forced};
    use purlin::telemetry::metrics::Gauge;

    use super::*;

    fn pool(endpoints: [&'static str; 3]) -> Pool {
        let room = Room::new(10, Gauge::default());
        let caller = Caller::new("gateway-service", CallPolicy::default(), &Breakers::new());
        Pool::new(endpoints.map(Authority::from_static), Duration::from_secs(1), room, caller)
    }

    fn names(order: &[&Endpoint]) -> String {
        order.iter().map(|endpoint| endpoint.authority.host()).collect()
    }

    #[test]
    fn endpoints_take_turns_and_those_that_rest_come_last() {
        let pool = pool(["a:1", "b:1", "c:1"]);
        let now = pool.origin;
        assert_eq!([(); 4].map(|()| names(&pool.order(now))), ["abc", "bca", "cab", "abc"]);
        pool.rest(&pool.endpoints[1], now);
        assert_eq!([(); 3].map(|()| names(&pool.order(now))), ["cab", "cab", "acb"]);
        let later = now + Duration::from_secs(1);
        assert_eq!([(); 3].map(|()| names(&pool.order(later))), ["bca", "cab", "abc"]);
    }

    #[tokio::test(start_paused = true)]
    async fn those_in_a_hurry_count_once_nobody_was_answered_for_as_long_as_others_would_have() {
        let pool = pool(["a:1", "b:1", "c:1"]);
        let (begun, s) = (pool.origin + Duration::from_secs(10), Duration::from_secs(1));
        let silent = |from: u32, to: u32| pool.is_silent_for(5 * s, begun + from * s, begun + to * s);
        assert!(!silent(0, 2) && !silent(1, 4));
        assert!(silent(3, 5), "it has been silent for 5 s");
        // Who asks much later begins anew, and so does who asks after an answer.
        assert!(!silent(11, 12) && !silent(12, 14));
        pool.answers(begun + 13 * s);
        assert!(!silent(14, 17) && silent(17, 19));
        // The time in which nobody asked is no silence.
        assert!(!silent(30, 32) && !silent(34, 36) && !silent(38, 40));
    }

    #[test]
    fn a_long_request_that_saw_others_answered_does_not_hide_the_silence_behind_that() {
        let pool = pool(["a:1", "b:1", "c:1"]);
        let (begun, s) = (pool.origin + Duration::from_secs(10), Duration::from_secs(1));
        let takes_nothing = |from: u32, to: u32| pool.takes_nothing(5 * s, begun + from * s, begun + to * s);
        pool.answers(begun + s);
        assert!(!takes_nothing(2, 3));
        assert!(!takes_nothing(0, 4), "it began before the answer");
        assert!(!takes_nothing(4, 5) && !takes_nothing(5, 6));
        assert!(takes_nothing(6, 7), "nobody was answered for 5 s");
    }

    #[test]
    fn what_came_while_a_breaker_was_not_closed_is_no_part_of_a_silence() {
        let pool = pool(["a:1", "b:1", "c:1"]);
        let (begun, s) = (pool.origin + Duration::from_secs(10), Duration::from_secs(1));
        let takes_nothing = |from: u32, to: u32| pool.takes_nothing(5 * s, begun + from * s, begun + to * s);
        pool.caller.breaker().force(Some(Forced::Open));
        assert!((0..8).all(|at| !takes_nothing(at, at + 1)), "others tell whether it is back");
        pool.caller.breaker().force(None);
        assert!(!takes_nothing(8, 9), "it has been asked for a second");
        assert!((9..12).all(|at| !takes_nothing(at, at + 1)));
        assert!(takes_nothing(12, 13));
    }

    #[test]
    fn an_endpoint_that_hangs_gets_no_more_while_another_has_less_in_hand() {
        let pool = pool(["a:1", "b:1", "c:1"]);
        let now = pool.origin;
        let hanging = pool.endpoints[0].begin();
        assert_eq!([(); 3].map(|()| names(&pool.order(now))), ["bca", "bca", "cba"]);
        let (_more, _still) = (pool.endpoints[1].begin(), pool.endpoints[1].begin());
        assert_eq!(names(&pool.order(now)), "cab");
        drop(hanging);
        assert_eq!(names(&pool.order(now)), "cab");
        pool.rest(&pool.endpoints[2], now);
        assert_eq!(names(&pool.order(now)), "abc");
    }
}
