//! Breakers that administrators and operators hold, and what a callee that is away does to the rest.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::eventually;
use crate::invariants;
use crate::shop::Shop;

/// So long a payment waits for the card network, and longer for a charge: whoever takes as long has waited for them.
const AN_ATTEMPT: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread")]
async fn with_payments_away_submits_answer_at_once_and_all_orders_end_when_they_are_back() {
    let shop = Shop::start().await;
    let (admin, ada) = (shop.client().admin().await, shop.client().customer("ada").await);
    let product = admin.product("Lamp", 250, 100).await;
    let held = admin.post_empty("/admin/breakers/payments/open").await.expect(200);
    assert_eq!((&held["state"], &held["forced"]), (&json!("open"), &json!("open")));
    admin.post_empty("/admin/breakers/gateway-shipping/open").await.expect(200);
    let refused = admin.get("/admin/shipments").await.problem(503);
    assert_eq!(refused["type"], "/problems/circuit-open");
    assert!(refused["detail"].as_str().unwrap().contains("an operator has"), "{refused}");
    admin.post_empty("/admin/breakers/gateway-shipping/reset").await.expect(200);

    let mut waiting = Vec::new();
    for _ in 0..8 {
        let order = ada.draft(&product, 1).await;
        let begun = Instant::now();
        ada.submit(&order, "tok_ok", "orchestrated").await.expect(202);
        assert!(begun.elapsed() < AN_ATTEMPT, "{:?}", begun.elapsed());
        waiting.push(order);
    }
    for path in ["/products", "/orders", "/users/me"] {
        let begun = Instant::now();
        ada.get(path).await.expect(200);
        assert!(begun.elapsed() < AN_ATTEMPT, "{path} took {:?}", begun.elapsed());
    }
    for order in &waiting {
        assert_eq!(ada.order(order).await["status"], "submitted");
    }

    let held = admin.post_empty("/admin/breakers/payments/reset").await.expect(200);
    assert_eq!((&held["state"], &held["forced"]), (&json!("closed"), &json!(null)));
    for order in waiting {
        assert_eq!(ada.ended(&order).await["status"], "shipped");
    }
    invariants::hold(&admin, &shop.operator()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_card_network_away_submits_answer_at_once_and_all_orders_end_when_it_is_back() {
    let shop = Shop::start().await;
    let (admin, ada) = (shop.client().admin().await, shop.client().customer("ada").await);
    let product = admin.product("Lamp", 250, 100).await;
    let why = json!({ "reason": "the network is away, says this test" });
    admin.post("/admin/breakers/card-network/open", &why).await.expect(200);

    let mut waiting = Vec::new();
    for _ in 0..8 {
        let order = ada.draft(&product, 1).await;
        let begun = Instant::now();
        ada.submit(&order, "tok_ok", "orchestrated").await.expect(202);
        assert!(begun.elapsed() < AN_ATTEMPT, "{:?}", begun.elapsed());
        waiting.push(order);
    }
    // The payments are there and say that they cannot, and the sagas wait: each has tried in vain.
    for order in &waiting {
        eventually("the saga waits for the payment", async || {
            let saga = ada.saga(order).await;
            let steps = saga["steps"].as_array().cloned().unwrap_or_default();
            steps.iter().any(|step| step["error"]["kind"] == "unavailable" || step["error"].is_object())
        })
        .await;
        assert_eq!(ada.order(order).await["status"], "submitted");
    }
    admin.post_empty("/admin/breakers/card-network/reset").await.expect(200);
    for order in waiting {
        assert_eq!(ada.ended(&order).await["status"], "shipped");
    }
    invariants::hold(&admin, &shop.operator()).await;
    // Who did it, and why, is in the log.
    let said = shop.said();
    let held = said.lines().find(|line| line.contains("holds a breaker") && line.contains("card-network"));
    assert!(held.is_some_and(|line| line.contains("the network is away, says this test")), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_administrators_hold_breakers_and_only_such_as_there_are() {
    let shop = Shop::start().await;
    let (client, admin) = (shop.client(), shop.client().admin().await);
    let ada = client.customer("ada").await;
    for verb in ["open", "close", "reset"] {
        let path = format!("/admin/breakers/shipping/{verb}");
        client.post_empty(&path).await.problem(401);
        ada.post_empty(&path).await.problem(403);
        admin.post_empty(&format!("/admin/breakers/nobody/{verb}")).await.problem(404);
        let state = if verb == "open" { "open" } else { "closed" };
        assert_eq!(admin.post_empty(&path).await.expect(200)["state"], state, "{verb}");
    }
    let breakers = admin.get("/admin/breakers").await.expect(200);
    let shipping =
        breakers["items"].as_array().unwrap().iter().find(|one| one["name"] == "shipping").unwrap();
    assert_eq!(shipping["forced"], json!(null));

    let (mut paged, mut next) = (Vec::new(), None::<String>);
    loop {
        let cursor = next.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let page = admin.get(&format!("/admin/breakers?limit=2{cursor}")).await.expect(200);
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 2, "{page}");
        paged.extend(items.iter().map(|one| one["name"].clone()));
        next = page["next"].as_str().map(str::to_owned);
        if next.is_none() {
            break;
        }
    }
    let names = breakers["items"].as_array().unwrap().iter().map(|one| one["name"].clone());
    assert_eq!((paged, &breakers["next"]), (names.collect(), &json!(null)));
    for wrong in ["limit=0", "limit=x", "cursor=nobodys", "names=all"] {
        let refused = admin.get(&format!("/admin/breakers?{wrong}")).await;
        assert_eq!(refused.status, 400, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_in_thousands_is_logged_now_and_then_with_a_count() {
    let shop = Shop::start().await;
    let (admin, ada) = (shop.client().admin().await, shop.client().customer("ada").await);
    let product = admin.product("Lamp", 250, 100).await;
    let body = json!({ "items": [{ "product_id": product, "quantity": 1 }] });
    admin.post_empty("/admin/breakers/products/open").await.expect(200);
    admin.post_empty("/admin/breakers/gateway-shipping/open").await.expect(200);
    let what_is_counted =
        ["a request could not be answered", "answered method=POST route=/orders status=503"];
    let lines = |said: &str, what: &str| said.lines().filter(|line| line.contains(what)).count() as u64;
    let more = |said: &str| {
        let counted = said.lines().filter(|line| line.contains("could not be answered"));
        let more = counted.filter_map(|line| line.split("more=").nth(1)?.split_whitespace().next());
        more.filter_map(|more| more.parse::<u64>().ok()).sum::<u64>()
    };
    let (begun, mut refused) = (Instant::now(), 0);
    eventually("each has been said again, with the number of those in between", async || {
        for _ in 0..50 {
            ada.post("/orders", &body).await.problem(503);
            admin.get("/admin/shipments").await.problem(503);
            refused += 1;
        }
        let said = shop.said();
        what_is_counted.iter().all(|what| lines(&said, what) >= 2) && more(&said) > 20
    })
    .await;
    let said = shop.said();
    let most = begun.elapsed().as_secs() + 2;
    for what in what_is_counted {
        assert!(lines(&said, what) <= most, "{what}: {}\n{said}", lines(&said, what));
    }
    assert_eq!(
        lines(&said, "a request was not answered"),
        0,
        "that a breaker is open was said when it opened\n{said}"
    );
    assert!(more(&said) < refused, "{} of {refused}\n{said}", more(&said));
}
