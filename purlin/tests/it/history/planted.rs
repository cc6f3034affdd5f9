//! Right histories with something wrong planted into them: each is found, and called by its name.

use std::collections::HashMap;

use purlin::testing::Dice;
use purlin::testing::history::{
    Anomaly, Answer, Ask, Clash, Done, Entry, Event, Expect, History, Left, Wanted, When, Workload,
};

use super::undisturbed;

/// What is planted: its name, how, and whether an anomaly is it.
type Planted = (&'static str, fn(&mut History, &mut Dice) -> Option<()>, fn(&Anomaly) -> bool);

const ALL: &[Planted] = &[
    ("a lost commit", lose, |found| matches!(found, Anomaly::Lost(_))),
    ("a lost write", overwrite, |found| matches!(found, Anomaly::Remains(_))),
    ("a doubled commit", double, |found| matches!(found, Anomaly::Doubled(..))),
    ("a torn commit", tear, |found| matches!(found, Anomaly::Torn(_))),
    ("a gap", gap, |found| matches!(found, Anomaly::Gap(..))),
    ("a version left out", skip_version, |found| matches!(found, Anomaly::VersionGap(..))),
    ("an event of nobody", foreign, |found| matches!(found, Anomaly::Foreign(_))),
    ("a time that goes back", turn_back, |found| matches!(found, Anomaly::Time(_))),
    ("two commits in each other's place", swap, |found| matches!(found, Anomaly::Misplaced(..))),
    ("a commit behind a later one", reorder, |found| matches!(found, Anomaly::Order(..))),
    ("a revision that does not grow", same_revision, |found| matches!(found, Anomaly::Revision(..))),
    ("a refused commit that is there", refuse, |found| matches!(found, Anomaly::Ghost(_))),
    ("a conflict without a reason", expect_less, |found| matches!(found, Anomaly::Conflict(..))),
    ("a commit that should have been a conflict", expect_more, |found| {
        matches!(found, Anomaly::Admitted(..))
    }),
    ("a condition that should have been met", exclude_more, |found| {
        matches!(found, Anomaly::Admitted(_, Clash::Condition(..)))
    }),
    ("a condition that something else has met", found_elsewhere, |found| {
        matches!(found, Anomaly::Conflict(_, Clash::Condition(..), _))
    }),
    ("a lost tag", lose_tag, |found| matches!(found, Anomaly::Torn(_))),
    ("an id that happened twice", same_id, |found| matches!(found, Anomaly::Twice(..))),
    ("a repetition of nothing", repeat, |found| matches!(found, Anomaly::Repetition(_))),
    ("a stale read", read_less, |found| matches!(found, Anomaly::Read(_, When::Before))),
    // What is cut off may be a part of a commit: then it never was so.
    ("a stale read of the log", read_less_of_the_log, |found| {
        matches!(found, Anomaly::Read(_, When::Before | When::Never))
    }),
    ("a stale record", read_an_old_record, |found| matches!(found, Anomaly::Read(_, When::Before))),
    ("a read of what is to come", read_more, |found| matches!(found, Anomaly::Read(_, When::Later))),
    ("a read in the wrong order", read_reordered, |found| matches!(found, Anomaly::Read(_, When::Never))),
    ("a phantom revision", read_a_phantom, |found| matches!(found, Anomaly::Read(_, When::Never))),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_is_planted_is_found() {
    let (mut planted, mut mistaken) = (HashMap::<&str, usize>::new(), Vec::new());
    for seed in 0..40 {
        let right = undisturbed(&Workload { operations: 40, ..Workload::drawn(seed) }).await;
        assert!(right.check().is_ok(), "{:?}", right.check());
        let mut dice = Dice::new(seed);
        for (name, plant, is_it) in ALL {
            for _ in 0..5 {
                let mut wrong = right.clone();
                if plant(&mut wrong, &mut dice).is_some() {
                    *planted.entry(name).or_default() += 1;
                    let found = wrong.check().map_or_else(|found| found.0, |_| Vec::new());
                    if !found.iter().any(is_it) {
                        mistaken.push(format!("{name} was taken for {found:?}"));
                    }
                }
            }
        }
    }
    assert!(mistaken.is_empty(), "{}", mistaken.join("\n"));
    for (name, ..) in ALL {
        assert!(planted.get(name).is_some_and(|count| *count >= 20), "{name}: {planted:?}");
    }
}

/// One of them.
fn pick<T>(all: Vec<T>, dice: &mut Dice) -> Option<T> {
    let n = dice.below(all.len().max(1) as u64) as usize;
    all.into_iter().nth(n)
}

fn left(history: &mut History) -> &mut Left {
    match history.0.last_mut() {
        Some(Entry::Left(left)) => left,
        other => panic!("a history ends with what was left, not with {other:?}"),
    }
}

/// A commit that was applied and answered: its number, the lines of its question and answer.
#[derive(Clone, Copy)]
struct Applied {
    by: u64,
    asked: usize,
    answered: usize,
}

fn applied(history: &History, which: impl Fn(&Wanted, &Done) -> bool) -> Vec<Applied> {
    answers(history, |ask, answer| match (ask, answer) {
        (Ask::Commit(wanted), Answer::Committed(done)) => which(wanted, done),
        _ => false,
    })
}

fn answers(history: &History, which: impl Fn(&Ask, &Answer) -> bool) -> Vec<Applied> {
    let asked: HashMap<u64, (usize, &Ask)> = history
        .0
        .iter()
        .enumerate()
        .filter_map(|(line, entry)| match entry {
            Entry::Asked(by, ask) => Some((*by, (line, ask))),
            _ => None,
        })
        .collect();
    let answered = history.0.iter().enumerate().filter_map(|(answered, entry)| match entry {
        Entry::Answered(by, answer) if which(asked[by].1, answer) => {
            Some(Applied { by: *by, asked: asked[by].0, answered })
        }
        _ => None,
    });
    answered.collect()
}

fn wanted(history: &mut History, line: usize) -> &mut Wanted {
    match &mut history.0[line] {
        Entry::Asked(_, Ask::Commit(wanted)) => wanted,
        other => panic!("{other:?} asks for no commit"),
    }
}

fn answer(history: &mut History, line: usize) -> &mut Answer {
    match &mut history.0[line] {
        Entry::Answered(_, answer) => answer,
        other => panic!("{other:?} is no answer"),
    }
}

fn appends(history: &History, dice: &mut Dice) -> Option<Applied> {
    pick(applied(history, |wanted, _| !wanted.appends.is_empty()), dice)
}

/// Gives the events the positions and versions of their order.
fn renumber(log: &mut [Event]) {
    let mut versions = HashMap::<u32, u64>::new();
    for (event, position) in log.iter_mut().zip(1..) {
        let version = versions.entry(event.stream).or_default();
        *version += 1;
        (event.position, event.version) = (position, *version);
    }
}

fn lose(history: &mut History, dice: &mut Dice) -> Option<()> {
    let one = appends(history, dice)?;
    let left = left(history);
    left.log.retain(|event| event.by != one.by);
    left.marks.retain(|mark| mark.by != one.by);
    renumber(&mut left.log);
    Some(())
}

/// Whether a record is there after a commit because the commit put it.
fn puts(wanted: &Wanted, record: u32) -> bool {
    wanted.writes.iter().rfind(|(key, ..)| *key == record).is_some_and(|(_, _, put)| *put)
}

/// The record is at the end what it was before.
fn overwrite(history: &mut History, dice: &mut Dice) -> Option<()> {
    let there = left(history).records.clone();
    let row = pick(there, dice)?;
    let writes = |wanted: &Wanted, done: &Done| done.revision < row.revision && puts(wanted, row.key);
    let earlier = pick(applied(history, writes), dice)?;
    let Answer::Committed(done) = answer(history, earlier.answered).clone() else { return None };
    let row = left(history).records.iter_mut().find(|other| other.key == row.key)?;
    (row.by, row.revision, row.position) = (earlier.by, done.revision, done.position);
    Some(())
}

fn double(history: &mut History, dice: &mut Dice) -> Option<()> {
    let one = appends(history, dice)?;
    let left = left(history);
    let at = left.log.last()?.at;
    let again: Vec<Event> = left.log.iter().filter(|event| event.by == one.by).cloned().collect();
    left.log.extend(again.into_iter().map(|event| Event { at, ..event }));
    renumber(&mut left.log);
    Some(())
}

fn tear(history: &mut History, dice: &mut Dice) -> Option<()> {
    let one = pick(applied(history, |wanted, _| wanted.events() > 1), dice)?;
    let log = &mut left(history).log;
    let last = log.iter().rposition(|event| event.by == one.by)?;
    log.remove(last);
    renumber(log);
    Some(())
}

fn gap(history: &mut History, dice: &mut Dice) -> Option<()> {
    let log = &mut left(history).log;
    let last = log.len().checked_sub(2)?;
    log.remove(dice.below(last as u64 + 1) as usize);
    Some(())
}

fn skip_version(history: &mut History, dice: &mut Dice) -> Option<()> {
    let log = &mut left(history).log;
    let n = dice.below(log.len().max(1) as u64) as usize;
    log.get_mut(n)?.version += 1;
    Some(())
}

fn foreign(history: &mut History, dice: &mut Dice) -> Option<()> {
    let log = &mut left(history).log;
    let event = pick(log.clone(), dice)?;
    let at = log.last()?.at;
    log.push(Event { by: 0, at, ..event });
    renumber(log);
    Some(())
}

fn turn_back(history: &mut History, dice: &mut Dice) -> Option<()> {
    let log = &mut left(history).log;
    let n = 1 + dice.below(log.len().saturating_sub(1).max(1) as u64) as usize;
    let before = log.get(n - 1)?.at;
    log.get_mut(n)?.at = before - 1;
    Some(())
}

/// Two neighbours of different streams change places in the log; their answers are as they were.
fn swap(history: &mut History, dice: &mut Dice) -> Option<()> {
    let single = applied(history, |wanted, _| wanted.events() == 1 && !wanted.is_marked())
        .into_iter()
        .map(|one| one.by);
    let single: Vec<u64> = single.collect();
    let log = &mut left(history).log;
    let both = |pair: &[Event]| {
        single.contains(&pair[0].by) && single.contains(&pair[1].by) && pair[0].stream != pair[1].stream
    };
    let places: Vec<usize> =
        log.windows(2).enumerate().filter(|(_, pair)| both(pair)).map(|(n, _)| n).collect();
    let n = pick(places, dice)?;
    let (first, second) = (log[n].at, log[n + 1].at);
    log.swap(n, n + 1);
    (log[n].at, log[n + 1].at) = (first, second);
    renumber(log);
    Some(())
}

/// A commit was over before one began that is before it in the log.
fn reorder(history: &mut History, dice: &mut Dice) -> Option<()> {
    let all = applied(history, |wanted, _| !wanted.appends.is_empty());
    let first = pick(all.clone(), dice)?;
    let second = pick(all.into_iter().filter(|one| one.asked > first.answered).collect(), dice)?;
    let lines = [history.0[second.asked].clone(), history.0[second.answered].clone()];
    history.0.remove(second.answered);
    history.0.remove(second.asked);
    history.0.splice(first.asked..first.asked, lines);
    Some(())
}

fn same_revision(history: &mut History, dice: &mut Dice) -> Option<()> {
    let only_appends = applied(history, |wanted, _| !wanted.is_marked());
    let one = pick(only_appends, dice)?;
    let Answer::Committed(mine) = answer(history, one.answered).clone() else { return None };
    let earlier = applied(history, |_, done| done.revision < mine.revision);
    let earlier = pick(earlier, dice)?;
    let Answer::Committed(theirs) = answer(history, earlier.answered).clone() else { return None };
    *answer(history, one.answered) = Answer::Committed(Done { revision: theirs.revision, ..mine });
    Some(())
}

fn refuse(history: &mut History, dice: &mut Dice) -> Option<()> {
    let one = appends(history, dice)?;
    *answer(history, one.answered) = Answer::Refused("away".into());
    Some(())
}

fn expect_less(history: &mut History, dice: &mut Dice) -> Option<()> {
    let one = pick(answers(history, |_, answer| matches!(answer, Answer::Conflict(_))), dice)?;
    let wanted = wanted(history, one.asked);
    let appends = wanted.appends.iter_mut().map(|(_, expect, _)| expect);
    let records = wanted.requires.iter_mut().map(|(_, expect)| expect);
    let writes = wanted.writes.iter_mut().map(|(_, expect, _)| expect);
    appends.chain(records).chain(writes).for_each(|expect| *expect = Expect::Any);
    wanted.unless.clear();
    Some(())
}

fn expect_more(history: &mut History, dice: &mut Dice) -> Option<()> {
    let one = pick(applied(history, |_, _| true), dice)?;
    let wanted = wanted(history, one.asked);
    let appends = wanted.appends.iter_mut().map(|(_, expect, _)| expect);
    let records = wanted.requires.iter_mut().map(|(_, expect)| expect);
    let writes = wanted.writes.iter_mut().map(|(_, expect, _)| expect);
    *pick(appends.chain(records).chain(writes).collect(), dice)? = Expect::Exactly(1_000_000);
    Some(())
}

fn exclude_more(history: &mut History, dice: &mut Dice) -> Option<()> {
    let (tag, first) = left(history).log.iter().find_map(|event| Some((event.tag?, event.position)))?;
    let behind = |wanted: &Wanted, done: &Done| done.position >= first + u64::from(wanted.events());
    let one = pick(applied(history, behind), dice)?;
    wanted(history, one.asked).unless.push((tag, 0));
    Some(())
}

fn found_elsewhere(history: &mut History, dice: &mut Dice) -> Option<()> {
    let excluded = |_: &Ask, answer: &Answer| matches!(answer, Answer::Conflict(Clash::Condition(..)));
    let one = pick(answers(history, excluded), dice)?;
    let Answer::Conflict(Clash::Condition(_, found)) = answer(history, one.answered) else { return None };
    *found += 1;
    // Who was at work beside it may have met it there, too: then it is no mistake.
    let found = *found;
    let met = left(history).log.iter().any(|event| event.position == found && event.tag.is_some());
    (!met).then_some(())
}

fn lose_tag(history: &mut History, dice: &mut Dice) -> Option<()> {
    let tagged = applied(history, |wanted, _| wanted.tag.is_some() && wanted.events() > 0);
    let one = pick(tagged, dice)?;
    let event = left(history).log.iter_mut().find(|event| event.by == one.by)?;
    event.tag = None;
    Some(())
}

fn same_id(history: &mut History, dice: &mut Dice) -> Option<()> {
    let marked = applied(history, |wanted, _| wanted.is_marked());
    let (one, other) = (pick(marked.clone(), dice)?, pick(marked, dice)?);
    if one.by == other.by {
        return None;
    }
    for line in [one.asked, other.asked] {
        wanted(history, line).id = Some(u64::MAX);
    }
    Some(())
}

fn repeat(history: &mut History, dice: &mut Dice) -> Option<()> {
    let one = pick(answers(history, |_, answer| matches!(answer, Answer::Repeated { .. })), dice)?;
    let Answer::Repeated { revision, .. } = answer(history, one.answered) else { return None };
    *revision += 1;
    Some(())
}

/// Who wrote it was told so before this was asked.
fn told_before(history: &History, by: u64, line: usize) -> bool {
    applied(history, |_, _| true).iter().any(|one| one.by == by && one.answered < line)
}

fn read_less(history: &mut History, dice: &mut Dice) -> Option<()> {
    let all = |ask: &Ask, answer: &Answer| match (ask, answer) {
        (Ask::Stream { .. }, Answer::Stream(events)) => !events.is_empty(),
        _ => false,
    };
    let one = pick(answers(history, all), dice)?;
    let Answer::Stream(events) = answer(history, one.answered).clone() else { return None };
    let last = events.last()?.by;
    let shorter: Vec<Event> = events.into_iter().filter(|event| event.by != last).collect();
    *answer(history, one.answered) = Answer::Stream(shorter);
    told_before(history, last, one.asked).then_some(())
}

fn read_less_of_the_log(history: &mut History, dice: &mut Dice) -> Option<()> {
    let all = |ask: &Ask, answer: &Answer| match (ask, answer) {
        (Ask::Log { limit, .. }, Answer::Log { events, .. }) => !events.is_empty() && events.len() < *limit,
        _ => false,
    };
    let one = pick(answers(history, all), dice)?;
    let Answer::Log { mut events, .. } = answer(history, one.answered).clone() else { return None };
    let last = events.last()?.by;
    let first = events.iter().position(|event| event.by == last)?;
    let through = events[first].position - 1;
    events.truncate(first);
    *answer(history, one.answered) = Answer::Log { events, through };
    told_before(history, last, one.asked).then_some(())
}

fn read_an_old_record(history: &mut History, dice: &mut Dice) -> Option<()> {
    let all = |_: &Ask, answer: &Answer| matches!(answer, Answer::Record(Some(_)));
    let one = pick(answers(history, all), dice)?;
    let Answer::Record(Some(row)) = answer(history, one.answered).clone() else { return None };
    let writes = |wanted: &Wanted, done: &Done| done.revision < row.revision && puts(wanted, row.key);
    // The last of those that were before it.
    let earlier = applied(history, writes).into_iter().next_back()?;
    let Answer::Committed(done) = answer(history, earlier.answered).clone() else { return None };
    let old = purlin::testing::history::Row {
        by: earlier.by,
        revision: done.revision,
        position: done.position,
        ..row.clone()
    };
    *answer(history, one.answered) = Answer::Record(Some(old));
    told_before(history, row.by, one.asked).then_some(())
}

fn read_more(history: &mut History, dice: &mut Dice) -> Option<()> {
    let all = |ask: &Ask, answer: &Answer| match (ask, answer) {
        (Ask::Stream { limit, .. }, Answer::Stream(events)) => {
            events.len() + 3 < *limit && !events.is_empty()
        }
        _ => false,
    };
    let one = pick(answers(history, all), dice)?;
    let Answer::Stream(mut events) = answer(history, one.answered).clone() else { return None };
    let last = events.last()?.clone();
    let log = left(history).log.clone();
    let mut later =
        log.into_iter().filter(|event| event.stream == last.stream && event.position > last.position);
    let next = later.next()?;
    events.push(next.clone());
    // The whole commit, so that it was once so.
    events.extend(later.take_while(|event| event.by == next.by));
    let Entry::Asked(_, Ask::Stream { limit, .. }) = &history.0[one.asked] else { return None };
    let fits = events.len() <= *limit;
    *answer(history, one.answered) = Answer::Stream(events);
    let asked_later =
        applied(history, |_, _| true).iter().any(|other| other.by == next.by && other.asked > one.answered);
    (fits && asked_later).then_some(())
}

fn read_reordered(history: &mut History, dice: &mut Dice) -> Option<()> {
    let all = |_: &Ask, answer: &Answer| match answer {
        Answer::Stream(events) | Answer::Log { events, .. } => events.len() > 1,
        _ => false,
    };
    let one = pick(answers(history, all), dice)?;
    let (Answer::Stream(events) | Answer::Log { events, .. }) = answer(history, one.answered) else {
        return None;
    };
    let n = dice.below(events.len() as u64 - 1) as usize;
    events.swap(n, n + 1);
    Some(())
}

fn read_a_phantom(history: &mut History, dice: &mut Dice) -> Option<()> {
    let all = |_: &Ask, answer: &Answer| matches!(answer, Answer::Record(Some(_)));
    let one = pick(answers(history, all), dice)?;
    let Answer::Record(Some(row)) = answer(history, one.answered) else { return None };
    row.revision += 1_000_000_000;
    Some(())
}
