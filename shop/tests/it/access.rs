//! Who may do what.

use http::Method;
use serde_json::json;

use crate::client::Client;
use crate::shop::Shop;

#[tokio::test(flavor = "multi_thread")]
async fn each_sees_his_own_and_administrators_see_all() {
    let shop = Shop::start().await;
    let (client, admin) = (shop.client(), shop.client().admin().await);
    let (ada, bob) = (client.customer("ada").await, client.customer("bob").await);
    let product = admin.product("Lamp", 250, 10).await;
    let made = ada.post("/orders", &json!({ "items": [{ "product_id": product, "quantity": 1 }] })).await;
    let position = made.header("x-position").unwrap().to_owned();
    let order = crate::client::id_of(&made.expect(201));
    let path = format!("/orders/{order}");

    for path in [&path, &format!("{path}/saga")] {
        bob.get(path).await.problem(404);
    }
    bob.post_empty(&format!("{path}/cancel")).await.problem(404);
    bob.submit(&order, "tok_ok", "orchestrated").await.problem(404);
    let item = json!({ "product_id": product, "quantity": 1 });
    bob.post(&format!("{path}/items"), &item).await.problem(404);
    assert_eq!(admin.order(&order).await["status"], "draft");

    let me = ada.get("/users/me").await.expect(200);
    let whose = format!("/orders?user_id={}", me["id"].as_str().unwrap());
    bob.get(&whose).await.problem(403);
    assert_eq!(bob.all("/orders").await.len(), 0);
    for who in [&ada, &admin] {
        let found = who.get(&format!("{whose}&after={position}")).await.expect(200);
        assert_eq!(found["items"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_administrators_run_the_shop() {
    let shop = Shop::start().await;
    let (client, admin) = (shop.client(), shop.client().admin().await);
    let ada = client.customer("ada").await;
    let bob = client.customer("bob").await.get("/users/me").await.expect(200);
    let product = admin.product("Lamp", 250, 10).await;
    let new = json!({ "name": "Pen", "price": { "amount": 5, "currency": "EUR" }, "stock": 1 });
    let body = |body: &serde_json::Value| Some(body.to_string().into());
    let routes = [
        ("POST", "/products".to_owned(), body(&new)),
        ("PATCH", format!("/products/{product}"), body(&json!({ "name": "Theirs" }))),
        ("POST", format!("/products/{product}/stock"), body(&json!({ "add": 1 }))),
        ("DELETE", format!("/users/{}", bob["id"].as_str().unwrap()), None),
        ("GET", "/admin/ledger".to_owned(), None),
        ("GET", "/admin/breakers".to_owned(), None),
        ("GET", "/admin/stock".to_owned(), None),
        ("GET", "/admin/shipments".to_owned(), None),
    ];
    let mut name = "Lamp";
    for (method, path, body) in routes {
        let send = |who: &Client| {
            let (who, path, body) = (who.clone(), path.clone(), body.clone());
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            async move { who.send(method, &path, &[], body).await.unwrap() }
        };
        send(&ada).await.problem(403);
        send(&client).await.problem(401);
        assert_eq!(admin.get(&format!("/products/{product}")).await.expect(200)["name"], name, "{path}");
        assert!(send(&admin).await.status.is_success(), "{path}");
        name = if method == "PATCH" { "Theirs" } else { name };
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_does_not_hold_is_refused() {
    let shop = Shop::start().await;
    let client = shop.client();
    let ada = client.customer("ada").await;
    let good = ada.token.clone().unwrap();
    let mut parts: Vec<&str> = good.split('.').collect();
    let other = shop.client().admin().await.token.unwrap();
    let foreign: Vec<&str> = other.split('.').collect();
    parts[1] = foreign[1];
    let forged = parts.join(".");
    for token in ["", "nonsense", "a.b.c", &good[..good.len() - 3], &forged] {
        let somebody = Client { token: Some(token.to_owned()), ..client.clone() };
        somebody.get("/users/me").await.problem(401);
        somebody.post("/orders", &json!({ "items": [] })).await.problem(401);
    }
    client.get("/users/me").await.problem(401);
    for (email, password) in [("ada@example.org", "wrong horse"), ("nobody@example.org", "correct horse")] {
        client.post("/sessions", &json!({ "email": email, "password": password })).await.problem(401);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_too_often_waits() {
    let shop = Shop::with(&["--rate", "5", "--rate-burst", "10"]).await;
    let client = shop.client();
    let answers = futures_util::future::join_all((0..20).map(|_| client.get("/products"))).await;
    let limited = answers.iter().find(|answer| answer.status == 429).expect("somebody is limited").clone();
    assert!(limited.header("retry-after").is_some());
    assert_eq!(limited.problem(429)["type"], "/problems/rate-limited");
    assert!(answers.iter().any(|answer| answer.status == 200 && answer.header("ratelimit-limit").is_some()));
}
