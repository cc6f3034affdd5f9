use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use purlin::message::{Fault, FaultKind};
use purlin::resilience::{Deadline, deadline};
use purlin_agent::machine::Reached;
use purlin_agent::model::{Answer, Hear, Message, Model, ModelError, Request, Scripted};
use purlin_agent::run::{Event, RunError};
use purlin_agent::tool::{At, InvalidTool};
use purlin_agent::{Agent, Limits, Tool};
use serde_json::{Value, json};
use tokio::sync::Barrier;

type Never = std::convert::Infallible;

/// A fault that a model may be told of.
#[derive(Debug, thiserror::Error)]
#[error("this is not yours to see")]
pub(crate) struct Refused;

impl Fault for Refused {
    fn kind(&self) -> FaultKind {
        FaultKind::NotFound
    }

    fn code(&self) -> &str {
        "not-yours"
    }
}

/// A fault that only the log may be told of.
#[derive(Debug, thiserror::Error)]
#[error("password of the database is hunter2")]
struct Broken;

impl Fault for Broken {
    fn kind(&self) -> FaultKind {
        FaultKind::Bug
    }
}

fn any() -> Value {
    json!({"type": "object"})
}

fn two_turns(calls: &[&str]) -> Scripted {
    Scripted::turns([Answer::calling(calls.iter().map(|name| (*name, json!({})))), Answer::text("done")])
}

fn echo(name: &str) -> Tool<()> {
    Tool::new(name, "echoes", any(), async |arguments: Value, _| Ok::<_, Never>(arguments)).unwrap()
}

fn slow(name: &str, pause: Duration) -> Tool<()> {
    let run = move |_: Value, _| async move {
        tokio::time::sleep(pause).await;
        Ok::<_, Never>("slept")
    };
    Tool::new(name, "sleeps", any(), run).unwrap()
}

/// The error code of the step of this index.
fn code(steps: &[purlin_agent::machine::Step], index: usize) -> String {
    serde_json::to_value(&steps[index]).unwrap()["error"]["code"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn calls_of_a_turn_run_at_the_same_time_and_their_steps_keep_the_order_of_the_calls() {
    // Each call only ends when all three have begun.
    let barrier = Arc::new(Barrier::new(3));
    let tool = |name: &'static str| {
        let barrier = Arc::clone(&barrier);
        let run = move |_: Value, _| {
            let barrier = Arc::clone(&barrier);
            async move {
                barrier.wait().await;
                Ok::<_, Never>(name)
            }
        };
        Tool::<()>::new(name, "waits for the others", any(), run).unwrap()
    };
    let agent = Agent::new(two_turns(&["c", "a", "b"])).tools([tool("a"), tool("b"), tool("c")]).unwrap();
    let run = agent.run("go", ()).await.unwrap();
    let results: Vec<_> =
        run.steps.iter().map(|step| serde_json::to_value(step).unwrap()["result"].clone()).collect();
    assert_eq!(results, [json!("c"), json!("a"), json!("b"), Value::Null]);
}

#[tokio::test(start_paused = true)]
async fn no_more_calls_are_at_work_than_allowed() {
    let limits = Limits { max_parallel: 2, ..Limits::default() };
    let tools = [slow("a", Duration::from_secs(1))];
    let agent = Agent::new(two_turns(&["a"; 5])).tools(tools).unwrap().limits(limits);
    let begun = tokio::time::Instant::now();
    agent.run("go", ()).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 3);
}

#[tokio::test]
async fn a_tool_acts_for_the_caller_under_a_key_of_its_own_for_each_call() {
    let who = Tool::new("who", "says who calls", any(), async |_: Value, at: At<String>| {
        Ok::<_, Never>(json!([at.caller(), at.key()]))
    });
    let agent = Agent::new(two_turns(&["who", "who"])).tools([who.unwrap()]).unwrap();
    let run = agent.run("go", "ada".to_owned()).await.unwrap();
    for position in [0, 1] {
        let step = serde_json::to_value(&run.steps[position]).unwrap();
        assert_eq!(step["result"], json!(["ada", format!("{}/1/{position}", run.id)]));
    }
}

