use std::sync::Arc;

use purlin_agent::machine::{Did, End, Happening, Limits, Machine, Mismatch, Next, Reached, Step};
use purlin_agent::model::{Answer, Block, Message, Stop, ToolCall};
use purlin_agent::tool::{Definition, Outcome, Tool};
use serde_json::{Value, json};

fn definitions() -> Arc<[Definition]> {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
    let tool = |name| {
        Tool::<()>::new(name, "a tool", schema.clone(), async |n: Value, _| {
            Ok::<_, std::convert::Infallible>(n)
        })
    };
    ["one", "two"].map(|name| tool(name).unwrap().definition().clone()).into()
}

fn machine(limits: Limits) -> Machine {
    Machine::new("do it", "", definitions(), limits)
}

fn answered(answer: Answer) -> Happening {
    Happening::Answered { answer, duration_ms: 5 }
}

fn returned(position: usize, result: Value) -> Happening {
    Happening::Returned { position, outcome: Outcome::Result(result), duration_ms: 3 }
}

fn calls(names: &[&str]) -> Answer {
    Answer::calling(names.iter().map(|name| (*name, json!({"n": 1}))))
}

fn end(machine: &Machine) -> &End {
    match machine.next() {
        Next::End(end) => end,
        other => panic!("not at its end: {other:?}"),
    }
}

fn limit(machine: &Machine) -> Reached {
    match end(machine) {
        End::Limit { reached } => *reached,
        other => panic!("no limit: {other:?}"),
    }
}

fn pending(machine: &Machine) -> Vec<usize> {
    match machine.next() {
        Next::Call(pending) => pending.iter().map(|one| one.position).collect(),
        other => panic!("no calls: {other:?}"),
    }
}

#[test]
fn results_stand_in_the_order_of_the_calls_whatever_the_order_of_their_ends() {
    let mut machine = machine(Limits::default());
    machine.apply(answered(calls(&["one", "two", "one"]))).unwrap();
    assert_eq!(pending(&machine), [0, 1, 2]);
    for position in [2, 0] {
        machine.apply(returned(position, json!(position))).unwrap();
    }
    assert_eq!(pending(&machine), [1]);
    assert!(machine.steps().is_empty());
    machine.apply(returned(1, json!(1))).unwrap();
    let Some(Message::Results(results)) = machine.messages().last() else { panic!() };
    let told: Vec<_> = results.iter().map(|result| (result.call.as_str(), result.content.as_str())).collect();
    assert_eq!(told, [("call-1", "0"), ("call-2", "1"), ("call-3", "2")]);
    let results: Vec<_> =
        machine.steps().iter().map(|step| serde_json::to_value(step).unwrap()["result"].clone()).collect();
    assert_eq!(results, [0, 1, 2]);
}

#[test]
fn an_unknown_tool_and_bad_arguments_become_error_results_and_the_others_are_called() {
    let mut machine = machine(Limits::default());
    let answer =
        Answer::calling([("three", json!({})), ("one", json!({"n": "x"})), ("two", json!({"n": 2}))]);
    let refused = machine.apply(answered(answer)).unwrap();
    assert_eq!(refused.len(), 2);
    assert_eq!(pending(&machine), [2]);
    machine.apply(returned(2, json!("fine"))).unwrap();
    let Some(Message::Results(results)) = machine.messages().last() else { panic!() };
    assert_eq!(results.iter().map(|result| result.is_error).collect::<Vec<_>>(), [true, true, false]);
    let told: Value = serde_json::from_str(&results[0].content).unwrap();
    assert_eq!(told["error"]["code"], "unknown-tool");
    assert_eq!(told["error"]["hints"], json!(["one", "two"]));
    let told: Value = serde_json::from_str(&results[1].content).unwrap();
    assert_eq!(told["error"]["hints"], json!(["/n must be of type integer"]));
    assert!(matches!(machine.next(), Next::Ask { turn: 2, .. }));
}

#[test]
fn when_no_call_can_be_made_the_model_is_asked_again_at_once() {
    let mut machine = machine(Limits::default());
    machine.apply(answered(calls(&["three"]))).unwrap();
    assert!(matches!(machine.next(), Next::Ask { turn: 2, .. }));
    assert_eq!(machine.steps().len(), 1);
}

