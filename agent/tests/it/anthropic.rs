use std::time::Duration;

use purlin::message::{Fault, FaultKind};
use purlin_agent::model::anthropic::{Anthropic, Config, ConfigError, Secret, Transfer};
use purlin_agent::model::{Answer, Block, Delta, Message, Model, ModelError, Request, Stop};
use purlin_agent::run::{Event, RunError};
use purlin_agent::tool::At;
use purlin_agent::{Agent, Limits, Tool};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::messages_api::{MessagesApi, Reply, events};

const BOTH: [Transfer; 2] = [Transfer::Streamed, Transfer::Whole];

fn config(api: &MessagesApi) -> Config {
    Config {
        base_url: api.url.clone(),
        first_pause: Duration::from_millis(1),
        max_pause: Duration::from_millis(2),
        ..Config::new("claude-test", Secret::new("key"))
    }
}

/// Asks once, with ten seconds of time.
async fn ask(config: Config) -> (Result<Answer, ModelError>, Vec<Delta>) {
    let messages = [Message::User("hi".into())];
    let deadline = Instant::now() + Duration::from_secs(10);
    ask_in(&messages, config, deadline).await
}

async fn ask_in(
    messages: &[Message],
    config: Config,
    deadline: Instant,
) -> (Result<Answer, ModelError>, Vec<Delta>) {
    let model = Anthropic::new(config).unwrap();
    let request = Request { system: "You help.", messages, tools: &[], max_tokens: 100, deadline };
    let mut heard = Vec::new();
    let answer = model.answer(request, &mut |delta| heard.push(delta)).await;
    (answer, heard)
}

fn search() -> Tool<&'static str> {
    let schema = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {"status": {"type": "string", "enum": ["draft", "shipped"]}},
    });
    Tool::new("search_orders", "Finds orders", schema, async |wanted: Value, at: At<&str>| {
        Ok::<_, std::convert::Infallible>(json!({"of": at.caller(), "status": wanted["status"], "items": []}))
    })
    .unwrap()
}

fn call(id: &str, name: &str, input: Value) -> Value {
    json!({"type": "tool_use", "id": id, "name": name, "input": input})
}