#[tokio::test]
async fn a_tools_own_fault_is_told_to_the_model_and_a_bug_is_not() {
    let tools = [
        Tool::new("refuses", "refuses", any(), async |_: Value, _| Err::<(), _>(Refused)).unwrap(),
        Tool::new("breaks", "breaks", any(), async |_: Value, _| Err::<(), _>(Broken)).unwrap(),
    ];
    let agent = Agent::new(two_turns(&["refuses", "breaks"])).tools(tools).unwrap();
    let run = agent.run("go", ()).await.unwrap();
    assert_eq!((code(&run.steps, 0), code(&run.steps, 1)), ("not-yours".into(), "internal".into()));
    assert!(!serde_json::to_string(&run).unwrap().contains("hunter2"));
}

#[tokio::test]
async fn a_tool_that_panics_harms_neither_the_run_nor_the_other_calls() {
    let tools = [
        Tool::new("early", "panics", any(), |_: Value, _| -> std::future::Ready<Result<(), Never>> {
            panic!("a")
        })
        .unwrap(),
        Tool::new("late", "panics", any(), async |n: Value, _| -> Result<(), Never> { panic!("b {n}") })
            .unwrap(),
        echo("echo"),
    ];
    let agent = Agent::new(two_turns(&["early", "late", "echo"])).tools(tools).unwrap();
    let run = agent.run("go", ()).await.unwrap();
    assert_eq!((code(&run.steps, 0), code(&run.steps, 1)), ("tool-panicked".into(), "tool-panicked".into()));
    assert_eq!(serde_json::to_value(&run.steps[2]).unwrap()["result"], json!({}));
    assert_eq!(run.result, "done");
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_takes_too_long_is_an_error_result_after_its_own_or_the_agents_limit() {
    let hour = Duration::from_secs(3600);
    let tools = [slow("usual", hour), slow("patient", hour).timeout(Duration::from_secs(20)), echo("quick")];
    let agent = Agent::new(two_turns(&["usual", "patient", "quick"])).tools(tools).unwrap();
    let run = agent.run("go", ()).await.unwrap();
    assert_eq!((code(&run.steps, 0), code(&run.steps, 1)), ("tool-timeout".into(), "tool-timeout".into()));
    assert_eq!(run.steps.iter().map(|step| step.duration_ms / 1000).collect::<Vec<_>>(), [10, 20, 0, 0]);
}

#[tokio::test]
async fn a_result_that_is_too_large_is_an_error_result() {
    let large =
        Tool::new("large", "answers at length", any(), async |_: Value, _| Ok::<_, Never>("x".repeat(99)));
    let agent = |max_result_bytes| {
        let limits = Limits { max_result_bytes, ..Limits::default() };
        Agent::<()>::new(two_turns(&["large"])).tools([large.clone().unwrap()]).unwrap().limits(limits)
    };
    let run = agent(100).run("go", ()).await.unwrap();
    assert_eq!(code(&run.steps, 0), "result-too-large");
    let run = agent(101).run("go", ()).await.unwrap();
    assert_eq!(serde_json::to_value(&run.steps[0]).unwrap()["result"], "x".repeat(99));
}

#[tokio::test]
async fn arguments_that_fit_the_schema_but_not_the_type_are_bad_arguments() {
    #[derive(serde::Deserialize)]
    struct Wanted {
        _n: u8,
    }
    let tool = Tool::new("n", "n", any(), async |_: Wanted, _| Ok::<_, Never>(()));
    let agent = Agent::<()>::new(two_turns(&["n"])).tools([tool.unwrap()]).unwrap();
    assert_eq!(code(&agent.run("go", ()).await.unwrap().steps, 0), "bad-arguments");
}

#[test]
fn two_tools_of_one_name_are_refused() {
    let agent = Agent::new(two_turns(&[])).tools([echo("a")]).unwrap();
    assert!(
        matches!(agent.tools([echo("b"), echo("a")]), Err(InvalidTool::Duplicate { tool }) if tool == "a")
    );
}

#[tokio::test]
async fn a_prompt_that_is_empty_or_too_large_never_reaches_the_model() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let model = Scripted::reacting(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        Ok(Answer::text("hm"))
    });
    let agent = Agent::new(model).limits(Limits { max_prompt_bytes: 10, ..Limits::default() });
    for prompt in ["", " \n", "12345678901"] {
        assert!(matches!(agent.run(prompt, ()).await, Err(RunError::Prompt { max: 10 })));
    }
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    agent.run("1234567890", ()).await.unwrap();
}

