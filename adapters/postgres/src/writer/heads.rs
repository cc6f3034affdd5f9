//! What this process knows of the log since its last group; it holds as long as nobody else has written.
//!
//! Nothing here is believed: a group that was decided by it says which revision it relies on, and the server looks,
//! under the log's lock, whether that is still the last one. Every group leaves a greater one. So what a group will leave
//! can be known here before it has happened: if it does not, nothing that relies on it can happen either.

use std::collections::{BTreeMap, HashMap};

use purlin::message::Timestamp;
use purlin::store::{Expected, Revision};

use super::decision::{Asked, Decision, Known};
use crate::codec::signed;

/// Streams in each half of what is kept: the half that was used longer ago is let go when the other is full.
const STREAMS: usize = 64 * 1024;

/// The ends of the log and of its streams, as the last group left them.
#[derive(Default)]
pub(super) struct Heads {
    /// None when the server must be asked: it is not known, or others write too.
    last: Option<Last>,
    /// The revision that was seen last, whether or not it is to be relied on.
    revision: u64,
    recent: HashMap<Box<str>, u64>,
    older: HashMap<Box<str>, u64>,
}

/// The end of the log.
#[derive(Clone, Copy)]
struct Last {
    position: u64,
    at: Timestamp,
}

/// What a group can be decided by, if the server finds it to be so.
pub(super) struct Guess<'a> {
    pub(super) known: Known<'a>,
    /// The streams that are not known here, and the versions that their first appends expect.
    pub(super) streams: Vec<&'a str>,
    pub(super) versions: Vec<i64>,
    /// The keys whose revisions matter, and those that their first mentions expect, by collection.
    pub(super) records: BTreeMap<&'a str, (Vec<&'a str>, Vec<Option<i64>>)>,
}

impl Heads {
    /// What a group is decided by; none when the server must be asked.
    ///
    /// Of what is not known here it is guessed that the commits are right about it.
    pub(super) fn guess<'a>(&self, asked: &Asked<'a>, now: Timestamp) -> Option<Guess<'a>> {
        let last = self.last?;
        let (mut streams, mut guesses) = (Vec::new(), Vec::new());
        let mut versions = HashMap::with_capacity(asked.streams.len());
        for (stream, expected) in asked.streams.iter().zip(&asked.expected) {
            let version = match (self.version(stream), expected) {
                (Some(version), _) => version,
                (None, Expected::Any) => return None,
                // No stream is so long; who expects it is told what is there.
                (None, Expected::Version(version)) if i64::try_from(*version).is_err() => return None,
                (None, expected) => {
                    let version = if let Expected::Version(version) = expected { *version } else { 0 };
                    streams.push(*stream);
                    guesses.push(signed(version));
                    version
                }
            };
            versions.insert(*stream, version);
        }
        let (mut records, mut revisions) = (BTreeMap::new(), HashMap::new());
        for (collection, keys) in &asked.keys {
            let guess = |(_, expected): &(&str, Revision)| match expected {
                Revision::Exact(revision) => Some(*revision),
                Revision::Absent | Revision::Any => None,
            };
            let guesses: Vec<Option<u64>> = keys.iter().map(guess).collect();
            let names: Vec<&str> = keys.iter().map(|(key, _)| *key).collect();
            revisions.insert(*collection, names.iter().copied().zip(guesses.iter().copied()).collect());
            records
                .insert(*collection, (names, guesses.into_iter().map(|guess| guess.map(signed)).collect()));
        }
        let (position, revision, at) = (last.position, self.revision, last.at.max(now));
        // Of what conditions exclude it is guessed that it has not come.
        let excluded = asked.criteria.first.iter().map(|_| None).collect();
        let known = Known { position, revision, at, last: at, versions, revisions, excluded };
        Some(Guess { known, streams, versions: guesses, records })
    }

    /// The server was asked under the lock, and said that this is the last revision. What is known is of no use when it
    /// is another than the one that was seen last: somebody else writes, and may go on to do so.
    pub(super) fn met(&mut self, revision: u64) -> bool {
        let alone = self.revision == revision;
        if !alone {
            self.forget();
        }
        alone
    }

    /// A group was applied, is on its way, or met what it did not expect; `alone` if nobody else has written since the one before.
    pub(super) fn learn(&mut self, decision: &Decision<'_>, alone: bool) {
        self.revision = decision.revision();
        self.last = alone.then(|| Last { position: decision.position(), at: decision.last() });
        for (stream, version) in decision.versions() {
            match self.recent.get_mut(stream) {
                Some(known) => *known = version,
                None => {
                    if self.recent.len() >= STREAMS {
                        self.older = std::mem::take(&mut self.recent);
                    }
                    self.recent.insert(stream.into(), version);
                }
            }
        }
    }

    /// What was learned of groups that did not happen is let go, which is the ends of their streams; this is the last
    /// revision that was seen to be. If the server says so too, the rest is as it was.
    pub(super) fn retract<'a>(&mut self, revision: u64, streams: impl Iterator<Item = &'a str>) {
        for stream in streams {
            self.recent.remove(stream);
            self.older.remove(stream);
        }
        self.last = None;
        self.revision = revision;
    }

    /// Something went wrong, or somebody else has written: the server is asked before the next group.
    pub(super) fn forget(&mut self) {
        self.last = None;
        self.recent.clear();
        self.older.clear();
    }

    fn version(&self, stream: &str) -> Option<u64> {
        self.recent.get(stream).or_else(|| self.older.get(stream)).copied()
    }
}

