//! Which commits happened, and in which order: a store says so itself, by positions and revisions.

use std::collections::HashMap;

use super::{Anomaly, Answer, Ask, Done, Entry, Event, History, Left, Mark, Wanted, process_of};

/// An operation: on which lines it was asked for and answered.
pub(super) struct Operation<'a> {
    pub(super) number: u64,
    pub(super) ask: &'a Ask,
    pub(super) asked: usize,
    pub(super) answer: Option<&'a Answer>,
    /// On this line it was over: answered, or its process gone.
    pub(super) over: usize,
}

/// A commit that happened.
pub(super) struct Happened<'a> {
    pub(super) by: u64,
    pub(super) wanted: &'a Wanted,
    pub(super) asked: usize,
    pub(super) over: usize,
    /// The log's last position afterwards.
    pub(super) position: u64,
    /// Its revision; none is known, and needed, of one that only appends and that nobody answered.
    pub(super) revision: Option<u64>,
}

/// What is known of a history before its answers are judged.
pub(super) struct Facts<'a> {
    /// In the order in which they were asked for.
    pub(super) operations: Vec<Operation<'a>>,
    /// In the order in which they happened.
    pub(super) commits: Vec<Happened<'a>>,
    pub(super) left: &'a Left,
    /// How many lines the history has.
    pub(super) lines: usize,
}

impl<'a> Facts<'a> {
    /// Finds out what happened; what contradicts itself is told, and then nothing else can be.
    pub(super) fn of(history: &'a History) -> Result<Self, Vec<Anomaly>> {
        let (operations, left) = read(history).map_err(|why| vec![Anomaly::Unfinished(why)])?;
        let mut anomalies = check_log(&left.log);
        let mut places = places(&operations, left, &mut anomalies);
        let mut commits = Vec::new();
        for operation in &operations {
            let Ask::Commit(wanted) = operation.ask else { continue };
            let place = places.remove(&operation.number);
            match judge(operation, wanted, place) {
                Ok(happened) => commits.extend(happened),
                Err(anomaly) => anomalies.push(anomaly),
            }
        }
        // The commit that appended an event comes before those that found it as the last one.
        commits.sort_by_key(|commit| (commit.position, commit.wanted.appends.is_empty(), commit.revision));
        let facts = Self { operations, commits, left, lines: history.0.len() };
        anomalies.extend(facts.check_order());
        if anomalies.is_empty() { Ok(facts) } else { Err(anomalies) }
    }

    /// Whether revisions grow, and nothing that was over before something began is behind it.
    fn check_order(&self) -> Vec<Anomaly> {
        let mut anomalies = Vec::new();
        let (mut known, mut last): (Option<(u64, u64)>, Option<&Happened<'_>>) = (None, None);
        for commit in &self.commits {
            if let Some(revision) = commit.revision {
                if let Some((before, by)) = known
                    && before >= revision
                {
                    anomalies.push(Anomaly::Revision(by, commit.by));
                }
                known = Some((revision, commit.by));
            }
            if let Some(before) = last
                && before.asked > commit.over
            {
                anomalies.push(Anomaly::Order(before.by, commit.by));
            }
            if last.is_none_or(|before| before.asked < commit.asked) {
                last = Some(commit);
            }
        }
        anomalies
    }
}

/// The operations, and what was left.
fn read(history: &History) -> Result<(Vec<Operation<'_>>, &Left), String> {
    let mut operations: Vec<Operation<'_>> = Vec::new();
    let (mut numbers, mut left) = (HashMap::new(), None);
    for (line, entry) in history.0.iter().enumerate() {
        match entry {
            Entry::Asked(number, ask) => {
                if numbers.insert(*number, operations.len()).is_some() {
                    return Err(format!("two operations have the number {number}"));
                }
                let (number, over) = (*number, usize::MAX);
                operations.push(Operation { number, ask, asked: line, answer: None, over });
            }
            Entry::Answered(number, answer) => {
                let asked = numbers.get(number).map(|index| &mut operations[*index]);
                let Some(asked) = asked.filter(|operation| operation.over == usize::MAX) else {
                    return Err(format!("operation {number} was answered and not asked for"));
                };
                (asked.answer, asked.over) = (Some(answer), line);
            }
            Entry::Gone(process) => {
                let open = operations.iter_mut().filter(|operation| operation.over == usize::MAX);
                open.filter(|operation| process_of(operation.number) == *process)
                    .for_each(|operation| operation.over = line);
            }
            Entry::Left(what) => left = Some(what),
        }
    }
    Ok((operations, left.ok_or("it does not tell what was left")?))
}

/// Whether positions, versions and times are as they must be.
fn check_log(log: &[Event]) -> Vec<Anomaly> {
    let (mut anomalies, mut versions, mut at) = (Vec::new(), HashMap::<u32, u64>::new(), i64::MIN);
    for (event, due) in log.iter().zip(1..) {
        if event.position != due {
            anomalies.push(Anomaly::Gap(due, event.position));
            return anomalies;
        }
        let version = versions.entry(event.stream).or_default();
        if event.version != *version + 1 {
            anomalies.push(Anomaly::VersionGap(event.stream, *version + 1, event.version, due));
        }
        *version = event.version;
        if event.at < at {
            anomalies.push(Anomaly::Time(due));
        }
        at = event.at;
    }
    anomalies
}

/// Where a commit is.
#[derive(Default)]
struct Place<'a> {
    events: Vec<&'a Event>,
    mark: Option<&'a Mark>,
}

