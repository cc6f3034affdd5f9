//! One key, one effect, one answer.

use http::Method;
use serde_json::json;

use crate::client::{id_of, submission};
use crate::invariants;
use crate::shop::Shop;

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_at_once_and_later_has_one_effect_and_one_answer() {
    let mut shop = Shop::start().await;
    let (admin, ada) = (shop.client().admin().await, shop.client().customer("ada").await);
    let product = admin.product("Lamp", 250, 10).await;
    let body = json!({ "items": [{ "product_id": product, "quantity": 1 }] });
    let answers = futures_util::future::join_all((0..8).map(|_| ada.post_key("/orders", &body, "k-1"))).await;
    let made: Vec<_> = answers.iter().filter(|answer| answer.status == 201).collect();
    assert!(!made.is_empty());
    for answer in &answers {
        match answer.status.as_u16() {
            201 => assert_eq!(id_of(&answer.body), id_of(&made[0].body)),
            _ => assert_eq!(answer.clone().problem(409)["type"], "/problems/idempotency-key-in-progress"),
        }
    }
    let again = ada.post_key("/orders", &body, "k-1").await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.header("x-position"), made[0].header("x-position"));
    let seen = format!("/orders?after={}", again.header("x-position").unwrap());
    let order = id_of(&again.expect(201));
    assert_eq!(ada.get(&seen).await.expect(200)["items"].as_array().unwrap().len(), 1);

    let other = json!({ "items": [] });
    let reused = ada.post_key("/orders", &other, "k-1").await.problem(422);
    assert_eq!(reused["type"], "/problems/idempotency-key-reused");
    let reused = ada.post_key(&format!("/orders/{order}/cancel"), &json!({}), "k-1").await.problem(422);
    assert_eq!(reused["type"], "/problems/idempotency-key-reused");

    // Another caller's key of the same name is another key.
    let bob = shop.client().customer("bob").await;
    assert_ne!(id_of(&bob.post_key("/orders", &body, "k-1").await.expect(201)), order);

    // Keys outlive the process.
    shop.kill().await;
    shop.restart().await;
    let ada = shop.client().log_in("ada@example.org", "correct horse").await;
    let again = ada.post_key("/orders", &body, "k-1").await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(id_of(&again.expect(201)), order);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_submits_at_once_without_a_key_one_wins() {
    let shop = Shop::start().await;
    let (admin, ada) = (shop.client().admin().await, shop.client().customer("ada").await);
    let product = admin.product("Lamp", 250, 1000).await;
    for flow in ["orchestrated", "choreographed"] {
        for _ in 0..5 {
            let order = ada.draft(&product, 1).await;
            let submits = (0..4).map(|_| ada.submit(&order, "tok_ok", flow));
            let mut statuses: Vec<u16> =
                futures_util::future::join_all(submits).await.iter().map(|a| a.status.as_u16()).collect();
            statuses.sort_unstable();
            assert_eq!(statuses, [202, 409, 409, 409]);
            ada.ended(&order).await;
        }
    }
    invariants::hold(&admin, &shop.operator()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_write_takes_a_key() {
    let shop = Shop::start().await;
    let (client, admin) = (shop.client(), shop.client().admin().await);
    let ada = client.customer("ada").await;
    let product = admin.product("Lamp", 250, 100).await;
    let order = ada.draft(&product, 1).await;
    let user = json!({ "email": "eve@example.org", "name": "Eve", "password": "correct horse" });
    let session = json!({ "email": "eve@example.org", "password": "correct horse" });
    let new = json!({ "name": "Pen", "price": { "amount": 5, "currency": "EUR" }, "stock": 1 });
    let writes = [
        (&client, "POST", "/users".to_owned(), user, 201),
        (&client, "POST", "/sessions".to_owned(), session, 201),
        (&admin, "POST", "/products".to_owned(), new, 201),
        (&admin, "PATCH", format!("/products/{product}"), json!({ "name": "Lamp 2" }), 200),
        (&admin, "POST", format!("/products/{product}/stock"), json!({ "add": 5 }), 200),
        (&ada, "POST", "/orders".to_owned(), json!({ "items": [] }), 201),
        (
            &ada,
            "POST",
            format!("/orders/{order}/items"),
            json!({ "product_id": product, "quantity": 1 }),
            200,
        ),
        (&ada, "POST", format!("/orders/{order}/submit"), submission("tok_ok", "orchestrated", "DE"), 202),
    ];
    for (number, (who, method, path, body, status)) in writes.into_iter().enumerate() {
        let key = format!("key {number}");
        let send = async || {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let headers = [("idempotency-key", key.as_str())];
            who.send(method, &path, &headers, Some(body.to_string().into())).await
        };
        let (first, second) = (send().await.unwrap(), send().await.unwrap());
        assert_eq!(first.header("idempotent-replayed"), None, "{path}");
        assert_eq!(second.header("idempotent-replayed"), Some("true"), "{path}");
        assert!(first.header("x-position").is_some(), "{path}");
        assert_eq!(first.header("x-position"), second.header("x-position"), "{path}");
        let body = first.expect(status);
        assert_eq!(second.expect(status), body, "{path}");
    }
    assert_eq!(admin.get(&format!("/products/{product}")).await.expect(200)["name"], "Lamp 2");
    ada.ended(&order).await;
    let cancelled = ada.post_key(&format!("/orders/{order}/cancel"), &json!(null), "c").await;
    assert_eq!(cancelled.problem(409)["type"], "/problems/order-shipped");
    assert_eq!(admin.stock(&product).await, 103);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_stands_for_one_request_whichever_service_has_it() {
    let mut shop = Shop::start().await;
    let (admin, ada) = (shop.client().admin().await, shop.client().customer("ada").await);
    let new = json!({ "name": "Pen", "price": { "amount": 5, "currency": "EUR" }, "stock": 7 });
    let (add, empty) = (json!({ "add": 5 }), json!({ "items": [] }));
    let pen = id_of(&admin.post_key("/products", &new, "made").await.expect(201));
    let stock = format!("/products/{pen}/stock");
    admin.post_key(&stock, &add, "added").await.expect(200);
    admin.post_key("/orders", &empty, "ordered").await.expect(201);
    let user = json!({ "email": "eve@example.org", "name": "Eve", "password": "correct horse" });
    ada.post_key("/users", &user, "registered").await.expect(201);
    let again = json!({ "email": "eva@example.org", "name": "Eva", "password": "correct horse" });
    ada.post_key("/orders", &empty, "begun").await.expect(201);
    let writes = [
        (&admin, stock.as_str(), &add, "made"),
        (&admin, "/orders", &empty, "made"),
        (&admin, "/products", &new, "added"),
        (&admin, "/orders", &empty, "added"),
        (&admin, "/products", &new, "ordered"),
        (&admin, stock.as_str(), &add, "ordered"),
        (&admin, "/users", &again, "ordered"),
        (&ada, "/orders", &empty, "registered"),
        (&ada, "/users", &again, "begun"),
    ];
    // A customer's orders ask nobody about his keys, until he uses one elsewhere.
    let asked = async || shop.operator().get("/metrics").await.body.as_str().unwrap().to_owned();
    let bea = shop.client().customer("bea").await;
    let before = calls(&asked().await);
    bea.post_key("/orders", &empty, "b").await.expect(201);
    assert_eq!(calls(&asked().await), before);
    ada.post_key("/orders", &empty, "a").await.expect(201);
    assert_eq!(calls(&asked().await), before + 1);
    for life in 0..2 {
        for (who, path, body, key) in writes {
            let who = if life == 0 {
                who.clone()
            } else {
                crate::client::Client { base: shop.gateway.clone(), ..who.clone() }
            };
            let reused = who.post_key(path, body, key).await.problem(422);
            assert_eq!(reused["type"], "/problems/idempotency-key-reused", "{path} {key} in life {life}");
        }
        if life == 0 {
            // Those whose key it is get their answer, whoever else has tried it.
            let replayed = admin.post_key("/products", &new, "made").await;
            assert_eq!(replayed.header("idempotent-replayed"), Some("true"));
            shop.kill().await;
            shop.restart().await;
        }
    }
    assert_eq!(shop.client().stock(&pen).await, 12);
    // The same key of somebody else is another one.
    let bob = shop.client().customer("bob").await;
    bob.post_key("/orders", &empty, "made").await.expect(201);
}

/// How often the users service was asked about keys.
fn calls(metrics: &str) -> u64 {
    let line = "purlin_calls_total{callee=\"keys-users\",outcome=\"ok\"} ";
    metrics
        .lines()
        .find_map(|text| text.strip_prefix(line))
        .map_or(0, |count| count.parse().expect("a count"))
}