#[test]
fn the_result_is_what_was_said_after_the_last_call() {
    let mut machine = machine(Limits::default());
    let mut first = calls(&["one"]);
    first.blocks.insert(0, Block::Text("Let me look.".into()));
    machine.apply(answered(first)).unwrap();
    machine.apply(returned(0, json!(null))).unwrap();
    machine.apply(answered(Answer::text("Here it ").stopped(Stop::Pause))).unwrap();
    assert!(matches!(machine.next(), Next::Ask { turn: 3, .. }));
    machine.apply(answered(Answer::text("is."))).unwrap();
    assert_eq!(end(&machine), &End::Finished { result: "Here it is.".into(), stop: Stop::EndTurn });
    let kinds: Vec<_> = machine
        .steps()
        .iter()
        .map(|Step { turn, did, .. }| (*turn, matches!(did, Did::Tool { .. })))
        .collect();
    assert_eq!(kinds, [(1, false), (1, true), (2, false), (3, false)]);
}

#[test]
fn calls_of_the_last_turn_are_not_made() {
    let mut machine = machine(Limits { max_turns: 2, ..Limits::default() });
    machine.apply(answered(calls(&["one"]))).unwrap();
    machine.apply(returned(0, json!(1))).unwrap();
    machine.apply(answered(calls(&["one"]))).unwrap();
    assert_eq!(limit(&machine), Reached::Turns);
    assert_eq!(machine.steps().len(), 1);
}

#[test]
fn a_pause_counts_as_a_turn() {
    let mut machine = machine(Limits { max_turns: 2, ..Limits::default() });
    machine.apply(answered(Answer::text("a").stopped(Stop::Pause))).unwrap();
    machine.apply(answered(Answer::text("b").stopped(Stop::Pause))).unwrap();
    assert_eq!(limit(&machine), Reached::Turns);
}

#[test]
fn a_turn_with_more_calls_than_are_left_makes_none() {
    let mut machine = machine(Limits { max_calls: 3, ..Limits::default() });
    machine.apply(answered(calls(&["one", "two"]))).unwrap();
    machine.apply(returned(0, json!(1))).unwrap();
    machine.apply(returned(1, json!(1))).unwrap();
    machine.apply(answered(calls(&["one", "two"]))).unwrap();
    assert_eq!(limit(&machine), Reached::Calls);
}

#[test]
fn the_model_is_asked_for_no_more_than_the_run_can_pay_for() {
    let limits = Limits { max_tokens: 10_000, max_answer_tokens: 4096, ..Limits::default() };
    let mut machine = machine(limits);
    let asked = |machine: &Machine| match machine.next() {
        Next::Ask { max_tokens, .. } => max_tokens,
        other => panic!("{other:?}"),
    };
    assert_eq!(asked(&machine), 4096);
    // 4,000 are spent; the next question repeats them and adds the result of 900 bytes, which is 300 tokens at most.
    machine.apply(answered(calls(&["one"]).costing(3_500, 500))).unwrap();
    machine.apply(returned(0, json!("x".repeat(898)))).unwrap();
    assert_eq!(asked(&machine), 10_000 - 4_000 - 4_000 - 300);
    machine.apply(answered(calls(&["one"]).costing(4_300, 1_500))).unwrap();
    machine.apply(returned(0, json!(1))).unwrap();
    assert_eq!(limit(&machine), Reached::Tokens);
    assert_eq!(machine.usage().total(), 9_800);
}

#[test]
fn an_answer_cut_by_the_budget_is_a_limit_and_not_a_result() {
    let mut machine = machine(Limits { max_tokens: 1000, max_answer_tokens: 4096, ..Limits::default() });
    machine.apply(answered(Answer::text("half a").stopped(Stop::MaxTokens))).unwrap();
    assert_eq!(limit(&machine), Reached::Tokens);
}

