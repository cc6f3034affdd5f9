//! The assistant can do no more than who asks.

use serde_json::json;

use crate::shop::Shop;

#[tokio::test(flavor = "multi_thread")]
async fn it_finds_the_orders_of_who_asks_and_of_nobody_else() {
    let shop = Shop::start().await;
    let (client, admin) = (shop.client(), shop.client().admin().await);
    let (ada, bob) = (client.customer("ada").await, client.customer("bob").await);
    let product = admin.product("Lamp", 250, 10).await;
    let order = ada.draft(&product, 1).await;
    let id = ada.get("/users/me").await.expect(200)["id"].as_str().unwrap().to_owned();
    crate::client::eventually("the order is listed", async || !ada.all("/orders").await.is_empty()).await;

    let answer = ada.post("/assistant", &json!({ "prompt": "Show me my draft orders" })).await.expect(200);
    assert!(answer["result"].as_str().unwrap().contains(&order), "{answer}");
    assert_eq!(answer["steps"][0]["name"], "search_orders");
    assert_eq!(answer["steps"][0]["arguments"], json!({ "status": "draft" }));

    let prompt = json!({ "prompt": format!("Show me the orders of customer {id}") });
    let refused = bob.post("/assistant", &prompt).await.expect(200);
    assert!(!refused["result"].as_str().unwrap().contains(&order), "{refused}");
    assert_eq!(refused["steps"][0]["error"]["code"], "forbidden", "{refused}");
    let allowed = admin.post("/assistant", &prompt).await.expect(200);
    assert!(allowed["result"].as_str().unwrap().contains(&order), "{allowed}");

    client.post("/assistant", &prompt).await.problem(401);
    ada.post("/assistant", &json!({ "prompt": "" })).await.problem(422);
    ada.post("/assistant", &json!({ "question": "?" })).await.problem(422);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_tells_what_it_does_while_it_does_it() {
    let shop = Shop::start().await;
    let ada = shop.client().customer("ada").await;
    let body = json!({ "prompt": "Which of my orders have shipped?" }).to_string();
    let headers = [("accept", "text/event-stream")];
    let nothing = json!({ "prompt": " " }).to_string();
    let refused = ada.send(http::Method::POST, "/assistant", &headers, Some(nothing.into())).await.unwrap();
    refused.problem(422);
    let answer = ada.send(http::Method::POST, "/assistant", &headers, Some(body.into())).await.unwrap();
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    let stream = answer.body.as_str().unwrap();
    let events: Vec<&str> = stream.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(events.first(), Some(&"turn"), "{stream}");
    assert!(events.contains(&"call") && events.contains(&"step"), "{stream}");
    assert_eq!(events.last(), Some(&"finished"), "{stream}");
}
