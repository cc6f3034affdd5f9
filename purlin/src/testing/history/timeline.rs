//! The sequential model: all states that a store went through, one behind each commit.

use std::collections::HashMap;

use super::order::Happened;
use super::{Anomaly, Clash, Expect, Row, Wanted};

/// The states of a store, numbered: 0 is empty, and each commit makes the next.
pub(super) struct Timeline<'a> {
    commits: &'a [Happened<'a>],
    /// From which state on a stream has which version.
    streams: HashMap<u32, Vec<(usize, u64)>>,
    /// From which state on a record is what which commit wrote.
    records: HashMap<u32, Vec<(usize, Option<usize>)>>,
    /// From which state on which is the last position of an event with a tag.
    tags: HashMap<u32, Vec<(usize, u64)>>,
    /// Which commit has an id.
    ids: HashMap<u64, usize>,
}

impl<'a> Timeline<'a> {
    /// Applies the commits one after the other; one that could not be applied is an anomaly.
    pub(super) fn of(commits: &'a [Happened<'a>]) -> (Self, Vec<Anomaly>) {
        let (streams, records) = (HashMap::new(), HashMap::new());
        let (tags, ids) = (HashMap::new(), HashMap::new());
        let mut timeline = Self { commits, streams, records, tags, ids };
        let mut anomalies = Vec::new();
        for (index, commit) in commits.iter().enumerate() {
            if let Some(clash) = timeline.clash(commit.wanted, index) {
                anomalies.push(Anomaly::Admitted(commit.by, clash));
            }
            if let Some(first) = commit.wanted.id.and_then(|id| timeline.ids.insert(id, index)) {
                anomalies.push(Anomaly::Twice(commits[first].by, commit.by));
            }
            timeline.apply(commit.wanted, index);
        }
        (timeline, anomalies)
    }

    fn apply(&mut self, wanted: &Wanted, index: usize) {
        let after = index + 1;
        for (stream, _, count) in &wanted.appends {
            let version = self.version(*stream, after) + u64::from(*count);
            self.streams.entry(*stream).or_default().push((after, version));
        }
        if let Some(tag) = wanted.tag.filter(|_| wanted.events() > 0) {
            self.tags.entry(tag).or_default().push((after, self.commits[index].position));
        }
        for (key, _, put) in &wanted.writes {
            self.records.entry(*key).or_default().push((after, put.then_some(index)));
        }
    }

    /// How many commits there are: the number of the last state.
    pub(super) fn end(&self) -> usize {
        self.commits.len()
    }

    /// The log's last position.
    pub(super) fn head(&self, state: usize) -> u64 {
        state.checked_sub(1).map_or(0, |index| self.commits[index].position)
    }

    /// The last version of a stream.
    pub(super) fn version(&self, stream: u32, state: usize) -> u64 {
        self.streams.get(&stream).and_then(|changes| at(changes, state)).unwrap_or(0)
    }

    /// The commit that wrote what a record is.
    fn writer(&self, key: u32, state: usize) -> Option<usize> {
        self.records.get(&key).and_then(|changes| at(changes, state)).flatten()
    }

    /// The first state in which a commit of this id is there, and that commit.
    pub(super) fn with_id(&self, id: u64) -> Option<(usize, &Happened<'a>)> {
        self.ids.get(&id).map(|index| (index + 1, &self.commits[*index]))
    }

    /// Whether a record is this.
    pub(super) fn is(&self, key: u32, row: Option<&Row>, state: usize) -> bool {
        match (self.writer(key, state), row) {
            (None, None) => true,
            (Some(index), Some(row)) => {
                let commit = &self.commits[index];
                let wrote = (key, commit.by, commit.position, commit.revision);
                (row.key, row.by, row.position, Some(row.revision)) == wrote
            }
            _ => false,
        }
    }

    /// The keys of all records that there ever were.
    pub(super) fn keys(&self) -> impl Iterator<Item = u32> {
        self.records.keys().copied()
    }

    /// Whether these are all records.
    pub(super) fn are(&self, rows: &[Row], state: usize) -> bool {
        let there = self.keys().filter(|key| self.writer(*key, state).is_some()).count();
        there == rows.len() && rows.iter().all(|row| self.is(row.key, Some(row), state))
    }

    /// What is not as a commit expects, the first of all: appends, then requirements, then writes, then conditions.
    pub(super) fn clash(&self, wanted: &Wanted, state: usize) -> Option<Clash> {
        let stream = || self.unexpected_stream(wanted, state);
        let record = || self.unexpected_record(wanted, state);
        stream().or_else(record).or_else(|| self.excluded(wanted, state))
    }

    fn unexpected_stream(&self, wanted: &Wanted, state: usize) -> Option<Clash> {
        let mut staged: Vec<(u32, u64)> = Vec::new();
        for (stream, expect, count) in &wanted.appends {
            let before = staged.iter().rev().find(|(other, _)| other == stream);
            let actual = before.map_or_else(|| self.version(*stream, state), |(_, version)| *version);
            let as_expected = match expect {
                Expect::Any => true,
                Expect::Nothing => actual == 0,
                Expect::Exactly(version) => actual == *version,
            };
            if !as_expected {
                return Some(Clash::Stream(*stream, *expect, actual));
            }
            staged.push((*stream, actual + u64::from(*count)));
        }
        None
    }

    fn unexpected_record(&self, wanted: &Wanted, state: usize) -> Option<Clash> {
        let required = wanted.requires.iter().copied();
        let mut expected = required.chain(wanted.writes.iter().map(|(key, expect, _)| (*key, *expect)));
        expected.find_map(|(key, expect)| {
            let actual = self.writer(key, state).and_then(|index| self.commits[index].revision);
            let as_expected = match expect {
                Expect::Any => true,
                Expect::Nothing => actual.is_none(),
                Expect::Exactly(revision) => actual == Some(revision),
            };
            (!as_expected).then_some(Clash::Record(key, expect, actual))
        })
    }

    /// What came that a condition excludes.
    fn excluded(&self, wanted: &Wanted, state: usize) -> Option<Clash> {
        wanted.unless.iter().find_map(|(tag, after)| {
            let last = self.tags.get(tag).and_then(|changes| at(changes, state)).unwrap_or(0);
            (last > *after).then_some(Clash::Condition(*after, last))
        })
    }
}

/// What holds in a state.
fn at<T: Copy>(changes: &[(usize, T)], state: usize) -> Option<T> {
    let behind = changes.partition_point(|(from, _)| *from <= state);
    behind.checked_sub(1).map(|index| changes[index].1)
}
