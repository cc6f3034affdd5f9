//! The last version of each stream, in bounded memory.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use crate::store::StreamId;

/// Follows the versions of the streams in its share: those whose hash, divided by the number of shares, leaves this rest.
///
/// Streams are known by 64 bits of their name, hashed by a key of this run: among ten million streams two are taken for
/// one with a chance of 3 in a million.
pub(super) struct Versions {
    hash: RandomState,
    /// A power of two.
    shares: u64,
    rest: u64,
    last: HashMap<u64, u64>,
    most: usize,
    /// Whether a stream may be met in the middle.
    midway: bool,
}

impl Versions {
    /// Follows all streams; once they are more than `most`, half of them, and so on.
    pub(super) fn new(most: usize) -> Self {
        let (hash, last) = (RandomState::new(), HashMap::new());
        Self { hash, shares: 1, rest: 0, last, most: most.max(1), midway: false }
    }

    /// The same, from the middle of a log.
    pub(super) fn midway(most: usize) -> Self {
        Self { midway: true, ..Self::new(most) }
    }

    /// How many shares there are.
    pub(super) fn shares(&self) -> u64 {
        self.shares
    }

    /// How many streams were followed.
    pub(super) fn streams(&self) -> u64 {
        self.last.len() as u64
    }

    /// Turns to another share of the streams.
    pub(super) fn turn_to(&mut self, rest: u64) {
        self.last.clear();
        self.rest = rest;
    }

    /// The version that was due instead of this, if another was.
    pub(super) fn due(&mut self, stream: &StreamId, found: u64) -> Option<u64> {
        let key = self.hash.hash_one(stream.as_str());
        if key % self.shares != self.rest {
            return None;
        }
        let due = match self.last.insert(key, found) {
            Some(last) => last + 1,
            None if self.midway => found,
            None => 1,
        };
        // Only the first share was followed from the beginning.
        while self.last.len() > self.most && self.rest == 0 {
            self.shares *= 2;
            self.last.retain(|key, _| key % self.shares == 0);
        }
        (due != found).then_some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(n: u64) -> StreamId {
        StreamId::new("thing", n).unwrap()
    }

    #[test]
    fn with_many_streams_each_is_followed_once_and_memory_is_bounded() {
        let (mut versions, mut followed) = (Versions::new(100), 0);
        let log: Vec<(u64, u64)> = (1..4).flat_map(|version| (0..1000).map(move |n| (n, version))).collect();
        let wrong = |versions: &mut Versions| {
            // One version of one stream is left out.
            let log = log.iter().filter(|(n, version)| (*n, *version) != (777, 2));
            log.filter_map(|(n, version)| versions.due(&stream(*n), *version)).collect::<Vec<_>>()
        };
        let mut all = wrong(&mut versions);
        assert!(versions.shares() > 8);
        for rest in 1.. {
            followed += versions.streams();
            assert!(versions.streams() < 300, "{} streams at once", versions.streams());
            if rest == versions.shares() {
                break;
            }
            versions.turn_to(rest);
            all.extend(wrong(&mut versions));
        }
        assert_eq!((followed, all), (1000, vec![2]));
    }

    #[test]
    fn from_the_middle_the_first_version_is_taken_as_it_is() {
        let mut versions = Versions::midway(10);
        assert_eq!(versions.due(&stream(1), 7), None);
        assert_eq!(versions.due(&stream(1), 9), Some(8));
    }
}
