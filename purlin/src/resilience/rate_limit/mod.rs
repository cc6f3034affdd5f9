//! A share of the capacity for each caller, of this process or of several.
//!
//! The algorithm is GCRA, the *generic cell rate algorithm* of the ATM Forum's Traffic Management 4.0 (and of ITU-T
//! I.371) in its "virtual scheduling" form, which is the leaky bucket as a meter: for each key one number is kept, the
//! *theoretical arrival time*, at which the key's quota would be full again. A request that would move it further ahead
//! than the burst allows is refused and moves nothing. So in any stretch of time `t` no more than `burst + rate * t` are
//! let through; a time earlier than one that was given before lets nothing more through.
//!
//! No more than `max_keys` keys are remembered. When there is no more room those that have not been seen for longest
//! are forgotten, and start with a full quota when they come back: never is anybody refused because of others, and who
//! invents keys to be forgotten himself needs as many as half of the room, each of which has a quota anyway.
//!
//! A limit of one process is [`RateLimit::new`]. With [`RateLimit::shared`] several processes keep one limit together;
//! how, and how far off they may be, says [`lease`].

mod gcra;
mod keys;
pub mod lease;

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::message::{Fault, FaultKind};

use gcra::Gcra;
use keys::Keys;
use lease::{Shared, SharedLimits};

/// How much is each key's share.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimitConfig {
    /// Requests a second in the long run; above zero.
    pub per_second: f64,
    /// Requests at once, after a pause; at least 1.
    pub burst: u32,
    /// How many keys are remembered. Beyond it those that have not been seen for longest are forgotten, and
    /// start with a full quota when they come back.
    pub max_keys: usize,
}

/// Limits the rate of each key.
#[derive(Debug)]
pub struct RateLimit(Kind);

#[derive(Debug)]
enum Kind {
    Local(Local),
    Shared(Arc<Shared>),
}

/// A limit of this process alone.
#[derive(Debug)]
struct Local {
    gcra: Gcra,
    origin: Instant,
    /// When the quota of each is full.
    keys: Keys<u64>,
}

impl RateLimit {
    /// A limit of this process alone, with nobody's quota used.
    pub fn new(config: RateLimitConfig) -> Self {
        let keys = Keys::new(config.max_keys);
        Self(Kind::Local(Local { gcra: Gcra::new(config), origin: Instant::now(), keys }))
    }

    /// A limit that all processes keep together which give it the same name (see [`lease`]).
    pub fn shared(name: &str, config: RateLimitConfig, limits: &SharedLimits) -> Self {
        Self(Kind::Shared(Shared::new(name, config, limits)))
    }

    /// Takes one request of `key`'s quota, or says when there will be one. It never waits.
    pub fn check<K: Hash + ?Sized>(&self, key: &K, now: Instant) -> Result<Quota, Limited> {
        match &self.0 {
            Kind::Local(local) => local.check(key, now),
            Kind::Shared(shared) => shared.check(key, now),
        }
    }

    /// Gives back one request that [`check`](Self::check) took of `key`'s quota.
    pub fn give_back<K: Hash + ?Sized>(&self, key: &K) {
        match &self.0 {
            Kind::Local(local) => local.give_back(key),
            Kind::Shared(shared) => shared.give_back(key),
        }
    }

    /// How many keys are remembered at the moment.
    pub fn keys(&self) -> usize {
        match &self.0 {
            Kind::Local(local) => local.keys.len(),
            Kind::Shared(shared) => shared.keys(),
        }
    }
}

impl Local {
    fn check<K: Hash + ?Sized>(&self, key: &K, now: Instant) -> Result<Quota, Limited> {
        let now = lease::nanos(now.saturating_duration_since(self.origin));
        self.keys.with(self.keys.hash(key), |full_at| {
            let (next, answer) = self.gcra.decide(*full_at, now);
            *full_at = next;
            answer
        })
    }

    fn give_back<K: Hash + ?Sized>(&self, key: &K) {
        let interval = self.gcra.interval;
        self.keys.if_known(self.keys.hash(key), |full_at| *full_at = full_at.saturating_sub(interval));
    }
}

/// What is left of a key's quota after a request was let through; what `RateLimit` headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// How many requests the full quota has.
    pub limit: u32,
    /// How many more would be let through now.
    pub remaining: u32,
    /// When the quota is full again, if nothing more comes.
    pub reset_after: Duration,
}

/// The key has used up its quota; nothing was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many requests: the limit is {limit} at once")]
pub struct Limited {
    /// How many requests the full quota has.
    pub limit: u32,
    /// When the next request will be let through, if nothing comes before it.
    pub retry_after: Duration,
    /// When the quota is full again, if nothing more comes.
    pub reset_after: Duration,
}

impl Fault for Limited {
    fn kind(&self) -> FaultKind {
        FaultKind::Overloaded
    }

    fn code(&self) -> &str {
        "rate-limited"
    }

