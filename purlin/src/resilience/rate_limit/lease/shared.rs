//! A limit whose count is shared: its keys, and how it hears of the counter.

use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::super::gcra::Gcra;
use super::super::keys::Keys;
use super::super::{Limited, Quota, RateLimitConfig};
use super::asks::Waiting;
use super::cell::{Cell, Shares};
use super::limits::Hub;
use super::{Ask, Grant, Key};

/// A limit and the keys that this process has seen.
pub(in super::super) struct Shared {
    name: String,
    whole: Gcra,
    keys: Keys<Cell>,
    hub: Arc<Hub>,
    me: Weak<Self>,
}

impl Shared {
    pub(in super::super) fn new(
        name: &str,
        config: RateLimitConfig,
        limits: &super::SharedLimits,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            name: name.to_owned(),
            whole: Gcra::new(config),
            keys: Keys::new(config.max_keys),
            hub: Arc::clone(limits.hub()),
            me: me.clone(),
        })
    }

    pub(in super::super) fn check<K: Hash + ?Sized>(&self, key: &K, now: Instant) -> Result<Quota, Limited> {
        let (shares, now) = (self.shares(), self.hub.since_origin(now));
        let hash = self.keys.hash(key);
        let told = self.hub.is_shared();
        let taken = self.keys.with(hash, |cell| cell.take(&shares, now, told));
        if taken.ask {
            self.ask_for(hash, Key::of(&self.name, key));
        }
        taken.answer
    }

    pub(in super::super) fn give_back<K: Hash + ?Sized>(&self, key: &K) {
        let (shares, now) = (self.shares(), self.hub.since_origin(Instant::now()));
        self.keys.if_known(self.keys.hash(key), |cell| cell.give_back(&shares, now));
    }

    pub(in super::super) fn keys(&self) -> usize {
        self.keys.len()
    }

    #[cold]
    fn ask_for(&self, hash: u64, key: Key) {
        let limit = self.me.upgrade().expect("whoever calls this holds it");
        if let Err(turned_away) = self.hub.asks().add(Waiting { limit, hash, key }) {
            turned_away.unanswered();
        }
    }

    fn shares(&self) -> Shares {
        let config = self.hub.config();
        let (life, ahead) = (nanos(config.life), nanos(config.ahead));
        Shares::new(self.whole, self.hub.processes(), life, ahead)
    }
}

impl Waiting {
    /// What is said and wanted now; nothing if the key is forgotten.
    pub(super) fn ask(&self, now: u64) -> Option<Ask> {
        let shares = self.limit.shares();
        self.limit.keys.if_known(self.hash, |cell| cell.ask(&shares, self.key, now))
    }

    /// Takes in the answer to what was asked at `asked`.
    pub(super) fn answered(self, grant: Grant, asked: u64, now: u64) {
        let shares = self.limit.shares();
        let more = self.limit.keys.if_known(self.hash, |cell| cell.answered(&shares, grant, asked, now));
        if more == Some(true) {
            let limit = Arc::clone(&self.limit);
            limit.ask_for(self.hash, self.key);
        }
    }

    /// There will be no answer.
    pub(super) fn unanswered(&self) {
        self.limit.keys.if_known(self.hash, Cell::unanswered);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("name", &self.name).field("keys", &self.keys()).finish_non_exhaustive()
    }
}

pub(in super::super) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
