//! Both flows, with every card that the network knows.

use serde_json::json;

use crate::client::submission;
use crate::invariants;
use crate::shop::Shop;

const FLOWS: [&str; 2] = ["orchestrated", "choreographed"];

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_paid_once_and_shipped_whatever_the_card_does_on_the_way() {
    let shop = Shop::start().await;
    let (admin, ada) = (shop.client().admin().await, shop.client().customer("ada").await);
    let product = admin.product("Lamp", 250, 100).await;
    let mut orders = Vec::new();
    for flow in FLOWS {
        for token in ["tok_ok", "tok_flaky", "tok_slow", "tok_timeout"] {
            let order = ada.draft(&product, 2).await;
            let began = std::time::Instant::now();
            let answer = ada.submit(&order, token, flow).await;
            assert!(began.elapsed().as_secs() < 2, "submit waits for nobody");
            assert_eq!(answer.header("location"), Some(format!("/orders/{order}/saga").as_str()));
            assert!(answer.header("x-position").is_some());
            let shown = answer.expect(202);
            assert_eq!((&shown["status"], &shown["flow"]), (&json!("submitted"), &json!(flow)));
            assert_eq!(shown["total"], json!({ "amount": 500, "currency": "EUR" }));
            orders.push((order, token));
        }
    }
    for (order, token) in &orders {
        let ended = ada.ended(order).await;
        assert_eq!(ended["status"], "shipped", "{token}: {ended}");
        let saga = ada.saga(order).await;
        let steps: Vec<&str> =
            saga["steps"].as_array().unwrap().iter().filter_map(|step| step["name"].as_str()).collect();
        assert_eq!(steps[..3], ["reserve-inventory", "process-payment", "create-shipment"], "{saga}");
    }
    let charges = admin.all("/admin/ledger").await;
    assert_eq!(charges.len(), orders.len(), "one charge for each order: {charges:?}");
    invariants::hold(&admin, &shop.operator()).await;
    assert_eq!(admin.stock(&product).await, 100 - 2 * orders.len() as i64);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_undone_with_a_reason() {
    let shop = Shop::start().await;
    let (admin, ada) = (shop.client().admin().await, shop.client().customer("ada").await);
    let (product, rare) = (admin.product("Lamp", 250, 100).await, admin.product("Clock", 99, 3).await);
    for flow in FLOWS {
        for (token, country, product, failed, said) in [
            ("tok_declined", "DE", &product, "process-payment", "declined"),
            ("tok_insufficient_funds", "DE", &product, "process-payment", "insufficient funds"),
            ("tok_ok", "XX", &product, "create-shipment", "XX"),
        ] {
            let order = ada.draft(product, 2).await;
            let path = format!("/orders/{order}/submit");
            ada.post(&path, &submission(token, flow, country)).await.expect(202);
            let ended = ada.ended(&order).await;
            assert_eq!(ended["status"], "cancelled", "{flow} {token} {country}");
            assert!(ended["reason"].as_str().unwrap().contains(said), "{ended}");
            let saga = ada.saga(&order).await;
            let step = saga["steps"].as_array().unwrap().iter().find(|step| step["name"] == failed).unwrap();
            assert_eq!(step["state"], "failed", "{saga}");
            assert!(step["error"].to_string().contains(said), "{saga}");
        }
        // Two drafts saw the same last pieces; the checkout of the second finds too few.
        let (first, second) = (ada.draft(&rare, 2).await, ada.draft(&rare, 3).await);
        ada.submit(&first, "tok_ok", flow).await.expect(202);
        assert_eq!(ada.ended(&first).await["status"], "shipped");
        ada.submit(&second, "tok_ok", flow).await.expect(202);
        let ended = ada.ended(&second).await;
        assert_eq!(ended["status"], "cancelled");
        assert!(ended["reason"].as_str().unwrap().contains("stock"), "{ended}");
        admin.post(&format!("/products/{rare}/stock"), &json!({ "add": 2 })).await.expect(200);
    }
    invariants::hold(&admin, &shop.operator()).await;
    assert_eq!(admin.stock(&product).await, 100);
    assert_eq!(admin.stock(&rare).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_orders_at_once_sell_no_more_than_there_is() {
    let shop = Shop::start().await;
    let (admin, ada) = (shop.client().admin().await, shop.client().customer("ada").await);
    let product = admin.product("Lamp", 250, 10).await;
    let order = |flow: &'static str| {
        let (ada, product) = (ada.clone(), product.clone());
        async move {
            let order = ada.draft(&product, 3).await;
            ada.submit(&order, "tok_ok", flow).await.expect(202);
            order
        }
    };
    let orders = futures_util::future::join_all((0..12).map(|n| order(FLOWS[n % 2]))).await;
    let mut shipped = 0;
    for order in orders {
        shipped += usize::from(ada.ended(&order).await["status"] == "shipped");
    }
    assert_eq!(shipped, 3);
    invariants::hold(&admin, &shop.operator()).await;
    assert_eq!(admin.stock(&product).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkout_that_is_not_done_in_time_is_given_up() {
    let shop = Shop::with(&["--checkout-deadline", "2s"]).await;
    let (admin, ada) = (shop.client().admin().await, shop.client().customer("ada").await);
    let product = admin.product("Lamp", 250, 10).await;
    for flow in FLOWS {
        let order = ada.draft(&product, 1).await;
        ada.submit(&order, "tok_down", flow).await.expect(202);
        let ended = ada.ended(&order).await;
        assert_eq!(ended["status"], "cancelled");
        assert!(ended["reason"].as_str().unwrap().contains("in time"), "{ended}");
    }
    invariants::hold(&admin, &shop.operator()).await;
    assert_eq!(admin.stock(&product).await, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_network_says_of_one_card_opens_no_breaker() {
    let shop = Shop::start().await;
    let (admin, ada) = (shop.client().admin().await, shop.client().customer("ada").await);
    let product = admin.product("Lamp", 250, 100).await;
    let mut waiting = Vec::new();
    for n in 0..24 {
        let order = ada.draft(&product, 1).await;
        ada.submit(&order, ["tok_down", "tok_slow", "tok_timeout"][n % 3], FLOWS[n % 2]).await.expect(202);
        waiting.push(order);
    }
    for flow in FLOWS {
        let order = ada.draft(&product, 1).await;
        ada.submit(&order, "tok_ok", flow).await.expect(202);
        assert_eq!(ada.ended(&order).await["status"], "shipped", "{flow}");
    }
    for order in waiting {
        // Those that wait for a card that is down are cancelled; the others have shipped, or do.
        let answer = ada.post_empty(&format!("/orders/{order}/cancel")).await;
        assert!(matches!(answer.status.as_u16(), 202 | 409), "{}", answer.body);
        ada.ended(&order).await;
    }
    let breakers = admin.get("/admin/breakers").await.expect(200);
    for breaker in breakers["items"].as_array().unwrap() {
        assert_eq!((&breaker["state"], &breaker["opened"]), (&json!("closed"), &json!(0)), "{breaker}");
    }
    invariants::hold(&admin, &shop.operator()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_everybody_wants_is_sold_to_everybody_without_a_refusal() {
    let shop = Shop::start().await;
    let (admin, ada) = (shop.client().admin().await, shop.client().customer("ada").await);
    let product = admin.product("Lamp", 250, 1000).await;
    let order = |flow: &'static str| {
        let (ada, product) = (ada.clone(), product.clone());
        async move {
            let order = ada.draft(&product, 1).await;
            ada.submit(&order, "tok_ok", flow).await.expect(202);
            order
        }
    };
    let orders = futures_util::future::join_all((0..80).map(|n| order(FLOWS[n % 2]))).await;
    for order in orders {
        assert_eq!(ada.ended(&order).await["status"], "shipped");
    }
    invariants::hold(&admin, &shop.operator()).await;
    assert!(!shop.said().contains("is parked"), "a message lost its race for a shelf");
}

#[tokio::test(flavor = "multi_thread")]
async fn how_an_order_is_paid_and_where_it_goes_is_forgotten_with_its_end() {
    let mut shop = Shop::start().await;
    let (admin, ada) = (shop.client().admin().await, shop.client().customer("ada").await);
    let (product, rare) = (admin.product("Lamp", 250, 100).await, admin.product("Clock", 99, 3).await);
    let (first, second) = (ada.draft(&rare, 2).await, ada.draft(&rare, 3).await);
    for (order, token, country) in [
        (first, "tok_ok", "DE"),
        (second, "tok_ok", "DE"),
        (ada.draft(&product, 1).await, "tok_declined", "DE"),
        (ada.draft(&product, 1).await, "tok_ok", "XX"),
    ] {
        let path = format!("/orders/{order}/submit");
        ada.post(&path, &submission(token, "choreographed", country)).await.expect(202);
        ada.ended(&order).await;
    }
    let waiting = ada.draft(&product, 1).await;
    ada.submit(&waiting, "tok_down", "choreographed").await.expect(202);
    ada.post_empty(&format!("/orders/{waiting}/cancel")).await.expect(202);
    ada.ended(&waiting).await;
    let mut left = Vec::new();
    // What the services hear of the last end may come a little later.
    for _ in 0..5 {
        assert_eq!(shop.stop().await, Some(0));
        left.clear();
        for (service, collection) in [("payments", "payment_terms"), ("shipping", "destinations")] {
            let file = shop.folder.join("data").join(format!("{service}.db"));
            let engine = purlin_sqlite::Sqlite::open(purlin_sqlite::Options::new(file)).await.unwrap();
            let store = purlin::store::Store::new(engine);
            let found = store.list_records(collection, purlin::store::Query::all()).await.unwrap();
            left.extend(found.records.into_iter().map(|record| (service, record.key)));
            store.close().await;
        }
        shop.restart().await;
        if left.is_empty() {
            break;
        }
    }
    assert_eq!(left, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_adds_to_an_order_that_was_submitted_hears_that_first() {
    let shop = Shop::start().await;
    let (admin, ada) = (shop.client().admin().await, shop.client().customer("ada").await);
    let product = admin.product("Lamp", 250, 10).await;
    let order = ada.draft(&product, 1).await;
    ada.submit(&order, "tok_ok", "orchestrated").await.expect(202);
    for (id, quantity) in [(purlin::message::new_id().to_string(), 1), (product, 10_000)] {
        let item = json!({ "product_id": id, "quantity": quantity });
        let refused = ada.post(&format!("/orders/{order}/items"), &item).await.problem(409);
        assert_eq!(refused["type"], "/problems/order-not-draft");
    }
}
