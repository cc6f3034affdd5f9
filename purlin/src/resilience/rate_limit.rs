//! A share of the capacity for each caller.
//!
//! The algorithm is GCRA, the "virtual scheduling" form of ITU-T I.371: for each key one number is kept, the
//! *theoretical arrival time*, at which the key's quota would be full again. A request that would move it
//! further ahead than the burst allows is refused and moves nothing.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::message::{Fault, FaultKind};

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
pub struct RateLimit {
    share: Share,
    origin: Instant,
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
}

impl RateLimit {
    const SHARDS: usize = 16;

    /// With nobody's quota used.
    pub fn new(config: RateLimitConfig) -> Self {
        let shards = Self::SHARDS.min(config.max_keys.max(1));
        let keys = config.max_keys / shards;
        Self {
            share: Share::new(config),
            origin: Instant::now(),
            hasher: RandomState::new(),
            shards: (0..shards).map(|_| Mutex::new(Shard::new(keys))).collect(),
        }
    }

    /// Takes one request of `key`'s quota, or says when there will be one.
    pub fn check<K: Hash + ?Sized>(&self, key: &K, now: Instant) -> Result<Quota, Limited> {
        let now = nanos(now.saturating_duration_since(self.origin));
        // The hash stands for the key: of 64 bits with a secret seed, so that nobody can aim at another's.
        let hash = self.hasher.hash_one(key);
        let shard = &self.shards[(hash >> 32) as usize % self.shards.len()];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = shard.cell(hash);
        let (next, answer) = self.share.decide(*full_at, now);
        *full_at = next;
        answer
    }

    /// Gives back one request that [`check`](Self::check) took of `key`'s quota.
    pub fn give_back<K: Hash + ?Sized>(&self, key: &K) {
        let hash = self.hasher.hash_one(key);
        let shard = &self.shards[(hash >> 32) as usize % self.shards.len()];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = shard.cell(hash);
        *full_at = full_at.saturating_sub(self.share.interval);
    }

    /// How many keys are remembered at the moment.
    pub fn keys(&self) -> usize {
        let len = |shard: &Mutex<Shard>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.young.len() + shard.old.len()
        };
        self.shards.iter().map(len).sum()
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
}

/// The decision, over times in nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Share {
    burst: u32,
    /// What one request costs.
    interval: u64,
    /// How far ahead the time of the full quota may be.
    tolerance: u64,
}

impl Share {
    fn new(config: RateLimitConfig) -> Self {
        let burst = config.burst.max(1);
        // From a billion a second to one in thirty years; what is no number is the latter.
        let interval = (1e9 / config.per_second.max(1e-9)).clamp(1.0, 1e18) as u64;
        Self { burst, interval, tolerance: interval.saturating_mul(u64::from(burst)) }
    }

    /// The time at which the quota will be full, as it becomes, and the answer.
    fn decide(&self, full_at: u64, now: u64) -> (u64, Result<Quota, Limited>) {
        let full_at = full_at.max(now);
        let next = full_at.saturating_add(self.interval);
        let ahead = next - now;
        if ahead > self.tolerance {
            let limited = Limited {
                limit: self.burst,
                retry_after: Duration::from_nanos(ahead - self.tolerance),
                reset_after: Duration::from_nanos(full_at - now),
            };
            return (full_at, Err(limited));
        }
        let quota = Quota {
            limit: self.burst,
            remaining: ((self.tolerance - ahead) / self.interval) as u32,
            reset_after: Duration::from_nanos(ahead),
        };
        (next, Ok(quota))
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// A part of the keys, in two generations: a key that is seen is young. When half of the room is taken by
/// young ones, the old are forgotten and the young become old, which costs nothing per request and needs no
/// clock.
#[derive(Debug)]
struct Shard {
    half: usize,
    young: HashMap<u64, u64>,
    old: HashMap<u64, u64>,
}

impl Shard {
    fn new(keys: usize) -> Self {
        Self { half: (keys / 2).max(1), young: HashMap::new(), old: HashMap::new() }
    }

    /// The time of the full quota of a key; 0 if the key is new.
    fn cell(&mut self, key: u64) -> &mut u64 {
        if !self.young.contains_key(&key) {
            let known = self.old.remove(&key).unwrap_or(0);
            if self.young.len() >= self.half {
                self.old = std::mem::take(&mut self.young);
            }
            self.young.insert(key, known);
        }
        self.young.get_mut(&key).expect("it was there or was put there")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limit(per_second: f64, burst: u32, max_keys: usize) -> (RateLimit, Instant) {
        let limit = RateLimit::new(RateLimitConfig { per_second, burst, max_keys });
        let origin = limit.origin;
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
    fn a_key_is_remembered_until_half_of_the_room_went_to_others_since() {
        let mut shard = Shard::new(4);
        *shard.cell(1) = 7;
        for other in [2, 3, 4] {
            shard.cell(other);
        }
        assert_eq!(*shard.cell(1), 7);
        for other in [5, 6, 7, 8] {
            shard.cell(other);
        }
        assert_eq!(*shard.cell(1), 0);
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
