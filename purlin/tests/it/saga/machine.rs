//! The machine alone: no clock, no store, no function, only what was asked for and what was journalled.

use purlin::message::{FaultKind, Timestamp};
use purlin::saga::machine::{Ask, Function, Machine, Mismatch, NameTaken, Next, Start};
use purlin::saga::{Entry, Failure, Outcome, Payload, SagaError};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn ask(machine: &mut Machine, step: &str) {
    machine.ask(step, Ask { undoable: true, signal: None }).unwrap();
}

fn done(step: &str) -> Entry {
    Entry::Done { step: step.into(), attempts: 1, started_at: NOW, output: output(step) }
}

fn output(step: &str) -> Payload {
    Payload::of(&step).unwrap()
}

fn failure() -> Failure {
    Failure::new(FaultKind::Conflict, "no", "no")
}

fn failed(step: &str) -> Entry {
    Entry::Failed { step: step.into(), attempts: 1, started_at: NOW, error: failure() }
}

fn delivered(step: &str) -> Next {
    Next::Deliver { step: step.into(), outcome: Ok(output(step)) }
}

fn start(step: &str) -> Start {
    Start { step: step.into(), attempts: 0, not_before: None }
}

#[test]
fn outcomes_are_delivered_in_the_journals_order_and_a_step_without_one_starts_only_after_them() {
    let mut machine = Machine::default();
    for entry in [done("b"), done("a")] {
        machine.feed(entry);
    }
    for step in ["a", "b", "c"] {
        ask(&mut machine, step);
    }
    assert_eq!(machine.next(Function::Waits), delivered("b"));
    assert_eq!(machine.next(Function::Waits), delivered("a"));
    assert_eq!(machine.next(Function::Waits), Next::Run(vec![start("c")]));
    machine.started("c");
    assert_eq!(machine.next(Function::Waits), Next::Wait);
}

#[test]
fn a_signal_that_came_in_the_moment_in_which_the_wait_ended_is_the_waits_outcome() {
    let mut machine = Machine::default();
    machine.ask("wait", Ask { undoable: false, signal: Some("s".into()) }).unwrap();
    machine.started("wait");
    machine.feed(Entry::Signalled { name: "s".into(), data: output("wait") });
    machine.feed(failed("wait"));
    assert_eq!(machine.next(Function::Waits), delivered("wait"));
    assert_eq!(machine.next(Function::Waits), Next::Wait, "and it has no second one");
}

#[test]
fn a_step_that_the_function_does_not_ask_for_is_a_mismatch_until_it_does() {
    let mut machine = Machine::default();
    machine.feed(done("a"));
    let blocked = Next::Blocked(Mismatch::NotAsked("a".into()));
    assert_eq!(machine.next(Function::Waits), blocked);
    ask(&mut machine, "a");
    assert_eq!(machine.next(Function::Waits), delivered("a"));
}

#[test]
fn a_function_that_returns_before_its_journal_ends_is_a_mismatch() {
    let mut machine = Machine::default();
    machine.feed(done("a"));
    let outcome = Outcome::Completed(Payload::null());
    assert_eq!(machine.next(Function::Returned(&outcome)), Next::Blocked(Mismatch::NotAsked("a".into())));
}

#[test]
fn a_failed_saga_is_undone_from_its_last_step_and_known_outputs_are_handed_over() {
    let mut machine = Machine::default();
    for (step, entry) in [("a", done("a")), ("b", failed("b"))] {
        ask(&mut machine, step);
        machine.feed(entry);
        assert!(matches!(machine.next(Function::Waits), Next::Deliver { .. }));
    }
    let outcome = Outcome::Failed(SagaError::Step { step: "b".into(), cause: failure() });
    let Next::Close(close) = machine.next(Function::Returned(&outcome)) else { panic!("it is to be undone") };
    let undo = vec!["b".to_owned(), "a".to_owned()];
    assert_eq!(close, Entry::Compensating { outcome: outcome.clone(), undo });
    machine.feed(close);
    for (step, output) in [("b", None), ("a", Some(output("a")))] {
        let compensate = Next::Compensate { step: step.into(), output, attempts: 0, not_before: None };
        assert_eq!(machine.next(Function::Gone), compensate);
        machine.feed(Entry::Undone { step: step.into(), attempts: 1 });
    }
    assert_eq!(machine.next(Function::Gone), Next::End(outcome));
}

