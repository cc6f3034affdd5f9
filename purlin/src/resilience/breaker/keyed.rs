//! A breaker for each key: each host, tenant, or route.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};

use super::changes::Feed;
use super::{Breaker, BreakerClock, BreakerConfig};

/// Breakers of one callee by key, of which there are never more than so many; cheap to clone.
///
/// When a new key comes and there is no place, a breaker makes room that is closed, not in use, has no failure that still
/// counts and whose time open does not grow any more: nothing is lost with it. So does one that is open or half-open and
/// that nobody has called since it may be called again, for as long as `memory` and the `calm` of its growth. If there is
/// none, the keys without a place share one, `NAME/other`.
#[derive(Debug, Clone)]
pub struct KeyedBreakers {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: Arc<str>,
    config: BreakerConfig,
    clock: BreakerClock,
    feed: Feed,
    max_keys: usize,
    other: Breaker,
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_key: HashMap<Arc<str>, Breaker>,
    /// In the order in which they will be asked to make room.
    order: VecDeque<Arc<str>>,
}

impl KeyedBreakers {
    /// How many breakers are asked to make room for a new one.
    const ASKED: usize = 16;

    /// None yet, and never more than `max_keys`, at least one.
    pub fn new(name: impl Into<Arc<str>>, config: BreakerConfig, max_keys: usize) -> Self {
        Self::build(name.into(), config, max_keys, BreakerClock::Tokio, Feed::default())
    }

    pub(super) fn build(
        name: Arc<str>,
        config: BreakerConfig,
        max_keys: usize,
        clock: BreakerClock,
        feed: Feed,
    ) -> Self {
        let other = Breaker::build(format!("{name}/other").into(), config, clock, feed.clone());
        let (max_keys, known) = (max_keys.max(1), RwLock::default());
        Self { shared: Arc::new(Shared { name, config, clock, feed, max_keys, other, known }) }
    }

    /// The breaker of this key.
    pub fn breaker(&self, key: &str) -> Breaker {
        self.find(key).unwrap_or_else(|| self.add(key))
    }

    /// The breaker of this key, if there is one.
    pub fn find(&self, key: &str) -> Option<Breaker> {
        self.shared.known.read().unwrap_or_else(PoisonError::into_inner).by_key.get(key).cloned()
    }

    /// How many keys have a breaker of their own.
    pub fn len(&self) -> usize {
        self.shared.known.read().unwrap_or_else(PoisonError::into_inner).by_key.len()
    }

    /// Whether no key has one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those that have something to remember.
    pub(super) fn restless(&self) -> Vec<Breaker> {
        let known = self.shared.known.read().unwrap_or_else(PoisonError::into_inner);
        let all = known.by_key.values().chain([&self.shared.other]);
        let mut restless: Vec<_> = all.filter(|breaker| !breaker.is_at_rest()).cloned().collect();
        restless.sort_by(|a, b| a.name().cmp(b.name()));
        restless
    }

    #[cold]
    fn add(&self, key: &str) -> Breaker {
        let shared = &*self.shared;
        let mut known = shared.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(breaker) = known.by_key.get(key) {
            return breaker.clone();
        }
        if known.by_key.len() >= shared.max_keys && !known.make_room() {
            return shared.other.clone();
        }
        let name = format!("{}/{key}", shared.name).into();
        let breaker = Breaker::build(name, shared.config, shared.clock, shared.feed.clone());
        let key: Arc<str> = key.into();
        known.order.push_back(Arc::clone(&key));
        known.by_key.insert(key, breaker.clone());
        breaker
    }
}

impl Known {
    /// Forgets one of the next few that can be forgotten; those that cannot are asked again later.
    fn make_room(&mut self) -> bool {
        for _ in 0..self.order.len().min(KeyedBreakers::ASKED) {
            let Some(key) = self.order.pop_front() else { return false };
            if self.by_key.get(&key).is_none_or(Breaker::is_forgettable) {
                self.by_key.remove(&key);
                return true;
            }
            self.order.push_back(key);
        }
        false
    }
}