#[test]
fn calls_in_an_answer_that_was_cut_are_never_made() {
    let mut machine = machine(Limits::default());
    machine.apply(answered(calls(&["one"]).stopped(Stop::MaxTokens))).unwrap();
    assert_eq!(end(&machine), &End::Truncated);
    let mut machine = self::machine(Limits::default());
    machine.apply(answered(calls(&["one"]).stopped(Stop::Refusal))).unwrap();
    assert_eq!(end(&machine), &End::Finished { result: String::new(), stop: Stop::Refusal });
}

#[test]
fn every_reason_to_stop_has_its_end() {
    for (stop, ends) in [
        (Stop::EndTurn, true),
        (Stop::MaxTokens, true),
        (Stop::StopSequence, true),
        (Stop::Refusal, true),
        (Stop::Other("model_context_window_exceeded".into()), true),
        (Stop::ToolUse, false),
    ] {
        let mut machine = machine(Limits::default());
        machine.apply(answered(Answer::text("so").stopped(stop.clone()))).unwrap();
        assert_eq!(end(&machine).is_success(), ends, "{stop:?}");
    }
}

#[test]
fn calls_are_made_whatever_the_reason_to_stop_says() {
    for stop in [Stop::EndTurn, Stop::Pause, Stop::StopSequence] {
        let mut machine = machine(Limits::default());
        machine.apply(answered(calls(&["one"]).stopped(stop))).unwrap();
        assert_eq!(pending(&machine), [0]);
    }
}

#[test]
fn two_calls_of_one_id_cannot_be_answered() {
    let call = || Block::Call(ToolCall { id: "a".into(), name: "one".into(), arguments: json!({}) });
    let mut machine = machine(Limits::default());
    machine.apply(answered(Answer { blocks: vec![call(), call()], ..calls(&[]) })).unwrap();
    assert!(matches!(end(&machine), End::Malformed { reason } if reason.contains("`a`")));
}

#[test]
fn time_that_is_up_keeps_what_was_done_and_names_what_was_not() {
    let mut machine = machine(Limits::default());
    machine.apply(answered(calls(&["one", "two"]))).unwrap();
    machine.apply(returned(1, json!(2))).unwrap();
    machine.apply(Happening::TimeUp).unwrap();
    assert_eq!(limit(&machine), Reached::Deadline);
    let steps: Vec<_> = machine.steps().iter().map(|step| serde_json::to_value(step).unwrap()).collect();
    assert_eq!(steps[0]["error"]["code"], "abandoned");
    assert_eq!(steps[1]["result"], 2);
}

#[test]
fn what_cannot_have_happened_is_refused_and_changes_nothing() {
    let mut machine = machine(Limits::default());
    let before = machine.clone();
    assert_eq!(machine.apply(returned(0, json!(1))), Err(Mismatch));
    assert_eq!(machine, before);
    machine.apply(answered(calls(&["one", "two"]))).unwrap();
    machine.apply(returned(0, json!(1))).unwrap();
    let before = machine.clone();
    for wrong in [returned(0, json!(2)), returned(2, json!(2)), answered(Answer::text("no"))] {
        assert_eq!(machine.apply(wrong), Err(Mismatch));
    }
    assert_eq!(machine, before);
    machine.apply(Happening::TimeUp).unwrap();
    assert_eq!(machine.apply(Happening::TimeUp), Err(Mismatch));
}

#[test]
fn a_run_read_back_from_what_happened_goes_on_where_it_was() {
    let happened = [
        answered(
            Answer::calling([("one", json!({"n": 1})), ("nine", json!(null)), ("two", json!({}))])
                .costing(90, 9),
        ),
        returned(2, json!({"b": [1, "ü"]})),
        returned(0, json!(null)),
        answered(Answer {
            blocks: vec![
                Block::Opaque(json!({"type": "thinking", "signature": "s"})),
                Block::Text("so".into()),
            ],
            ..Answer::text("").stopped(Stop::Pause)
        }),
    ];
    let (mut first, mut second) = (machine(Limits::default()), machine(Limits::default()));
    for happening in happened {
        let journal = serde_json::to_string(&happening).unwrap();
        first.apply(happening).unwrap();
        second.apply(serde_json::from_str(&journal).unwrap()).unwrap();
        assert_eq!(first, second);
    }
    assert!(matches!(second.next(), Next::Ask { turn: 3, .. }));
}
