//! All breakers of a process, for those who look after it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::telemetry::Metrics;

use super::changes::Feed;
use super::{Breaker, BreakerClock, BreakerConfig, BreakerState, BreakerStatus, Changes, KeyedBreakers};

/// Breakers by name; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Breakers {
    clock: BreakerClock,
    feed: Feed,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    breakers: BTreeMap<Arc<str>, Breaker>,
    keyed: BTreeMap<Arc<str>, KeyedBreakers>,
}

impl Breakers {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// None yet; those that will be made read this clock.
    pub fn with_clock(clock: BreakerClock) -> Self {
        Self { clock, ..Self::default() }
    }

    /// The breaker of this name; `config` is used if there is none.
    pub fn breaker(&self, name: impl Into<Arc<str>>, config: BreakerConfig) -> Breaker {
        let name = name.into();
        let make = || Breaker::build(Arc::clone(&name), config, self.clock, self.feed.clone());
        self.lock().breakers.entry(Arc::clone(&name)).or_insert_with(make).clone()
    }

    /// Breakers of this name by key, at most so many; `config` and `max_keys` are used if there are none.
    pub fn keyed(&self, name: impl Into<Arc<str>>, config: BreakerConfig, max_keys: usize) -> KeyedBreakers {
        let name = name.into();
        let make =
            || KeyedBreakers::build(Arc::clone(&name), config, max_keys, self.clock, self.feed.clone());
        self.lock().keyed.entry(Arc::clone(&name)).or_insert_with(make).clone()
    }

    /// The breaker of this name, if there is one; `payments/emea` is the one of a key.
    pub fn find(&self, name: &str) -> Option<Breaker> {
        let known = self.lock();
        known.breakers.get(name).cloned().or_else(|| {
            let (of, key) = name.split_once('/')?;
            known.keyed.get(of)?.find(key)
        })
    }

    /// How all of them stand, by name; of those by key, only such as have something to tell.
    pub fn list(&self, now: Instant) -> Vec<BreakerStatus> {
        let (mut breakers, keyed) = {
            let known = self.lock();
            let breakers: Vec<_> = known.breakers.values().cloned().collect();
            (breakers, known.keyed.values().cloned().collect::<Vec<_>>())
        };
        breakers.extend(keyed.iter().flat_map(KeyedBreakers::restless));
        breakers.iter().map(|breaker| breaker.status(now)).collect()
    }

    /// The changes of state of all of them from now on. Up to 64 wait for who does not take them.
    pub fn changes(&self) -> Changes {
        self.feed.subscribe()
    }

    /// Shows them in metrics: `purlin_breaker_state` (0 closed, 1 half-open, 2 open), `purlin_breaker_opened`
    /// and `purlin_breaker_rejected`, by `callee`.
    pub fn observe(&self, metrics: &Metrics) {
        self.gauge(metrics, "purlin_breaker_state", "0 closed, 1 half-open, 2 open", |status| {
            match status.state {
                BreakerState::Closed => 0.0,
                BreakerState::HalfOpen => 1.0,
                BreakerState::Open => 2.0,
            }
        });
        let opened = |status: &BreakerStatus| status.opened as f64;
        self.gauge(metrics, "purlin_breaker_opened", "How often it has opened", opened);
        let rejected = |status: &BreakerStatus| status.rejected as f64;
        self.gauge(metrics, "purlin_breaker_rejected", "Calls refused", rejected);
    }

    fn gauge(&self, metrics: &Metrics, name: &str, help: &str, read: fn(&BreakerStatus) -> f64) {
        let breakers = self.clone();
        metrics.gauges_from(name, help, ["callee"], move || {
            let list = breakers.list(Instant::now());
            list.into_iter().map(|status| (read(&status), status)).map(|(n, s)| ([s.name], n)).collect()
        });
    }

    /// Puts a breaker that begins anew, under other terms, in the place of the one of this name; what an operator holds
    /// stays, and its counts go on. Nobody finds it before it is held.
    pub(in crate::resilience) fn replace(&self, name: &Arc<str>, config: BreakerConfig) -> Breaker {
        let mut known = self.lock();
        let build = Breaker::build(Arc::clone(name), config, self.clock, self.feed.clone());
        let breaker = match known.breakers.get(name) {
            Some(old) => build.continuing(old),
            None => build,
        };
        known.breakers.insert(Arc::clone(name), breaker.clone());
        breaker
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
