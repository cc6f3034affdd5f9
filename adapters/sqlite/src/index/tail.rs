//! The positions of the newest events, in memory.

use super::Key;
use super::key::KeyMap;
use super::run::Entry;

/// The events behind the last run, in the order of their positions; those of a stream are a chain.
#[derive(Default)]
pub(crate) struct Tail {
    streams: KeyMap<Stream>,
    events: Vec<Link>,
}

/// A stream that has events here. Their versions follow each other.
struct Stream {
    first: u64,
    last: u64,
    /// Where its last event stands in the tail.
    at: usize,
}

/// An event, and where the one before it of the same stream stands.
struct Link {
    entry: Entry,
    before: Option<usize>,
}

impl Tail {
    /// Adds a committed event; events of a stream come in order.
    pub(crate) fn push(&mut self, key: Key, version: u64, position: u64) {
        let at = self.events.len();
        let entry = Entry { key, version, position };
        let mut before = None;
        self.streams
            .entry(key)
            .and_modify(|stream| {
                debug_assert_eq!(version, stream.last + 1, "versions are dense");
                before = Some(std::mem::replace(&mut stream.at, at));
                stream.last = version;
            })
            .or_insert(Stream { first: version, last: version, at });
        self.events.push(Link { entry, before });
    }

    /// How many events it holds.
    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// The last version of a stream, if it has events here.
    pub(crate) fn last_version(&self, key: Key) -> Option<u64> {
        self.streams.get(&key).map(|stream| stream.last)
    }

    /// The first version of a stream that it holds, if any.
    pub(crate) fn first_version(&self, key: Key) -> Option<u64> {
        self.streams.get(&key).map(|stream| stream.first)
    }

    /// The entries of a stream with versions in `from..to`.
    pub(crate) fn entries(&self, key: Key, from: u64, to: u64) -> Vec<Entry> {
        let mut found = Vec::new();
        let mut at = self.streams.get(&key).map(|stream| stream.at);
        while let Some(Link { entry, before }) = at.map(|at| &self.events[at])
            && entry.version >= from
        {
            if entry.version < to {
                found.push(*entry);
            }
            at = *before;
        }
        found.reverse();
        found
    }

    /// All entries, in the order of a run.
    pub(crate) fn sorted(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = self.events.iter().map(|link| link.entry).collect();
        entries.sort_unstable();
        entries
    }

    /// Forgets all, and keeps the memory for what comes next.
    pub(crate) fn clear(&mut self) {
        self.streams.clear();
        self.events.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::Keys;
    use super::*;

    #[test]
    fn a_part_of_a_stream_is_found_among_others() {
        let keys = Keys::new([0; 16]);
        let key = |name: &str| keys.of(name);
        let mut tail = Tail::default();
        for n in 0..10 {
            tail.push(key("a"), 5 + n, 100 + 2 * n);
            tail.push(key("b"), 1 + n, 101 + 2 * n);
        }
        let found = |name, from, to| -> Vec<(u64, u64)> {
            tail.entries(key(name), from, to).iter().map(|entry| (entry.version, entry.position)).collect()
        };
        assert_eq!(found("a", 7, 10), [(7, 104), (8, 106), (9, 108)]);
        assert_eq!(found("b", 9, u64::MAX), [(9, 117), (10, 119)]);
        assert_eq!(found("a", 1, 5), []);
        assert_eq!(found("c", 1, 5), []);
        assert_eq!((tail.first_version(key("a")), tail.last_version(key("a"))), (Some(5), Some(14)));
        assert!(tail.sorted().is_sorted() && tail.sorted().len() == 20);
    }
}
