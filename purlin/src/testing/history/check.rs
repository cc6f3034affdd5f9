//! Whether a history can be explained by operations that happened one at a time.

use std::collections::HashMap;

use super::order::{Facts, Operation};
use super::timeline::Timeline;
use super::{Anomalies, Anomaly, Answer, Ask, Clash, Event, History, When};

/// What a history without anomalies consists of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Commits that were applied.
    pub applied: usize,
    /// Of those, the ones that nobody was told of.
    pub untold: usize,
    /// Commits that were refused as conflicts.
    pub conflicts: usize,
    /// Of those, the ones that a condition refused: something with its tag had come.
    pub excluded: usize,
    /// Of the commits that were applied, those with a condition, which was met.
    pub met: usize,
    /// Commits that were answered as repetitions.
    pub repeated: usize,
    /// Commits that the store could not take, reads that it could not do, and operations that nobody answered and that
    /// did not happen.
    pub in_vain: usize,
    /// Reads that were answered.
    pub reads: usize,
}

impl std::ops::Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            applied: self.applied + other.applied,
            untold: self.untold + other.untold,
            conflicts: self.conflicts + other.conflicts,
            excluded: self.excluded + other.excluded,
            met: self.met + other.met,
            repeated: self.repeated + other.repeated,
            in_vain: self.in_vain + other.in_vain,
            reads: self.reads + other.reads,
        }
    }
}

impl History {
    /// Whether the history is linearizable: whether all its operations can be put into one order, in which each does what
    /// a store does that is asked one thing at a time, and none comes before another that was over when it began.
    ///
    /// In general that is hard to decide; here it is not, because positions and revisions tell the order of the commits.
    /// It remains to apply them in that order to a model, and to find for each other operation a state that explains
    /// its answer: the first one that is not before any which an earlier operation has seen. Whoever takes the first
    /// leaves the most to those behind, so that the answer is exact.
    pub fn check(&self) -> Result<Counts, Anomalies> {
        let facts = Facts::of(self).map_err(Anomalies)?;
        let (timeline, mut anomalies) = Timeline::of(&facts.commits);
        let log = Log::of(&facts.left.log);
        let judge = Judge { facts: &facts, timeline: &timeline, log: &log };
        anomalies.extend(judge.check_answers());
        anomalies.extend(judge.check_remains());
        if anomalies.is_empty() { Ok(judge.counts()) } else { Err(Anomalies(anomalies)) }
    }
}

/// The log, and which events of it are a stream's.
struct Log<'a> {
    events: &'a [Event],
    streams: HashMap<u32, Vec<usize>>,
}

impl<'a> Log<'a> {
    fn of(events: &'a [Event]) -> Self {
        let mut streams = HashMap::<u32, Vec<usize>>::new();
        for (index, event) in events.iter().enumerate() {
            streams.entry(event.stream).or_default().push(index);
        }
        Self { events, streams }
    }

    /// Whether these are the events between two positions, or those of them that have a tag.
    fn has(&self, events: &[Event], tag: Option<u32>, after: u64, through: u64) -> bool {
        let place = |position: u64| usize::try_from(position).unwrap_or(usize::MAX);
        let there = self.events.get(place(after)..place(through));
        let wanted = |event: &&Event| tag.is_none() || event.tag == tag;
        there.is_some_and(|there| there.iter().filter(wanted).eq(events))
    }

    /// Whether these are events of a stream from a version on.
    fn has_in(&self, stream: u32, events: &[Event], from: u64) -> bool {
        let there = self.streams.get(&stream).map_or(&[][..], Vec::as_slice);
        let there = there.iter().skip(usize::try_from(from.max(1) - 1).unwrap_or(usize::MAX));
        let mut there = there.map(|index| &self.events[*index]);
        events.iter().all(|event| there.next() == Some(event))
    }
}

struct Judge<'a> {
    facts: &'a Facts<'a>,
    timeline: &'a Timeline<'a>,
    log: &'a Log<'a>,
}