#[tokio::test]
async fn a_whole_run_is_a_conversation_that_the_api_accepts() {
    for transfer in BOTH {
        let thinking = json!({"type": "thinking", "thinking": "Let me see.", "signature": "c2ln"});
        let api = MessagesApi::answering([
            Reply::calls(json!([
                thinking,
                {"type": "text", "text": "I look at your orders."},
                call("toolu_1", "search_orders", json!({"status": "shipped"})),
                call("toolu_2", "search_order", json!({})),
                call("toolu_3", "search_orders", json!({"status": "lost"})),
            ])),
            Reply::Message {
                content: json!([{"type": "text", "text": "Just a "}]),
                stop_reason: "pause_turn",
            },
            Reply::Message {
                content: json!([{"type": "text", "text": "moment. "}]),
                stop_reason: "pause_turn",
            },
            Reply::text("Nothing has shipped, größer als ß."),
        ])
        .await;
        let model = Anthropic::new(Config { transfer, ..config(&api) }).unwrap();
        let agent = Agent::new(model).system("You help.").tools([search()]).unwrap();
        let run = agent.run("Which orders have shipped?", "ada").await;
        assert_eq!(api.refused(), [""; 0]);
        let run = run.unwrap();
        assert_eq!(run.result, "Just a moment. Nothing has shipped, größer als ß.");
        assert_eq!((run.usage.input_tokens, run.usage.output_tokens), (4 * 120, 4 * 7));
        let last = api.requests().pop().unwrap();
        assert_eq!(last["system"], "You help.");
        assert_eq!(last["messages"][1]["content"][0], thinking);
        assert_eq!(last["messages"].as_array().unwrap().len(), 4);
        let results = last["messages"][2]["content"].as_array().unwrap();
        let told: Vec<_> =
            results.iter().map(|result| (&result["tool_use_id"], &result["is_error"])).collect();
        let expected = [
            (json!("toolu_1"), json!(false)),
            (json!("toolu_2"), json!(true)),
            (json!("toolu_3"), json!(true)),
        ];
        assert_eq!(told, expected.iter().map(|(id, error)| (id, error)).collect::<Vec<_>>());
        assert_eq!(results[0]["content"], r#"{"items":[],"of":"ada","status":"shipped"}"#);
    }
}

#[tokio::test]
async fn text_is_heard_as_it_is_made() {
    let api = MessagesApi::answering([Reply::text("It is a quarter to nine.")]).await;
    let agent = Agent::<()>::new(Anthropic::new(config(&api)).unwrap());
    let mut texts = Vec::new();
    let run = agent.run_with("What time is it?", (), |event| {
        if let Event::Text { text, .. } = event {
            texts.push(text);
        }
    });
    assert_eq!(run.await.unwrap().result, texts.concat());
    assert!(texts.len() > 3, "{texts:?}");
}

#[tokio::test]
async fn every_reason_to_stop_is_known() {
    let content = json!([{"type": "text", "text": "so"}]);
    for transfer in BOTH {
        for (stop_reason, stop) in [
            ("end_turn", Stop::EndTurn),
            ("tool_use", Stop::ToolUse),
            ("max_tokens", Stop::MaxTokens),
            ("stop_sequence", Stop::StopSequence),
            ("refusal", Stop::Refusal),
            ("pause_turn", Stop::Pause),
            ("model_context_window_exceeded", Stop::Other("model_context_window_exceeded".into())),
        ] {
            let api =
                MessagesApi::answering([Reply::Message { content: content.clone(), stop_reason }]).await;
            let (answer, _) = ask(Config { transfer, ..config(&api) }).await;
            assert_eq!(answer.unwrap().stop, stop);
        }
    }
}

#[tokio::test]
async fn arguments_that_are_not_json_are_told_to_the_model_and_not_guessed() {
    let api = MessagesApi::answering([
        Reply::calls(json!([call("toolu_1", "search_orders", json!("{\"status\": ship"))])),
        Reply::text("Sorry."),
    ])
    .await;
    let agent = Agent::new(Anthropic::new(config(&api)).unwrap()).tools([search()]).unwrap();
    let run = agent.run("orders?", "ada").await.unwrap();
    assert_eq!(api.refused(), [""; 0]);
    let step = serde_json::to_value(&run.steps[0]).unwrap();
    assert_eq!(
        (&step["error"]["code"], &step["arguments"]),
        (&json!("bad-arguments"), &json!("{\"status\": ship"))
    );
}

#[tokio::test]
async fn a_call_cut_by_the_largest_answer_is_not_made() {
    for transfer in BOTH {
        let content = json!([call("toolu_1", "search_orders", json!({}))]);
        let api = MessagesApi::answering([Reply::Message { content, stop_reason: "max_tokens" }]).await;
        let model = Anthropic::new(Config { transfer, ..config(&api) }).unwrap();
        let run = Agent::new(model).tools([search()]).unwrap().run("orders?", "ada").await;
        let Err(RunError::Unusable { steps, .. }) = run else { panic!("{run:?}") };
        assert!(steps.is_empty());
    }
}

#[tokio::test]
async fn overload_and_broken_servers_are_asked_again() {
    for (status, kind) in [
        (429, "rate_limit_error"),
        (529, "overloaded_error"),
        (500, "api_error"),
        (502, ""),
        (503, ""),
        (504, "timeout_error"),
        (408, ""),
        (409, ""),
    ] {
        let api = MessagesApi::answering([Reply::error(status, kind), Reply::text("back")]).await;
        let (answer, _) = ask(config(&api)).await;
        assert_eq!(answer.unwrap().full_text(), "back", "{status}");
    }
}

#[tokio::test]
async fn what_would_be_refused_again_is_not_asked_again() {
    for (status, kind, code, fault) in [
        (400, "invalid_request_error", "model-rejected", FaultKind::Unavailable),
        (404, "not_found_error", "model-rejected", FaultKind::Unavailable),
        (413, "request_too_large", "model-rejected", FaultKind::Unavailable),
        (401, "authentication_error", "model-denied", FaultKind::Unavailable),
        (402, "billing_error", "model-denied", FaultKind::Unavailable),
        (403, "permission_error", "model-denied", FaultKind::Unavailable),
    ] {
        let api = MessagesApi::answering([Reply::error(status, kind), Reply::text("back")]).await;
        let error = ask(config(&api)).await.0.unwrap_err();
        assert_eq!((error.code(), error.kind(), api.requests().len()), (code, fault, 1));
        assert!(error.to_string().contains(&format!("({status} {kind}: so it is)")), "{error}");
    }
}

#[tokio::test]
async fn the_vendor_has_the_last_word_on_asking_again() {
    let header = |value| vec![("x-should-retry", value)];
    let api =
        MessagesApi::answering([Reply::Status(429, header("false"), json!({})), Reply::text("back")]).await;
    assert!(matches!(ask(config(&api)).await.0, Err(ModelError::Overloaded { .. })));
    let api =
        MessagesApi::answering([Reply::Status(400, header("true"), json!({})), Reply::text("back")]).await;
    assert!(ask(config(&api)).await.0.is_ok());
}

#[tokio::test]
async fn attempts_are_counted() {
    let replies = (0..9).map(|_| Reply::error(529, "overloaded_error"));
    let api = MessagesApi::answering(replies).await;
    let (answer, _) = ask(Config { max_attempts: 3, ..config(&api) }).await;
    assert!(matches!(answer, Err(ModelError::Overloaded { .. })));
    assert_eq!(api.requests().len(), 3);
}

#[tokio::test]
async fn many_who_ask_an_overloaded_vendor_ask_again_within_one_budget() {
    const ASKING: usize = 40;
    let replies = (0..4 * ASKING).map(|_| Reply::error(529, "overloaded_error"));
    let api = MessagesApi::answering(replies).await;
    let model = Anthropic::new(config(&api)).unwrap();
    let messages = [Message::User("hi".into())];
    let ask = || async {
        let deadline = Instant::now() + Duration::from_secs(10);
        let request = Request { system: "", messages: &messages, tools: &[], max_tokens: 100, deadline };
        model.answer(request, &mut |_| {}).await
    };
    let begun = Instant::now();
    let answers = futures_util::future::join_all((0..ASKING).map(|_| ask())).await;
    assert!(answers.iter().all(|answer| matches!(answer, Err(ModelError::Overloaded { .. }))));
    let again = api.requests().len() - ASKING;
    let most = 10 + ASKING / 5 + begun.elapsed().as_secs() as usize + 1;
    assert!((10..=most).contains(&again), "{again} were sent again");
}

#[tokio::test]
async fn a_wait_that_is_longer_than_the_deadline_is_not_begun() {
    // Also one that no clock can tell the end of.
    for (header, said) in [("3600", 3600.0), ("1e19", 1e19)] {
        let wait = vec![("retry-after", header)];
        let api = MessagesApi::answering([Reply::Status(429, wait, json!({})), Reply::text("back")]).await;
        let (answer, _) = ask(config(&api)).await;
        let Err(ModelError::Overloaded { retry_after }) = answer else { panic!("{answer:?}") };
        assert_eq!((retry_after, api.requests().len()), (Some(Duration::from_secs_f64(said)), 1));
    }
}

#[tokio::test]
async fn a_vendor_that_is_away_says_for_how_long_too() {
    let hour = vec![("retry-after", "3600")];
    let api = MessagesApi::answering([Reply::Status(500, hour, json!({})), Reply::text("back")]).await;
    let (answer, _) = ask(config(&api)).await;
    let Err(ModelError::Unavailable { retry_after, .. }) = answer else { panic!("{answer:?}") };
    assert_eq!((retry_after, api.requests().len()), (Some(Duration::from_secs(3600)), 1));
}

#[tokio::test]
async fn the_vendors_wait_is_kept() {
    let wait = vec![("retry-after-ms", "150")];
    let api = MessagesApi::answering([Reply::Status(429, wait, json!({})), Reply::text("back")]).await;
    let begun = Instant::now();
    assert!(ask(config(&api)).await.0.is_ok());
    assert!(begun.elapsed() >= Duration::from_millis(150));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_made_anew_and_what_was_heard_is_void() {
    let content = json!([{"type": "text", "text": "The first try."}]);
    let api = MessagesApi::answering([Reply::Cut { content, events: 5 }, Reply::text("fine")]).await;
    let (answer, heard) = ask(config(&api)).await;
    assert_eq!(answer.unwrap().full_text(), "fine");
    let expected = [
        Delta::Text("The f".into()),
        Delta::Text("irst ".into()),
        Delta::Restart,
        Delta::Text("fine".into()),
    ];
    assert_eq!(heard, expected);
}

#[tokio::test]
async fn a_stream_that_ends_early_or_reports_overload_is_asked_again() {
    let text = json!([{"type": "text", "text": "half"}]);
    let mut early = events(&text, "end_turn");
    early.pop();
    let overloaded = json!({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}});
    let overloaded = vec![format!("event: error\ndata: {overloaded}\n\n")];
    for broken in [early, overloaded] {
        let api = MessagesApi::answering([Reply::Chunks(broken), Reply::text("whole")]).await;
        assert_eq!(ask(config(&api)).await.0.unwrap().full_text(), "whole");
    }
}

#[tokio::test]
async fn a_refusal_within_a_stream_is_not_asked_again() {
    let refusal = json!({"type": "error", "error": {"type": "invalid_request_error", "message": "no"}});
    let api =
        MessagesApi::answering([Reply::Chunks(vec![format!("data: {refusal}\n\n")]), Reply::text("x")]).await;
    assert!(matches!(ask(config(&api)).await.0, Err(ModelError::Rejected { status: 400, .. })));
}

#[tokio::test]
async fn a_stream_that_contradicts_itself_is_malformed() {
    let start =
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}});
    let delta = |index| json!({"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": "a"}});
    let odd = json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta"}});
    let stop = json!({"type": "message_stop"});
    for wrong in [
        vec![delta(0)],
        vec![start.clone(), delta(1)],
        vec![start.clone(), start.clone()],
        vec![start.clone(), odd],
        vec![json!({"type": "content_block_stop", "index": 3})],
        vec![json!("text")],
        vec![stop],
    ] {
        let chunks = wrong.iter().map(|event| format!("data: {event}\n\n")).collect();
        let api = MessagesApi::answering([Reply::Chunks(chunks)]).await;
        let (answer, _) = ask(config(&api)).await;
        assert!(matches!(answer, Err(ModelError::Malformed { .. })), "{wrong:?} {answer:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_no_message_is_malformed() {
    for body in [
        json!("text"),
        json!({}),
        json!({"content": [{}], "stop_reason": "end_turn"}),
        json!({"content": []}),
    ] {
        let api = MessagesApi::answering([Reply::Status(200, vec![], body)]).await;
        assert!(matches!(ask(config(&api)).await.0, Err(ModelError::Malformed { .. })));
    }
}

#[tokio::test]
async fn no_more_is_read_than_allowed() {
    for transfer in BOTH {
        let replies = || [Reply::text(&"x".repeat(5_000)), Reply::text("short")];
        let api = MessagesApi::answering(replies()).await;
        let small = Config { transfer, max_response_bytes: 2_000, ..config(&api) };
        let answer = ask(small.clone()).await.0;
        assert!(
            matches!(&answer, Err(ModelError::Malformed { reason }) if reason.contains("larger")),
            "{answer:?}"
        );
        assert!(ask(small).await.0.is_ok());
    }
}

#[tokio::test]
async fn silence_is_a_timeout_and_the_runs_own_deadline_is_a_deadline() {
    let api = MessagesApi::answering([Reply::Silence, Reply::Silence, Reply::text("back")]).await;
    let patience = Config { attempt_timeout: Duration::from_millis(30), ..config(&api) };
    assert!(ask(patience).await.0.is_ok());
    let api = MessagesApi::answering([Reply::Silence]).await;
    let limits = Limits { deadline: Duration::from_millis(50), ..Limits::default() };
    let agent = Agent::<()>::new(Anthropic::new(config(&api)).unwrap()).limits(limits);
    assert!(matches!(agent.run("hi", ()).await, Err(RunError::Deadline { .. })));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let api = MessagesApi::answering([]).await;
    let config = config(&api);
    drop(api);
    let error = ask(config).await.0.unwrap_err();
    assert!(matches!(error, ModelError::Unavailable { source: Some(_), .. }), "{error:?}");
}

#[tokio::test]
async fn a_text_of_spaces_is_not_sent_back() {
    let api = MessagesApi::answering([Reply::text("fine")]).await;
    let messages = [
        Message::User("hi".into()),
        Message::Model(vec![Block::Text(" ".into())]),
        Message::Model(vec![Block::Text("a".into())]),
        Message::User("and?".into()),
    ];
    let answer = ask_in(&messages, config(&api), Instant::now() + Duration::from_secs(10)).await.0;
    assert_eq!(api.refused(), [""; 0]);
    assert!(answer.is_ok());
}

#[test]
fn a_config_that_cannot_work_is_refused_and_the_key_is_never_shown() {
    let good = Config::new("m", Secret::new("sk-ant-123"));
    for base_url in ["", "api.anthropic.com", "ftp://x", "http://", "https://a b"] {
        let config = Config { base_url: base_url.into(), ..good.clone() };
        assert!(matches!(Anthropic::new(config), Err(ConfigError::BaseUrl { .. })), "{base_url}");
    }
    for key in ["", "a\nb"] {
        let config = Config { api_key: Secret::new(key), ..good.clone() };
        assert_eq!(Anthropic::new(config).unwrap_err(), ConfigError::ApiKey);
    }
    assert!(!format!("{:?}", Anthropic::new(good).unwrap()).contains("sk-ant"));
}