/// Where each operation's commit is; what is nobody's is an anomaly.
fn places<'a>(
    operations: &[Operation<'_>],
    left: &'a Left,
    anomalies: &mut Vec<Anomaly>,
) -> HashMap<u64, Place<'a>> {
    let commits = operations.iter().filter(|operation| matches!(operation.ask, Ask::Commit(_)));
    let mut places: HashMap<u64, Place<'a>> =
        commits.map(|operation| (operation.number, Place::default())).collect();
    for event in &left.log {
        match places.get_mut(&event.by) {
            Some(place) if place.events.iter().any(|before| before.nth == event.nth) => {
                anomalies.push(Anomaly::Doubled(event.by, event.position));
            }
            Some(place) => place.events.push(event),
            None => anomalies.push(Anomaly::Foreign(event.position)),
        }
    }
    for mark in &left.marks {
        match places.get_mut(&mark.by) {
            Some(place) => place.mark = Some(mark),
            None => anomalies.push(Anomaly::Foreign(mark.position)),
        }
    }
    places
}

/// The commit of an operation, if it happened, as its answer said.
fn judge<'a>(
    operation: &Operation<'a>,
    wanted: &'a Wanted,
    place: Option<Place<'_>>,
) -> Result<Option<Happened<'a>>, Anomaly> {
    let by = operation.number;
    let place = place.unwrap_or_default();
    let done = match operation.answer {
        Some(Answer::Committed(done)) => Some(done),
        _ => None,
    };
    if place.events.is_empty() && place.mark.is_none() {
        return if done.is_some() { Err(Anomaly::Lost(by)) } else { Ok(None) };
    }
    if operation.answer.is_some() && done.is_none() {
        return Err(Anomaly::Ghost(by));
    }
    if place.mark.is_some() != wanted.is_marked() {
        return Err(Anomaly::Torn(by));
    }
    let position = match (place.mark, wanted.events()) {
        (Some(mark), 0) => mark.position,
        _ => whole(wanted, &place.events).ok_or(Anomaly::Torn(by))?,
    };
    if place.mark.is_some_and(|mark| mark.position != position) {
        return Err(Anomaly::Torn(by));
    }
    if let Some(done) = done {
        let as_said = position == done.position
            && place.mark.is_none_or(|mark| mark.revision == done.revision)
            && place.events.iter().all(|event| event.at == done.at)
            && ends(wanted, &place.events) == done.appended;
        if !as_said {
            return Err(Anomaly::Misplaced(by, said(done)));
        }
    }
    let revision = done.map(|done| done.revision).or(place.mark.map(|mark| mark.revision));
    let (asked, over) = (operation.asked, operation.over);
    Ok(Some(Happened { by, wanted, asked, over, position, revision }))
}

/// The last position of a commit whose events are all there, one behind the other, at one time.
fn whole(wanted: &Wanted, events: &[&Event]) -> Option<u64> {
    let first = events.first()?;
    let streams = wanted.appends.iter().flat_map(|(stream, _, count)| (0..*count).map(move |_| *stream));
    let as_wanted = events.iter().zip(streams).zip(0..).all(|((event, stream), nth)| {
        let place = first.position + u64::from(nth);
        let is_there = event.stream == stream && event.nth == nth && event.position == place;
        is_there && event.at == first.at && event.tag == wanted.tag
    });
    (as_wanted && events.len() as u32 == wanted.events()).then(|| first.position + events.len() as u64 - 1)
}

/// The first position and the last version of each append.
fn ends(wanted: &Wanted, events: &[&Event]) -> Vec<(u64, u64)> {
    let mut rest = events;
    let end = |(_, _, count): &(u32, _, u32)| {
        let (own, others) = rest.split_at(*count as usize);
        rest = others;
        (own.first().map_or(0, |event| event.position), own.last().map_or(0, |event| event.version))
    };
    wanted.appends.iter().map(end).collect()
}

fn said(done: &Done) -> String {
    format!("position {}, revision {}, appends {:?}", done.position, done.revision, done.appended)
}