#[tokio::test]
async fn a_limit_is_an_error_of_its_own_with_the_steps_so_far() {
    let for_ever =
        || Scripted::reacting(|_| Ok(Answer::calling([("a", json!({})), ("a", json!({}))]).costing(10, 10)));
    for (limits, expected, steps) in [
        (Limits { max_turns: 3, ..Limits::default() }, Reached::Turns, 4),
        (Limits { max_calls: 3, ..Limits::default() }, Reached::Calls, 2),
        (Limits { max_tokens: 100, ..Limits::default() }, Reached::Tokens, 8),
    ] {
        let agent = Agent::new(for_ever()).tools([echo("a")]).unwrap().limits(limits);
        let error = agent.run("go", ()).await.unwrap_err();
        assert!(matches!(error, RunError::Limit { reached, .. } if reached == expected), "{error:?}");
        assert_eq!(
            (error.kind(), error.code(), error.steps().len()),
            (FaultKind::Rejected, "run-limit", steps)
        );
    }
}

/// Never answers.
struct Silent;

impl Model for Silent {
    async fn answer(&self, _: Request<'_>, _: Hear<'_>) -> Result<Answer, ModelError> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_holds_for_the_model_and_for_tools() {
    let limits = Limits { deadline: Duration::from_secs(5), ..Limits::default() };
    let silent = Agent::<()>::new(Silent).limits(limits.clone());
    let tools = [echo("quick"), slow("slow", Duration::from_secs(9))];
    let busy = Agent::new(two_turns(&["quick", "slow"])).tools(tools).unwrap().limits(limits.clone());
    // The tool's own time is up at the same moment: the model must not be asked any more.
    let even = busy.clone().limits(Limits { tool_timeout: limits.deadline, ..limits });
    for (agent, steps) in [(silent, 0), (busy, 2), (even, 2)] {
        let begun = tokio::time::Instant::now();
        let error = agent.run("go", ()).await.unwrap_err();
        assert_eq!(begun.elapsed(), Duration::from_secs(5));
        assert!(matches!(error, RunError::Deadline { .. }), "{error:?}");
        assert_eq!((error.kind(), error.steps().len()), (FaultKind::Timeout, steps));
    }
}

#[tokio::test]
async fn a_model_that_fails_is_the_cause_of_the_runs_error() {
    let model = Scripted::reacting(|_| Err(ModelError::Overloaded { retry_after: None }));
    let error = Agent::new(model).run("go", ()).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (FaultKind::Overloaded, "model-overloaded"));
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.to_string(), "the model is asked more than it can answer");
}

#[tokio::test]
async fn when_to_come_again_is_the_models_to_say_and_the_runs_to_pass_on() {
    const AFTER: Option<Duration> = Some(Duration::from_secs(7));
    let overloaded = || ModelError::Overloaded { retry_after: AFTER };
    let away = || ModelError::Unavailable { reason: "away".to_owned(), retry_after: AFTER, source: None };
    for (why, told) in [(overloaded as fn() -> _, AFTER), (away, AFTER), (|| ModelError::Timeout, None)] {
        assert_eq!(why().retry_after(), told);
        let error = Agent::new(Scripted::reacting(move |_| Err(why()))).run("go", ()).await.unwrap_err();
        assert_eq!(error.retry_after(), told, "{error:?}");
    }
}

#[tokio::test]
async fn the_model_is_shown_the_whole_conversation_and_every_call_with_its_result() {
    let model = Scripted::reacting(|request| {
        assert_eq!((request.system, request.tools.len()), ("You help.", 1));
        match request.messages {
            [Message::User(prompt)] if prompt == "go" => Ok(Answer::calling([("a", json!({"n": 1}))])),
            [Message::User(_), Message::Model(_), Message::Results(results)] => {
                Ok(Answer::text(format!("{}: {}", results[0].call, results[0].content)))
            }
            other => panic!("{other:?}"),
        }
    });
    let agent = Agent::new(model).system("You help.").tools([echo("a")]).unwrap();
    assert_eq!(agent.run("go", ()).await.unwrap().result, "call-1: {\"n\":1}");
}

#[tokio::test]
async fn events_tell_the_run_as_it_goes_and_end_with_how_it_ended() {
    let agent = Agent::new(two_turns(&["a", "none"])).tools([echo("a")]).unwrap();
    let mut told = Vec::new();
    let run = agent.run_with("go", (), |event| told.push(event)).await.unwrap();
    let names: Vec<_> = told.iter().map(Event::name).collect();
    // The unknown tool is never called, so it only has a step.
    assert_eq!(names, ["turn", "step", "call", "step", "turn", "text", "step", "finished"]);
    assert_eq!(told.last(), Some(&Event::Finished(run)));
    let streamed: Vec<_> = agent.events("go", ()).map(|event| event.name()).collect().await;
    assert_eq!(streamed, names);
    let failed: Vec<_> = agent.events("", ()).collect().await;
    let json = serde_json::to_value(&failed).unwrap();
    assert_eq!(
        json,
        json!([{"event": "failed", "code": "invalid-prompt", "message": "a prompt has 1 to 32768 bytes"}])
    );
}

