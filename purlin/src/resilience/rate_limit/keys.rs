//! The keys that are remembered: no more than there is room for, whoever invents them.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is known of each key, in parts with a lock each.
#[derive(Debug)]
pub(super) struct Keys<C> {
    hasher: RandomState,
    shards: Box<[Mutex<Shard<C>>]>,
}

impl<C: Default> Keys<C> {
    const SHARDS: usize = 16;

    pub(super) fn new(max_keys: usize) -> Self {
        let shards = Self::SHARDS.min(max_keys.max(1));
        let keys = max_keys / shards;
        let shards = (0..shards).map(|_| Mutex::new(Shard::new(keys))).collect();
        Self { hasher: RandomState::new(), shards }
    }

    /// What stands for the key: of 64 bits with a secret seed, so that nobody can aim at another's.
    pub(super) fn hash<K: Hash + ?Sized>(&self, key: &K) -> u64 {
        self.hasher.hash_one(key)
    }

    /// Does something with what is known of a key; a new one's is the default.
    pub(super) fn with<T>(&self, hash: u64, work: impl FnOnce(&mut C) -> T) -> T {
        work(self.shard(hash).cell(hash))
    }

    /// The same for a key that is known, which does not count as having been seen.
    pub(super) fn if_known<T>(&self, hash: u64, work: impl FnOnce(&mut C) -> T) -> Option<T> {
        let mut shard = self.shard(hash);
        let Shard { young, old, .. } = &mut *shard;
        young.get_mut(&hash).or_else(|| old.get_mut(&hash)).map(work)
    }

    /// How many keys are remembered.
    pub(super) fn len(&self) -> usize {
        let len = |shard: &Mutex<Shard<C>>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.young.len() + shard.old.len()
        };
        self.shards.iter().map(len).sum()
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard<C>> {
        let shard = &self.shards[(hash >> 32) as usize % self.shards.len()];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part of the keys, in two generations: a key that is seen is young. When half of the room is taken by
/// young ones, the old are forgotten and the young become old, which costs nothing per request and needs no
/// clock.
#[derive(Debug)]
struct Shard<C> {
    half: usize,
    young: HashMap<u64, C>,
    old: HashMap<u64, C>,
}

impl<C: Default> Shard<C> {
    fn new(keys: usize) -> Self {
        Self { half: (keys / 2).max(1), young: HashMap::new(), old: HashMap::new() }
    }

    fn cell(&mut self, key: u64) -> &mut C {
        if !self.young.contains_key(&key) {
            let known = self.old.remove(&key).unwrap_or_default();
            if self.young.len() >= self.half {
                // The room of the forgotten is kept: once it has been filled, a known key allocates nothing.
                std::mem::swap(&mut self.young, &mut self.old);
                self.young.clear();
            }
            self.young.insert(key, known);
        }
        self.young.get_mut(&key).expect("it was there or was put there")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_remembered_until_half_of_the_room_went_to_others_since() {
        let mut shard = Shard::<u64>::new(4);
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
    fn looking_at_a_key_neither_makes_it_nor_keeps_it() {
        let keys = Keys::<u64>::new(1);
        assert_eq!(keys.if_known(1, |cell| *cell), None);
        keys.with(1, |cell| *cell = 7);
        assert_eq!(keys.if_known(1, |cell| *cell), Some(7));
        keys.with(2, |_| ());
        assert_eq!(keys.if_known(1, |cell| *cell), Some(7));
        keys.with(3, |_| ());
        assert_eq!(keys.if_known(1, |cell| *cell), None);
    }
}
