//! The last versions of the streams that were written lately.

use std::collections::HashMap;

use purlin::store::StreamId;

use crate::index::Head;

/// A bounded cache of two generations: what was not asked for while one filled is forgotten with it.
pub(super) struct Heads {
    young: HashMap<StreamId, Head>,
    old: HashMap<StreamId, Head>,
    capacity: usize,
}

impl Heads {
    /// Keeps at least half as many streams as `capacity`, and at most `capacity`.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            capacity: capacity.div_ceil(2).max(2 * super::ITEMS),
        }
    }

    pub(super) fn get(&mut self, stream: &StreamId) -> Option<Head> {
        if let Some(head) = self.young.get(stream) {
            return Some(*head);
        }
        let (stream, head) = self.old.remove_entry(stream)?;
        self.set(stream, head);
        Some(head)
    }

    /// The stream was appended to, right after it was asked for.
    pub(super) fn raise(&mut self, stream: &StreamId, head: Head) {
        match self.young.get_mut(stream) {
            Some(known) => *known = head,
            None => self.set(stream.clone(), head),
        }
    }

    pub(super) fn set(&mut self, stream: StreamId, head: Head) {
        if self.young.len() >= self.capacity {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(stream, head);
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

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let stream = |n: usize| StreamId::new("s", n).unwrap();
        let mut heads = Heads::new(0);
        let capacity = heads.capacity;
        heads.set(stream(0), Head { version: 7 });
        for n in 1..capacity * 5 {
            heads.set(stream(n), Head { version: 1 });
            assert_eq!(heads.get(&stream(0)), Some(Head { version: 7 }), "used all the time");
        }
        assert!(heads.young.len() + heads.old.len() <= 2 * capacity);
        assert_eq!(heads.get(&stream(1)), None, "used once, long ago");
    }
}