#[tokio::test]
async fn the_answers_json_is_result_and_steps() {
    let agent = Agent::new(two_turns(&["a"])).tools([echo("a")]).unwrap();
    let mut run = serde_json::to_value(agent.run("go", ()).await.unwrap()).unwrap();
    let zero = |step: &mut Value| step["duration_ms"] = json!(0);
    run["steps"].as_array_mut().unwrap().iter_mut().for_each(zero);
    run.as_object_mut().unwrap().remove("id");
    let expected = json!({
        "result": "done",
        "steps": [
            {"turn": 1, "kind": "tool", "id": "call-1", "name": "a", "arguments": {}, "result": {}, "duration_ms": 0},
            {"turn": 2, "kind": "text", "text": "done", "duration_ms": 0},
        ],
        "stop": "end-turn",
        "usage": {"input_tokens": 0, "output_tokens": 0},
    });
    assert_eq!(run, expected);
}

#[tokio::test]
async fn a_run_goes_no_further_than_its_events_are_read_and_a_dropped_one_stops_its_tools() {
    struct Dropped(Arc<AtomicBool>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let (begun, dropped) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (begin, drop_it) = (Arc::clone(&begun), Arc::clone(&dropped));
    let hangs = Tool::new("hangs", "hangs", any(), move |_: Value, _| {
        begin.store(true, Ordering::Relaxed);
        let guard = Dropped(Arc::clone(&drop_it));
        async move {
            let _guard = guard;
            std::future::pending::<Result<(), Never>>().await
        }
    });
    let agent = Agent::new(two_turns(&["hangs"])).tools([hangs.unwrap()]).unwrap();
    let mut events = agent.events("go", ());
    assert!(!begun.load(Ordering::Relaxed));
    assert_eq!(events.next().await.unwrap().name(), "turn");
    assert_eq!(events.next().await.unwrap().name(), "call");
    assert!(futures_util::poll!(events.next()).is_pending());
    assert!(begun.load(Ordering::Relaxed) && !dropped.load(Ordering::Relaxed));
    drop(events);
    assert!(dropped.load(Ordering::Relaxed));
}

#[tokio::test]
async fn tools_work_within_the_trace_of_the_run() {
    let trace = purlin::message::TraceContext::root();
    let tool = Tool::new("t", "t", any(), async |_: Value, _| {
        Ok::<_, Never>(purlin::telemetry::current().map(|context| context.trace_id_hex()))
    });
    let agent = Agent::<()>::new(two_turns(&["t"])).tools([tool.unwrap()]).unwrap();
    let run = purlin::telemetry::in_trace(trace, agent.run("go", ())).await.unwrap();
    assert_eq!(serde_json::to_value(&run.steps[0]).unwrap()["result"], trace.trace_id_hex());
}

#[test]
fn runs_and_their_events_can_move_between_threads() {
    fn moves<T: Send + 'static>(_: &T) {}
    let agent = Agent::new(two_turns(&[]));
    moves(&agent.events("go", ()));
    let run = async move { agent.run("go", ()).await };
    moves(&run);
}

#[tokio::test(start_paused = true)]
async fn a_run_lasts_no_longer_than_the_request_that_it_answers() {
    let agent = Agent::new(two_turns(&["nap"])).tools([slow("nap", Duration::from_secs(30))]).unwrap();
    let begun = tokio::time::Instant::now();
    let deadline = Deadline::after(Duration::from_secs(3));
    let ended = deadline::within(deadline, agent.run("sleep", ())).await;
    assert!(matches!(ended, Err(RunError::Deadline { .. })), "{ended:?}");
    assert_eq!(begun.elapsed().as_secs(), 3);

    // A stream is read by another task than the one that asked for it.
    let deadline = Deadline::after(Duration::from_secs(3));
    let events = deadline::within(deadline, async { agent.events("sleep", ()) }).await;
    let events: Vec<Event> = events.collect().await;
    assert!(
        matches!(events.last(), Some(Event::Failed { code, .. }) if code == "run-deadline"),
        "{events:?}"
    );
    assert_eq!(begun.elapsed().as_secs(), 6);
}