#[test]
fn no_step_starts_once_a_saga_is_closing() {
    let mut machine = Machine::default();
    ask(&mut machine, "a");
    machine.feed(machine.close(SagaError::Deadline.into()));
    assert!(machine.is_closing());
    let undo = Next::Compensate { step: "a".into(), output: None, attempts: 0, not_before: None };
    assert_eq!(machine.next(Function::Gone), undo);
}

#[test]
fn a_dropped_step_is_abandoned_unless_its_outcome_came_first() {
    let mut machine = Machine::default();
    for step in ["a", "b"] {
        ask(&mut machine, step);
        machine.dropped(step);
    }
    machine.feed(done("b"));
    assert_eq!(machine.next(Function::Waits), Next::Abandon(vec!["a".into()]));
    machine.feed(Entry::Abandoned { step: "a".into() });
    assert_eq!(machine.next(Function::Waits), Next::Wait);
}

#[test]
fn a_journal_that_says_dropped_of_a_step_that_is_waited_for_is_a_mismatch() {
    let mut machine = Machine::default();
    ask(&mut machine, "a");
    machine.feed(Entry::Abandoned { step: "a".into() });
    assert_eq!(machine.next(Function::Waits), Next::Blocked(Mismatch::NotDropped("a".into())));
}

#[test]
fn a_stuck_saga_rests_until_it_is_resumed() {
    let mut machine = Machine::default();
    ask(&mut machine, "a");
    machine.feed(machine.close(SagaError::Deadline.into()));
    machine.feed(Entry::Stuck { step: "a".into(), attempts: 3, error: failure() });
    assert_eq!(machine.next(Function::Gone), Next::Stuck { step: "a".into(), error: failure() });
    machine.feed(Entry::Resumed);
    let undo = Next::Compensate { step: "a".into(), output: None, attempts: 0, not_before: None };
    assert_eq!(machine.next(Function::Gone), undo);
}

#[test]
fn a_signal_goes_to_the_one_who_waits_and_is_kept_for_the_one_who_will() {
    let mut machine = Machine::default();
    machine.feed(Entry::Signalled { name: "go".into(), data: output("early") });
    assert_eq!(machine.next(Function::Waits), Next::Wait);
    machine.ask("signal go", Ask { undoable: false, signal: Some("go".into()) }).unwrap();
    let deliver = Next::Deliver { step: "signal go".into(), outcome: Ok(output("early")) };
    assert_eq!(machine.next(Function::Waits), deliver);
}

#[test]
fn a_name_is_used_once() {
    let mut machine = Machine::default();
    ask(&mut machine, "a");
    assert_eq!(machine.ask("a", Ask::default()), Err(NameTaken("a".into())));
}

#[test]
fn attempts_are_remembered_by_the_journal() {
    let mut machine = Machine::default();
    ask(&mut machine, "a");
    let (step, error) = ("a".to_owned(), failure());
    machine.feed(Entry::Attempted { step: step.clone(), attempt: 8, started_at: NOW, error, next: NOW });
    let start = Start { step, attempts: 8, not_before: Some(NOW) };
    assert_eq!(machine.next(Function::Waits), Next::Run(vec![start]));
}

#[test]
fn an_attempt_that_is_older_than_the_journals_last_one_changes_nothing() {
    let next = |seconds| Timestamp::from_second(seconds).unwrap();
    let attempted = |attempt: u32| Entry::Attempted {
        step: "a".into(),
        attempt,
        started_at: NOW,
        error: failure(),
        next: next(attempt.into()),
    };
    let mut machine = Machine::default();
    ask(&mut machine, "a");
    for attempt in [8, 5] {
        machine.feed(attempted(attempt));
    }
    let again = Start { step: "a".into(), attempts: 8, not_before: Some(next(8)) };
    assert_eq!(machine.next(Function::Waits), Next::Run(vec![again]));

    machine.feed(machine.close(SagaError::Deadline.into()));
    for attempt in [8, 5] {
        let (step, error) = ("a".into(), failure());
        machine.feed(Entry::UndoAttempted { step, attempt, error, next: next(attempt.into()) });
    }
    let (step, not_before) = ("a".into(), Some(next(8)));
    assert_eq!(
        machine.next(Function::Gone),
        Next::Compensate { step, output: None, attempts: 8, not_before }
    );

    machine.feed(Entry::Undone { step: "a".into(), attempts: 9 });
    for attempt in [8, 5] {
        machine.feed(Entry::EndAttempted { attempt, error: failure(), next: next(attempt.into()) });
    }
    assert_eq!(machine.next(Function::Gone), Next::End(SagaError::Deadline.into()));
    assert_eq!(machine.ending(), (8, Some(next(8))));
}
