//! Histories of a few lines, judged one by one.

use purlin::testing::history::{
    Anomaly, Answer, Ask, Clash, Done, Entry, Event, Expect, History, Left, Wanted, When, operation,
};

const AT: i64 = 1;

fn append(n: u32, expect: Expect) -> Entry {
    Entry::Asked(by(n), Ask::Commit(Wanted { appends: vec![(1, expect, 1)], ..Wanted::default() }))
}

fn appended(n: u32, position: u64) -> Entry {
    let appended = vec![(position, position)];
    Entry::Answered(by(n), Answer::Committed(Done { position, revision: position, at: AT, appended }))
}

fn read(n: u32) -> Entry {
    Entry::Asked(by(n), Ask::Stream { stream: 1, from: 1, limit: 10 })
}

fn saw(n: u32, writers: &[u32]) -> Entry {
    Entry::Answered(by(n), Answer::Stream(log(writers)))
}

/// The events of one stream, one of each of these operations.
fn log(writers: &[u32]) -> Vec<Event> {
    let event = |(n, position): (&u32, u64)| Event {
        position,
        stream: 1,
        version: position,
        at: AT,
        by: by(*n),
        nth: 0,
        tag: None,
    };
    writers.iter().zip(1..).map(event).collect()
}

fn left(writers: &[u32]) -> Entry {
    Entry::Left(Left { log: log(writers), ..Left::default() })
}

fn by(n: u32) -> u64 {
    operation(1, n)
}

fn anomalies(entries: Vec<Entry>) -> Vec<Anomaly> {
    History(entries).check().map(|_| Vec::new()).unwrap_or_else(|anomalies| anomalies.0)
}

#[test]
fn what_nobody_was_told_of_happened_or_did_not() {
    let asked = || vec![append(1, Expect::Any), read(2)];
    let with = |more: Vec<Entry>| anomalies([asked(), more].concat());
    assert_eq!(with(vec![saw(2, &[]), left(&[])]), []);
    assert_eq!(with(vec![saw(2, &[]), left(&[1])]), []);
    assert_eq!(with(vec![saw(2, &[1]), left(&[1])]), []);
    assert_eq!(with(vec![saw(2, &[1]), left(&[])]), [Anomaly::Read(by(2), When::Never)]);
}

#[test]
fn what_one_has_seen_the_next_sees_too() {
    let two = |first: &[u32], second: &[u32]| {
        let open = append(1, Expect::Any);
        anomalies(vec![open, read(2), saw(2, first), read(3), saw(3, second), appended(1, 1), left(&[1])])
    };
    assert_eq!(two(&[], &[1]), []);
    assert_eq!(two(&[1], &[1]), []);
    assert_eq!(two(&[1], &[]), [Anomaly::Read(by(3), When::Before)]);
}

#[test]
fn of_two_who_ask_at_once_either_may_be_first() {
    let both = |first: u32, second: u32| {
        let asked = [append(1, Expect::Any), append(2, Expect::Any)];
        let answered = [appended(first, 1), appended(second, 2), left(&[first, second])];
        anomalies([asked.to_vec(), answered.to_vec()].concat())
    };
    assert_eq!(both(1, 2), []);
    assert_eq!(both(2, 1), []);
    let one_by_one =
        vec![append(1, Expect::Any), appended(1, 2), append(2, Expect::Any), appended(2, 1), left(&[2, 1])];
    assert_eq!(anomalies(one_by_one), [Anomaly::Order(by(2), by(1))]);
}

#[test]
fn what_a_dead_process_asked_does_not_happen_later() {
    let after = |gone: bool| {
        let gone = if gone { vec![Entry::Gone(1)] } else { Vec::new() };
        let asked = vec![append(1, Expect::Any)];
        let other = operation(2, 1);
        let read = vec![
            Entry::Asked(other, Ask::Stream { stream: 1, from: 1, limit: 10 }),
            Entry::Answered(other, Answer::Stream(Vec::new())),
            left(&[1]),
        ];
        anomalies([asked, gone, read].concat())
    };
    assert_eq!(after(false), []);
    assert_eq!(after(true), [Anomaly::Read(operation(2, 1), When::Before)]);
}

#[test]
fn a_conflict_has_a_reason() {
    let refused = |actual: u64| {
        let clash = Clash::Stream(1, Expect::Nothing, actual);
        let second =
            vec![append(2, Expect::Nothing), Entry::Answered(by(2), Answer::Conflict(clash)), left(&[1])];
        anomalies([vec![append(1, Expect::Any), appended(1, 1)], second].concat())
    };
    assert_eq!(refused(1), []);
    let clash = |actual| Clash::Stream(1, Expect::Nothing, actual);
    assert_eq!(refused(2), [Anomaly::Conflict(by(2), clash(2), When::Never)]);
    let early = vec![
        append(2, Expect::Nothing),
        Entry::Answered(by(2), Answer::Conflict(clash(1))),
        append(1, Expect::Any),
        appended(1, 1),
        left(&[1]),
    ];
    assert_eq!(anomalies(early), [Anomaly::Conflict(by(2), clash(1), When::Later)]);
}

#[test]
fn an_anomaly_is_said_in_words() {
    let lost = History(vec![append(1, Expect::Any), appended(1, 1), left(&[])]);
    let said = lost.check().unwrap_err().to_string();
    assert_eq!(said, "operation 1 of process 1 was answered as applied, and is not there");
    let open = History(vec![append(1, Expect::Any)]).check().unwrap_err().to_string();
    assert_eq!(open, "the history is not whole: it does not tell what was left");
}

#[test]
fn a_history_is_read_back_as_it_was_written() {
    let file = std::env::temp_dir().join(format!("purlin-history-{}.jsonl", purlin::message::new_id()));
    let history = History(vec![append(1, Expect::Exactly(3)), read(2), saw(2, &[1]), left(&[1])]);
    history.write(&file).unwrap();
    assert_eq!(History::read(&file).unwrap(), history);
    std::fs::write(&file, "{\"gone\":1}\nnonsense\n").unwrap();
    let refused = History::read(&file).unwrap_err().to_string();
    assert_eq!(refused, "line 2 is not an entry of a history");
    std::fs::remove_file(file).unwrap();
}

#[test]
fn an_entry_that_a_process_was_killed_over_is_left_out() {
    let file = std::env::temp_dir().join(format!("purlin-history-{}.jsonl", purlin::message::new_id()));
    let (asked, answered) = (append(1, Expect::Any).line(), saw(1, &[1]).line());
    for (whole, cut) in [(asked, &answered), (left(&[]).line(), &answered)] {
        for length in 1..cut.len() - 1 {
            let text = format!("{whole}{}{}{}", &cut[..length], Entry::Gone(1).line(), &cut[..length]);
            std::fs::write(&file, text).unwrap();
            let read = History::read(&file).unwrap().0;
            assert_eq!((read.len(), &read[1]), (2, &Entry::Gone(1)), "{length}");
        }
    }
    std::fs::remove_file(file).unwrap();
}
