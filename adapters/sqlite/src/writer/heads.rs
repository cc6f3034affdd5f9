//! The last versions of the streams that were written lately.

use crate::index::{Head, Key, KeyMap};

/// A bounded cache of two generations: what was not asked for while one filled is forgotten with it.
pub(super) struct Heads {
    young: KeyMap<Head>,
    old: KeyMap<Head>,
    capacity: usize,
}

impl Heads {
    /// Keeps at least half as many streams as `capacity`, and at most `capacity`.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            young: KeyMap::default(),
            old: KeyMap::default(),
            capacity: capacity.div_ceil(2).max(2 * super::ITEMS),
        }
    }

    pub(super) fn get(&mut self, key: Key) -> Option<Head> {
        if let Some(head) = self.young.get(&key) {
            return Some(*head);
        }
        let head = self.old.remove(&key)?;
        self.set(key, head);
        Some(head)
    }

    /// Whether it would be found.
    pub(super) fn has(&self, key: Key) -> bool {
        self.young.contains_key(&key) || self.old.contains_key(&key)
    }

    pub(super) fn set(&mut self, key: Key, head: Head) {
        if self.young.len() >= self.capacity && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, head);
    }

    /// After a transaction that did not happen, nothing in it can be believed.
    pub(super) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Keys;

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let keys = Keys::new([0; 16]);
        let key = |n: usize| keys.of(&n.to_string());
        let mut heads = Heads::new(0);
        let capacity = heads.capacity;
        heads.set(key(0), Head { version: 7 });
        for n in 1..capacity * 5 {
            heads.set(key(n), Head { version: 1 });
            assert_eq!(heads.get(key(0)), Some(Head { version: 7 }), "used all the time");
        }
        assert!(heads.young.len() + heads.old.len() <= 2 * capacity);
        assert_eq!(heads.get(key(1)), None, "used once, long ago");
    }
}