impl Judge<'_> {
    /// Goes through the lines, and finds a state for each answer.
    fn check_answers(&self) -> Vec<Anomaly> {
        let mut anomalies = Vec::new();
        let latest = self.latest();
        // What is over on a line has seen this state: whoever begins behind it sees no earlier one.
        let mut seen: Vec<usize> = vec![0; self.facts.lines];
        let mut index = HashMap::new();
        for (n, commit) in self.facts.commits.iter().enumerate() {
            index.insert(commit.by, n);
        }
        let (mut floor, mut line) = (0, 0);
        for operation in &self.facts.operations {
            while line < operation.asked {
                floor = floor.max(seen[line]);
                line += 1;
            }
            let state = match (index.get(&operation.number), operation.answer) {
                (Some(commit), _) => commit + 1,
                // They say nothing about what is stored.
                (None, Some(Answer::Refused(_) | Answer::Unread(_)) | None) => 0,
                (None, Some(answer)) => {
                    let found = self.find(operation, answer, floor, latest[operation.over]);
                    found.map_err(|anomaly| anomalies.push(anomaly)).unwrap_or(0)
                }
            };
            // Of those that are over with their process, there may be several.
            if let Some(seen) = seen.get_mut(operation.over) {
                *seen = state.max(*seen);
            }
        }
        anomalies
    }

    /// For each line, the last state that could be there: no commit is in it that was asked for later.
    fn latest(&self) -> Vec<usize> {
        let mut latest = vec![self.timeline.end(); self.facts.lines + 1];
        for (state, commit) in self.facts.commits.iter().enumerate() {
            latest[commit.asked] = latest[commit.asked].min(state);
        }
        for line in (0..self.facts.lines).rev() {
            latest[line] = latest[line].min(latest[line + 1]);
        }
        latest
    }

    /// The first state between two that explains an answer.
    fn find(
        &self,
        operation: &Operation<'_>,
        answer: &Answer,
        first: usize,
        last: usize,
    ) -> Result<usize, Anomaly> {
        let explains = |state: &usize| self.explains(operation.ask, answer, *state);
        let found = if self.is_written(operation.ask, answer) { (first..=last).find(explains) } else { None };
        found.ok_or_else(|| {
            let when = match () {
                () if !self.is_written(operation.ask, answer) => When::Never,
                () if (0..first).any(|state| explains(&state)) => When::Before,
                () if (last + 1..=self.timeline.end()).any(|state| explains(&state)) => When::Later,
                () => When::Never,
            };
            let number = operation.number;
            match answer {
                Answer::Conflict(clash) => Anomaly::Conflict(number, clash.clone(), when),
                Answer::Repeated { .. } => Anomaly::Repetition(number),
                _ => Anomaly::Read(number, when),
            }
        })
    }

    /// Whether the events that were read are those of the log, whenever that was.
    fn is_written(&self, ask: &Ask, answer: &Answer) -> bool {
        match (ask, answer) {
            (Ask::Stream { stream, from, limit }, Answer::Stream(events)) => {
                events.len() <= *limit && self.log.has_in(*stream, events, *from)
            }
            (Ask::Log { after, limit, tag }, Answer::Log { events, through }) => {
                events.len() <= *limit && self.log.has(events, *tag, *after, *through)
            }
            _ => true,
        }
    }

    /// Whether this is what a store in this state answers.
    fn explains(&self, ask: &Ask, answer: &Answer, state: usize) -> bool {
        let timeline = self.timeline;
        match (ask, answer) {
            (Ask::Commit(wanted), Answer::Conflict(clash)) => {
                timeline.clash(wanted, state).as_ref() == Some(clash) && !self.is_repeated(wanted.id, state)
            }
            (Ask::Commit(wanted), Answer::Repeated { position, revision }) => {
                let first = wanted.id.and_then(|id| timeline.with_id(id));
                first.is_some_and(|(since, commit)| {
                    since <= state && (commit.position, commit.revision) == (*position, Some(*revision))
                })
            }
            (Ask::Stream { stream, from, limit }, Answer::Stream(events)) => {
                let there = (timeline.version(*stream, state) + 1).saturating_sub((*from).max(1));
                there.min(*limit as u64) == events.len() as u64
            }
            (Ask::Log { limit, .. }, Answer::Log { events, through }) => {
                // A full page may end anywhere, any other is all that there was.
                let head = timeline.head(state);
                if events.len() == *limit { *through <= head } else { *through == head }
            }
            (Ask::Record(key), Answer::Record(row)) => timeline.is(*key, row.as_ref(), state),
            (Ask::Records, Answer::Records(rows)) => timeline.are(rows, state),
            _ => false,
        }
    }

    fn is_repeated(&self, id: Option<u64>, state: usize) -> bool {
        id.and_then(|id| self.timeline.with_id(id)).is_some_and(|(since, _)| since <= state)
    }

    /// Whether the records at the end are what was last written.
    fn check_remains(&self) -> Vec<Anomaly> {
        let (rows, end) = (&self.facts.left.records, self.timeline.end());
        let there: HashMap<u32, _> = rows.iter().map(|row| (row.key, row)).collect();
        let keys = self.timeline.keys().chain(there.keys().copied());
        let wrong = keys.filter(|key| !self.timeline.is(*key, there.get(key).copied(), end));
        let mut wrong: Vec<u32> = wrong.collect();
        wrong.sort_unstable();
        wrong.dedup();
        wrong.into_iter().map(Anomaly::Remains).collect()
    }

    fn counts(&self) -> Counts {
        let commits = &self.facts.commits;
        let met = commits.iter().filter(|commit| !commit.wanted.unless.is_empty()).count();
        let mut counts = Counts { applied: commits.len(), met, ..Counts::default() };
        for operation in &self.facts.operations {
            match operation.answer {
                Some(Answer::Committed(_)) => counts.untold += 1,
                Some(Answer::Conflict(clash)) => {
                    counts.conflicts += 1;
                    counts.excluded += usize::from(matches!(clash, Clash::Condition(..)));
                }
                Some(Answer::Repeated { .. }) => counts.repeated += 1,
                Some(Answer::Refused(_) | Answer::Unread(_)) | None => counts.in_vain += 1,
                Some(_) => counts.reads += 1,
            }
        }
        // So far, those that were told.
        counts.untold = counts.applied - counts.untold;
        counts.in_vain -= counts.untold;
        counts
    }
}