#[cfg(test)]
mod tests {
    use purlin::message::{Envelope, Timestamp};
    use purlin::store::{Commit, StreamId};

    use super::*;
    use crate::shared::Tables;
    use std::collections::VecDeque;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn commit(stream: &str, expected: Expected) -> Commit {
        let stream = StreamId::new("thing", stream).unwrap();
        Commit::new().append(stream, expected, [Envelope::raw("thing.counted", "1")])
    }

    /// Applies what is guessed, as the writer does once the server has said that it is so.
    fn apply(heads: &mut Heads, commits: &[Commit]) -> Option<Vec<String>> {
        let tables = Tables::default();
        let guess = heads.guess(&Asked::by(commits.iter(), &tables), NOW)?;
        let unknown = guess.streams.iter().map(|stream| (*stream).to_owned()).collect();
        heads.learn(&Decision::of(commits.iter(), guess.known, &tables), true);
        Some(unknown)
    }

    fn of_an_empty_log() -> Heads {
        let mut heads = Heads::default();
        let known = Known {
            position: 0,
            revision: 0,
            at: NOW,
            last: NOW,
            versions: HashMap::new(),
            revisions: HashMap::new(),
            excluded: VecDeque::new(),
        };
        assert!(heads.met(0));
        heads.learn(&Decision::of([].into_iter(), known, &Tables::default()), true);
        heads
    }

    #[test]
    fn what_a_group_left_is_known_to_the_next_and_what_is_not_known_is_looked_at() {
        let mut heads = of_an_empty_log();
        let [a, b] = ["a", "b"].map(|stream| commit(stream, Expected::NoStream));
        assert_eq!(apply(&mut heads, &[a, b]).unwrap(), ["thing-a", "thing-b"]);
        let (again, other) = (commit("a", Expected::Any), commit("c", Expected::Version(7)));
        assert_eq!(apply(&mut heads, &[again, other]).unwrap(), ["thing-c"]);
        assert_eq!((heads.version("thing-a"), heads.version("thing-c")), (Some(2), Some(8)));
        assert!(apply(&mut heads, &[commit("d", Expected::Any)]).is_none(), "nothing says what `d` is at");
        let never = commit("e", Expected::Version(u64::MAX));
        assert!(apply(&mut heads, &[never]).is_none(), "no stream is so long");
    }

    #[test]
    fn once_others_write_the_server_is_asked_until_they_are_quiet() {
        let mut heads = of_an_empty_log();
        apply(&mut heads, &[commit("a", Expected::NoStream)]).unwrap();
        let known = |revision| Known {
            position: 5,
            revision,
            at: NOW,
            last: NOW,
            versions: HashMap::from([("thing-a", 4)]),
            revisions: HashMap::new(),
            excluded: VecDeque::new(),
        };
        assert!(!heads.met(77), "somebody else has written");
        heads.learn(&Decision::of([].into_iter(), known(77), &Tables::default()), false);
        assert!(apply(&mut heads, &[commit("a", Expected::Any)]).is_none());
        assert!(heads.met(77), "nobody has since");
        heads.learn(&Decision::of([].into_iter(), known(77), &Tables::default()), true);
        assert!(apply(&mut heads, &[commit("a", Expected::Version(4))]).unwrap().is_empty());
    }

    #[test]
    fn of_what_did_not_happen_nothing_is_left_and_the_rest_is_kept() {
        let mut heads = of_an_empty_log();
        let [a, b] = ["a", "b"].map(|stream| commit(stream, Expected::NoStream));
        apply(&mut heads, &[a, b]).unwrap();
        let before = heads.revision;
        apply(&mut heads, &[commit("a", Expected::Any), commit("c", Expected::NoStream)]).unwrap();
        heads.retract(before, ["thing-a", "thing-c"].into_iter());
        assert!(apply(&mut heads, &[commit("b", Expected::Any)]).is_none(), "the server is asked first");
        assert!(heads.met(before), "nobody has written");
        assert_eq!((heads.version("thing-a"), heads.version("thing-c")), (None, None));
        assert_eq!(heads.version("thing-b"), Some(1));
    }

    #[test]
    fn streams_that_were_used_long_ago_are_let_go() {
        let mut heads = of_an_empty_log();
        for n in 0..STREAMS * 3 {
            if n % STREAMS == 1 {
                apply(
                    &mut heads,
                    &[commit("hot", Expected::Any)]
                        .map(|commit| if n == 1 { self::commit("hot", Expected::NoStream) } else { commit }),
                );
            }
            apply(&mut heads, &[commit(&n.to_string(), Expected::NoStream)]).unwrap();
        }
        assert!(heads.recent.len() + heads.older.len() <= 2 * STREAMS);
        assert!(heads.version("thing-0").is_none() && heads.version("thing-hot").is_some());
    }
}