    fn retry_after(&self) -> Option<Duration> {
        Some(self.retry_after)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limit(per_second: f64, burst: u32, max_keys: usize) -> (RateLimit, Instant) {
        let limit = RateLimit::new(RateLimitConfig { per_second, burst, max_keys });
        let Kind::Local(Local { origin, .. }) = &limit.0 else { unreachable!("it is") };
        let origin = *origin;
        (limit, origin)
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let (limit, start) = limit(1.0, 1, 100);
        for _ in 0..3 {
            limit.check("ann", start).unwrap();
            limit.give_back("ann");
        }
        limit.check("ann", start).unwrap();
        assert!(limit.check("ann", start).is_err());
    }

    #[test]
    fn a_burst_is_let_through_and_then_the_long_run_rate() {
        let (limit, start) = limit(10.0, 3, 100);
        let left: Vec<_> = (0..3).map(|_| limit.check("ann", start).unwrap().remaining).collect();
        assert_eq!(left, [2, 1, 0]);
        let refused = limit.check("ann", start).unwrap_err();
        assert_eq!(refused.retry_after, Duration::from_millis(100));
        assert_eq!(Fault::retry_after(&refused), Some(Duration::from_millis(100)), "answers say it too");
        assert_eq!(refused.reset_after, Duration::from_millis(300));

        let later = start + Duration::from_millis(100);
        assert!(limit.check("ann", later - Duration::from_nanos(1)).is_err());
        assert_eq!(limit.check("ann", later).unwrap().remaining, 0);
        assert!(limit.check("ann", later).is_err());
        assert_eq!(limit.check("ann", start + Duration::from_secs(9)).unwrap().remaining, 2);
    }

    #[test]
    fn keys_do_not_share() {
        let (limit, now) = limit(1.0, 1, 100);
        assert!(limit.check("ann", now).is_ok());
        assert!(limit.check("bob", now).is_ok());
        assert!(limit.check("ann", now).is_err());
    }

    #[test]
    fn many_keys_do_not_free_one_that_keeps_asking() {
        let (limit, now) = limit(1.0, 1, 160);
        assert!(limit.check(&u64::MAX, now).is_ok());
        for stranger in 0..10_000_u64 {
            let _ = limit.check(&stranger, now);
            assert!(limit.check(&u64::MAX, now).is_err(), "after {stranger}");
            assert!(limit.keys() <= 160);
        }
    }

    #[test]
    fn a_clock_that_goes_back_lets_nothing_more_through() {
        let (limit, start) = limit(10.0, 2, 100);
        let later = start + Duration::from_secs(5);
        assert!(limit.check("ann", later).is_ok());
        for back in [Duration::from_nanos(1), Duration::from_secs(3), Duration::from_secs(9)] {
            let _ = limit.check("ann", later - back);
        }
        assert!(limit.check("ann", later).is_ok(), "what came too early took nothing");
        assert!(limit.check("ann", later).is_err());
    }

    #[test]
    fn threads_let_no_more_through_than_one_would() {
        let (limit, start) = limit(1000.0, 50, 100);
        let passed = std::sync::atomic::AtomicU32::new(0);
        let ask = || {
            for millis in 0..100 {
                for _ in 0..20 {
                    let at = start + Duration::from_millis(millis);
                    passed.fetch_add(
                        u32::from(limit.check("ann", at).is_ok()),
                        std::sync::atomic::Ordering::Relaxed,
                    );
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(ask);
            }
        });
        // All of the burst, and all of the rate from the first millisecond to the last.
        assert_eq!(passed.into_inner(), 50 + 99);
    }

    #[test]
    fn odd_configurations_neither_panic_nor_let_everything_through() {
        for per_second in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE, f64::MAX] {
            for burst in [0, 1, u32::MAX] {
                let (limit, now) = limit(per_second, burst, 0);
                assert!(limit.check("ann", now).is_ok());
                let next = limit.check("ann", now + Duration::from_secs(1 << 40));
                assert!(next.is_ok(), "{per_second} {burst}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_stretch_of_time_lets_more_through_than_the_burst_and_the_rate(
            burst in 1_u32..6,
            gaps in prop::collection::vec(0_u64..400, 1..200),
        ) {
            let (limit, start) = limit(10.0, burst, 100);
            let (mut at, mut passed) = (0, Vec::new());
            for gap in gaps {
                at += gap;
                let now = start + Duration::from_millis(at);
                match limit.check("ann", now) {
                    Ok(quota) => {
                        passed.push(at);
                        prop_assert!(quota.remaining < burst);
                    }
                    Err(refused) => {
                        prop_assert!(!refused.retry_after.is_zero());
                        prop_assert!(refused.retry_after <= Duration::from_millis(100));
                    }
                }
            }
            for (i, from) in passed.iter().enumerate() {
                for (j, to) in passed.iter().enumerate().skip(i) {
                    prop_assert!((j - i + 1) as u64 <= u64::from(burst) + (to - from) / 100);
                }
            }
        }

        #[test]
        fn who_waits_as_told_is_let_through(gaps in prop::collection::vec(0_u64..150, 1..100)) {
            let (limit, mut now) = limit(10.0, 2, 100);
            for gap in gaps {
                now += Duration::from_millis(gap);
                if let Err(refused) = limit.check("ann", now) {
                    now += refused.retry_after;
                    prop_assert!(limit.check("ann", now).is_ok());
                }
            }
        }
    }
}
