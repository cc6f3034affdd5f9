//! A callee that hangs, is gone, or has its hands full: who needs it is told so at once, and nobody else feels it.

use std::time::Instant;

use serde_json::json;

use super::{AT_ONCE, IN_TIME, breaker, draft, shop_and, shop_with, timed};
use crate::client::{Client, eventually};

/// Asks for what needs the products until it is refused at once, because they are known to be away.
async fn until_refused_at_once(customer: &Client, product: &str) {
    eventually("it is refused at once", async || {
        // Several at once, as customers come: one after another they would find out together in a minute.
        let drafts = futures_util::future::join_all((0..4).map(|_| draft(customer, product))).await;
        let slowest = drafts.iter().map(|(_, took)| *took).max();
        assert!(slowest < Some(IN_TIME), "it took {slowest:?}");
        let (answer, took) = drafts.into_iter().next().expect("there are four");
        let status = answer.status.as_u16();
        assert!([503, 504].contains(&status), "{status}: {}", answer.body);
        if answer.body["type"] != "/problems/circuit-open" {
            answer.problem(status);
            return false;
        }
        let after = answer.header("retry-after").and_then(|after| after.parse::<u64>().ok());
        assert!(after.is_some_and(|after| (1..=60).contains(&after)), "{:?}", answer.headers);
        answer.problem(503);
        took < AT_ONCE
    })
    .await;
}

/// What does not need the products goes on as if nothing were.
async fn the_rest_works(admin: &Client, customer: &Client, order: &str) {
    let began = Instant::now();
    for path in ["/orders", "/users/me", &format!("/orders/{order}")] {
        customer.get(path).await.expect(200);
    }
    admin.get("/admin/shipments").await.expect(200);
    customer.submit(order, "tok_ok", "orchestrated").await.expect(202);
    assert!(began.elapsed() < 5 * AT_ONCE, "five requests took {:?}", began.elapsed());
    assert_eq!(customer.ended(order).await["status"], "shipped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callee_that_hangs_or_is_gone_opens_its_breaker_harms_nothing_else_and_is_used_again_when_it_is_back()
 {
    let (shop, mut products) = shop_and("products").await;
    let (admin, ada) = (shop.client().admin().await, shop.client().customer("ada").await);
    let product = admin.product("Lamp", 250, 100).await;
    let mut orders = Vec::new();
    for _ in 0..2 {
        orders.push(ada.draft(&product, 1).await);
    }
    assert_eq!(breaker(&admin, "shop", "products").await["state"], "closed");

    // It hangs: it takes connections and answers nothing.
    products.signal("-STOP");
    until_refused_at_once(&ada, &product).await;
    let opened = breaker(&admin, "shop", "products").await;
    assert!(opened["opened"].as_u64() >= Some(1) && opened["forced"].is_null(), "by itself: {opened}");
    the_rest_works(&admin, &ada, &orders[0]).await;
    // Who needs somebody who is away is there himself: nobody leaves the orders alone.
    assert_eq!(breaker(&admin, "shop", "gateway-orders").await["opened"], 0);

    // It is gone: nobody takes connections.
    products.child.kill().await.expect("it is ours");
    until_refused_at_once(&ada, &product).await;
    eventually("the gateway leaves it alone too", async || {
        let (list, took) = timed(ada.get("/products")).await;
        assert!(list.status.is_server_error() && took < IN_TIME, "{} {took:?}", list.status);
        let status = list.status.as_u16();
        list.problem(status)["type"] == "/problems/circuit-open" && took < AT_ONCE
    })
    .await;
    assert_ne!(breaker(&admin, "shop", "gateway-products").await["state"], "closed");
    the_rest_works(&admin, &ada, &orders[1]).await;

    products.restart(&shop).await;
    eventually("it is used again", async || {
        let (answer, took) = draft(&ada, &product).await;
        assert!(took < IN_TIME, "it took {took:?}");
        answer.status == 201 && breaker(&admin, "shop", "products").await["state"] == "closed"
    })
    .await;
    eventually("the gateway uses it again", async || ada.get("/products").await.status == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_has_its_hands_full_refuses_lists_before_orders_and_always_answers_who_watches_over_it()
 {
    let file = "[calls.products]\ntimeout = \"20s\"\nattempt = \"20s\"\nhedge = false\n\
                [places.orders]\nmax_under_way = 4\nmax_waiting = 0\n";
    let (shop, products) = shop_with(file, "products").await;
    let (admin, ada) = (shop.client().admin().await, shop.client().customer("ada").await);
    let product = admin.product("Lamp", 250, 100).await;
    let order = ada.draft(&product, 1).await;
    products.signal("-STOP");
    let mut hanging = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (ada, product) = (ada.clone(), product.clone());
        hanging.spawn(async move { draft(&ada, &product).await.0 });
    }
    // Three of four places are as many as lists may have.
    eventually("a list is refused", async || {
        let list = ada.get("/orders").await;
        if list.status == 200 {
            return false;
        }
        assert_eq!(list.header("retry-after"), Some("1"));
        list.problem(503)["type"] == "/problems/overloaded"
    })
    .await;
    ada.get(&format!("/orders/{order}")).await.expect(200);
    ada.submit(&order, "tok_ok", "orchestrated").await.expect(202);
    ada.get("/users/me").await.expect(200);
    let room = Client::new(&shop.rooms["orders"]);
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(room.get(path).await.status, 200, "{path}");
    }
    // Shedding is no failure: nobody leaves the orders alone.
    let hop = breaker(&admin, "shop", "gateway-orders").await;
    assert_eq!((&hop["state"], &hop["opened"]), (&json!("closed"), &json!(0)));
    let shed = shop.operator().get("/metrics").await;
    assert!(shed.body.as_str().is_some_and(|all| all.contains("shop_shed{service=\"orders\",criticality=\"sheddable-plus\"} 1")));
    products.signal("-CONT");
    while let Some(drafted) = hanging.join_next().await {
        drafted.expect("it ends").expect(201);
    }
    ada.get("/orders").await.expect(200);
}
