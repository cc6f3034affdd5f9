//! Reading: your own writes, page by page, in one trace.

use serde_json::json;

use crate::client::id_of;
use crate::shop::Shop;

#[tokio::test(flavor = "multi_thread")]
async fn a_position_makes_the_list_show_what_was_written() {
    let shop = Shop::start().await;
    let (admin, ada) = (shop.client().admin().await, shop.client().customer("ada").await);
    let product = admin.product("Lamp", 250, 1000).await;
    for _ in 0..20 {
        let body = json!({ "items": [{ "product_id": product, "quantity": 1 }] });
        let made = ada.post("/orders", &body).await;
        let position = made.header("x-position").unwrap().to_owned();
        let order = id_of(&made.expect(201));
        let list = ada.get(&format!("/orders?limit=1&after={position}")).await.expect(200);
        assert_eq!(list["items"][0]["id"], order, "the newest comes first");
    }
    let other = admin.post(&format!("/products/{product}/stock"), &json!({ "add": 1 })).await;
    let foreign = other.header("x-position").unwrap().to_owned();
    ada.get(&format!("/orders?after={foreign}")).await.problem(400);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_show_everything_once_and_filters_only_what_fits() {
    let shop = Shop::start().await;
    let (admin, ada) = (shop.client().admin().await, shop.client().customer("ada").await);
    let (lamp, pen) = (admin.product("Lamp", 250, 1000).await, admin.product("Pen", 5, 1000).await);
    let mut position = String::new();
    for n in 0..25 {
        let product = if n % 5 == 0 { &pen } else { &lamp };
        let made = ada.post("/orders", &json!({ "items": [{ "product_id": product, "quantity": 1 }] })).await;
        position = made.header("x-position").unwrap().to_owned();
        made.expect(201);
    }
    ada.get(&format!("/orders?after={position}")).await.expect(200);
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = ada.get(&format!("/orders?limit=7{cursor}")).await.expect(200);
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 7);
        seen.extend(items.iter().map(id_of));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen.len(), 25);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 25);
    let found = ada.get(&format!("/orders?product_id={pen}&status=draft")).await.expect(200);
    assert_eq!(found["items"].as_array().unwrap().len(), 5);
    let none = ada.get("/orders?status=shipped").await.expect(200);
    assert_eq!(none, json!({ "items": [], "next": null }));
    assert!(ada.get("/products?limit=1000").await.expect(200)["items"].as_array().unwrap().len() >= 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_order_is_one_trace() {
    let shop = Shop::with(&["--log", "debug", "--log-format", "json"]).await;
    let (admin, ada) = (shop.client().admin().await, shop.client().customer("ada").await);
    let product = admin.product("Lamp", 250, 1000).await;
    for flow in ["orchestrated", "choreographed"] {
        let order = ada.draft(&product, 1).await;
        let trace = purlin::message::TraceContext::root();
        let body = crate::client::submission("tok_ok", flow, "DE").to_string();
        let headers = [("traceparent", trace.to_string())];
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let path = format!("/orders/{order}/submit");
        let answer = ada.send(http::Method::POST, &path, &headers, Some(body.into())).await.unwrap();
        assert_eq!(answer.status, 202);
        ada.ended(&order).await;
        let services = || {
            let said = shop.said();
            let lines = said.lines().filter(|line| line.contains(&trace.trace_id_hex()));
            lines
                .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
                .filter_map(|line| line["service"].as_str().map(str::to_owned))
                .collect::<std::collections::BTreeSet<_>>()
        };
        if flow == "orchestrated" {
            for service in ["gateway", "orders", "inventory", "payments", "shipping"] {
                assert!(services().contains(service), "{service} is not in {:?}", services());
            }
        }
    }
    let metrics = shop.operator().get("/metrics").await;
    assert!(metrics.body.as_str().unwrap().contains("purlin_http_requests"));
}
