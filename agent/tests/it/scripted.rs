use purlin_agent::model::scripted::{Rule, Scripted};
use purlin_agent::model::{Answer, ModelError};
use purlin_agent::run::RunError;
use purlin_agent::tool::At;
use purlin_agent::{Agent, Tool};
use serde_json::{Value, json};

fn shop() -> Agent<&'static str> {
    let model = Scripted::rules(
        [
            Rule::when(["order", "orders"]).and(["my", "all"]).call("search_orders", |heard| {
                let mut arguments = json!({});
                if let Some(status) = heard.first_of(&["draft", "shipped"]) {
                    arguments["status"] = status.into();
                }
                if let Some(id) = heard.first_id() {
                    arguments["customerId"] = id.to_string().into();
                }
                arguments
            }),
            Rule::when(["hello"]).say(|heard| format!("Hello! You said: {}", heard.prompt())),
        ],
        "Ask me for your orders.",
    );
    let search = Tool::new(
        "search_orders",
        "Finds orders",
        json!({"type": "object", "properties": {"status": {"type": "string"}, "customerId": {"type": "string"}}}),
        async |arguments: Value, at: At<&str>| {
            if at.caller() == &"nobody" {
                return Err(super::run::Refused);
            }
            let status = arguments["status"].as_str().unwrap_or("any").to_owned();
            let id = arguments["customerId"].clone();
            Ok(
                json!({"items": [{"status": status, "of": id, "lines": []}, {"status": status}], "next": null}),
            )
        },
    );
    Agent::new(model).tools([search.unwrap()]).unwrap()
}

#[tokio::test]
async fn a_prompt_leads_to_a_call_and_the_results_to_a_summary() {
    let run = shop().run("Show my SHIPPED orders, please.", "ada").await.unwrap();
    assert_eq!(run.result, "search_orders found 2:\n- status: shipped\n- status: shipped");
    assert_eq!(serde_json::to_value(&run.steps[0]).unwrap()["arguments"], json!({"status": "shipped"}));
}

#[tokio::test]
async fn an_id_in_the_prompt_can_be_an_argument() {
    let id = "0190163d-8694-739b-aea5-966c26f8ad91";
    let run = shop().run(format!("all orders of {id}?"), "ada").await.unwrap();
    assert!(run.result.contains(&format!("of: {id}, status: any")), "{}", run.result);
}

#[tokio::test]
async fn a_failed_call_is_said_to_have_failed() {
    let run = shop().run("my orders", "nobody").await.unwrap();
    assert_eq!(run.result, "search_orders failed: this is not yours to see");
}

#[tokio::test]
async fn words_are_compared_whole_and_every_group_must_be_there() {
    for prompt in ["orders", "my disorders", "myself: order"] {
        assert_eq!(shop().run(prompt, "ada").await.unwrap().result, "Ask me for your orders.", "{prompt}");
    }
    assert_eq!(shop().run("Hello", "ada").await.unwrap().result, "Hello! You said: Hello");
}

#[tokio::test]
async fn each_run_plays_the_turns_from_the_first_and_their_end_is_an_error() {
    let agent = Agent::new(Scripted::turns([Answer::calling([("none", json!({}))]), Answer::text("done")]));
    for _ in 0..2 {
        assert_eq!(agent.run("go", ()).await.unwrap().result, "done");
    }
    let agent = Agent::new(Scripted::turns([Answer::calling([("none", json!({}))])]));
    let Err(RunError::Model { source: ModelError::Malformed { reason }, steps }) = agent.run("go", ()).await
    else {
        panic!()
    };
    assert_eq!((reason.as_str(), steps.len()), ("the script ends after 1 turns", 1));
}
