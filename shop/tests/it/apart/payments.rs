//! Payments apart: orders are taken without them, and wait.

use serde_json::json;

use super::{AT_ONCE, breaker, draft, refused, shop_and, timed};
use crate::client::{Client, eventually, id_of};
use crate::invariants;
use crate::shop::Shop;

/// With the payments away: orders are taken and wait, and everything else is as it was.
async fn orders_are_taken(shop: &Shop, admin: &Client, ada: &Client, product: &str) -> Vec<String> {
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let (drafted, took) = draft(ada, product).await;
        assert!(took < AT_ONCE, "a draft took {took:?}");
        let order = id_of(&drafted.expect(201));
        let (submitted, took) = timed(ada.submit(&order, "tok_ok", "orchestrated")).await;
        submitted.expect(202);
        assert!(took < AT_ONCE, "a submit took {took:?}");
        waiting.push(order);
    }
    eventually("the breaker is open", async || breaker(admin, "shop", "payments").await["state"] != "closed")
        .await;
    for path in ["/products", "/orders", "/users/me", &format!("/orders/{}", waiting[0])] {
        let (answer, took) = timed(ada.get(path)).await;
        answer.expect(200);
        assert!(took < AT_ONCE, "{path} took {took:?}");
    }
    let (stock, took) = timed(admin.get("/admin/stock")).await;
    stock.expect(200);
    assert!(took < AT_ONCE, "the stock took {took:?}");
    // What is away is said to be.
    let (listed, took) = timed(admin.get("/admin/breakers")).await;
    let listed = listed.expect(200);
    assert!(took < 3 * AT_ONCE, "the list took {took:?}");
    let unreached = listed["unreached"].as_array().expect("a list");
    assert!(unreached.len() == 1 && unreached[0]["process"] == "payments", "{unreached:?}");
    assert!(unreached[0]["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{unreached:?}");
    for order in &waiting {
        assert_eq!(ada.order(order).await["status"], "submitted", "{}", shop.said());
    }
    waiting
}

/// Once they are back everything ends well, and nobody has paid twice.
pub(super) async fn all_ship(shop: &Shop, admin: &Client, ada: &Client, orders: &[String]) {
    for order in orders {
        assert_eq!(ada.ended(order).await["status"], "shipped");
    }
    invariants::hold(admin, &shop.operator()).await;
    let ledger = admin.all("/admin/ledger").await;
    for order in orders {
        let charges = ledger.iter().filter(|entry| entry["order_id"] == order.as_str()).count();
        assert_eq!(charges, 1, "{order}");
    }
    eventually("the breaker closes", async || breaker(admin, "shop", "payments").await["state"] == "closed")
        .await;
    // How they stand is asked through a breaker of its own, which is open for two seconds yet.
    eventually("all processes answer", async || {
        admin.get("/admin/breakers").await.expect(200)["unreached"] == json!([])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_payments_killed_orders_are_taken_nobody_else_feels_it_and_all_ship_when_they_are_back() {
    let (shop, mut payments) = shop_and("payments").await;
    let (admin, ada) = (shop.client().admin().await, shop.client().customer("ada").await);
    let product = admin.product("Lamp", 250, 100).await;
    let before = ada.draft(&product, 1).await;
    ada.submit(&before, "tok_ok", "orchestrated").await.expect(202);
    assert_eq!(ada.ended(&before).await["status"], "shipped");

    // Some are in the middle of it when the payments die.
    let mut orders = Vec::new();
    for token in ["tok_ok", "tok_slow", "tok_timeout", "tok_flaky"] {
        let order = ada.draft(&product, 1).await;
        ada.submit(&order, token, "orchestrated").await.expect(202);
        orders.push(order);
    }
    payments.child.kill().await.expect("it is ours");
    orders.extend(orders_are_taken(&shop, &admin, &ada, &product).await);
    let (ledger, took) = timed(admin.get("/admin/ledger")).await;
    ledger.problem(503);
    assert!(took < AT_ONCE, "the ledger took {took:?}");

    payments.restart(&shop).await;
    orders.push(before);
    all_ship(&shop, &admin, &ada, &orders).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_payments_hanging_orders_are_taken_nobody_else_feels_it_and_all_ship_when_they_go_on() {
    let (shop, payments) = shop_and("payments").await;
    let (admin, ada) = (shop.client().admin().await, shop.client().customer("ada").await);
    let product = admin.product("Lamp", 250, 100).await;
    payments.signal("-STOP");
    let orders = orders_are_taken(&shop, &admin, &ada, &product).await;
    payments.signal("-CONT");
    all_ship(&shop, &admin, &ada, &orders).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_event_reaches_is_refused_and_not_lost() {
    let (shop, _payments) = shop_and("payments").await;
    let (admin, ada) = (shop.client().admin().await, shop.client().customer("ada").await);
    let product = admin.product("Lamp", 250, 100).await;
    let order = ada.draft(&product, 1).await;
    let refused = ada.submit(&order, "tok_ok", "choreographed").await.problem(409);
    assert_eq!(refused["type"], "/problems/flow-unavailable");
    assert_eq!(ada.order(&order).await["status"], "draft");
    ada.submit(&order, "tok_ok", "orchestrated").await.expect(202);
    assert_eq!(ada.ended(&order).await["status"], "shipped");
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_go_apart_only_with_what_they_have_and_when_nothing_waits_for_an_event() {
    let mut shop = Shop::start().await;
    let (admin, ada) = (shop.client().admin().await, shop.client().customer("ada").await);
    let product = admin.product("Lamp", 250, 100).await;
    let order = ada.draft(&product, 1).await;
    ada.submit(&order, "tok_down", "choreographed").await.expect(202);
    eventually("it waits for the payment", async || {
        ada.saga(&order).await["steps"].as_array().is_some_and(|steps| steps.len() > 1)
    })
    .await;
    assert_eq!(shop.stop().await, Some(0));

    let peer = ["--peer", "payments=http://127.0.0.1:1"];
    let said = refused(&peer, &shop.folder).await;
    assert!(said.contains("payments.db") && said.contains("card-network.db"), "{said}");
    // Moved, they still would not hear of it.
    let (data, apart) = (shop.folder.join("data"), shop.folder.join("apart/data"));
    std::fs::create_dir_all(&apart).expect("a folder");
    for file in std::fs::read_dir(&data).expect("a folder") {
        let name = file.expect("a file").file_name();
        if ["payments.db", "card-network.db"].iter().any(|moved| name.to_string_lossy().starts_with(moved)) {
            std::fs::rename(data.join(&name), apart.join(&name)).expect("it moves");
        }
    }
    let said = refused(&peer, &shop.folder).await;
    assert!(said.contains("choreographed checkouts are under way"), "{said}");
    let said = refused(&["payments", "--listen", "127.0.0.1:0"], &shop.folder.join("apart")).await;
    assert!(said.contains("choreographed checkouts wait for these payments"), "{said}");
}
