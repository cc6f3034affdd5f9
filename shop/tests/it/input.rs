//! Bad input is refused with the right status, and changes nothing.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::submission;
use crate::shop::Shop;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_as_it_should_be_is_refused_and_changes_nothing() {
    let shop = Shop::start().await;
    let (client, admin) = (shop.client(), shop.client().admin().await);
    let ada = client.customer("ada").await;
    let product = admin.product("Lamp", 250, 10).await;
    let order = ada.draft(&product, 1).await;
    let unknown = "01a20000-0000-7000-8000-000000000000";
    let item = |quantity: Value| json!({ "items": [{ "product_id": product, "quantity": quantity }] });
    let price =
        |amount: Value| json!({ "name": "X", "price": { "amount": amount, "currency": "EUR" }, "stock": 1 });
    let submit = format!("/orders/{order}/submit");
    let cancel = format!("/orders/{order}/cancel");
    let mut without_city = submission("tok_ok", "orchestrated", "DE");
    without_city["ship_to"].as_object_mut().unwrap().remove("city");
    let mut unknown_field = submission("tok_ok", "orchestrated", "DE");
    unknown_field["ship_to"]["planet"] = json!("Mars");
    let mut mapped_flow = submission("tok_ok", "orchestrated", "DE");
    mapped_flow["flow"] = json!({ "choreographed": null });
    let huge_total = admin.product("Moon", i64::MAX, 10).await;
    let cases: Vec<(&str, &str, Value, &[u16])> = vec![
        ("POST", "/orders", item(json!(0)), &[400, 422]),
        ("POST", "/orders", item(json!(-1)), &[400, 422]),
        ("POST", "/orders", item(json!(10_001)), &[400, 422]),
        ("POST", "/orders", item(json!(1.5)), &[400, 422]),
        ("POST", "/orders", item(json!("1")), &[400, 422]),
        ("POST", "/orders", item(json!(1e300)), &[400, 422]),
        ("POST", "/orders", item(json!(null)), &[400, 422]),
        ("POST", "/orders", json!({}), &[400, 422]),
        ("POST", "/orders", json!([]), &[400, 422]),
        ("POST", "/orders", json!([[{ "product_id": product, "quantity": 1 }]]), &[422]),
        ("POST", "/orders", json!({ "items": [[product, 1]] }), &[422]),
        ("POST", "/users", json!(["a@b.c", "A", "12345678"]), &[422]),
        ("POST", submit.as_str(), mapped_flow, &[422]),
        ("POST", "/orders", json!({ "items": [], "note": "x" }), &[400, 422]),
        (
            "POST",
            "/orders",
            json!({ "items": [{ "product_id": product, "quantity": 1, "gift": true }] }),
            &[400, 422],
        ),
        ("POST", "/orders", json!({ "items": [{ "product_id": "x", "quantity": 1 }] }), &[400, 422]),
        ("POST", "/orders", json!({ "items": [{ "product_id": unknown, "quantity": 1 }] }), &[404]),
        ("POST", "/orders", item(json!(11)), &[409]),
        ("POST", "/orders", json!({ "items": [{ "product_id": huge_total, "quantity": 2 }] }), &[422]),
        ("POST", &submit, json!({}), &[400, 422]),
        ("POST", &submit, submission("tok_ok", "improvised", "DE"), &[400, 422]),
        ("POST", &submit, without_city, &[400, 422]),
        ("POST", &submit, unknown_field, &[400, 422]),
        ("POST", &submit, submission(&"t".repeat(100_000), "orchestrated", "DE"), &[422]),
        ("POST", &cancel, json!({ "why": "rain" }), &[422]),
        ("POST", "/users", json!({ "email": "a@b.c", "name": "A", "password": "short" }), &[422]),
        ("GET", "/orders?limit=0", json!(null), &[400, 422]),
        ("GET", "/orders?limit=x", json!(null), &[400, 422]),
        ("GET", "/orders?status=lost", json!(null), &[400, 422]),
        ("GET", "/orders?cursor=abc", json!(null), &[400, 422]),
        ("GET", "/orders?after=abc", json!(null), &[400]),
        ("GET", "/orders?colour=red", json!(null), &[400, 422]),
        ("GET", "/products?cursor=%FF", json!(null), &[400, 422]),
        ("GET", "/orders/nonsense", json!(null), &[404]),
        ("GET", "/nowhere", json!(null), &[404]),
        ("GET", "/mcp", json!(null), &[404]),
        ("DELETE", "/orders", json!(null), &[405]),
        ("GET", "/products/7/stock", json!(null), &[405]),
        ("POST", "/products/7", json!({}), &[405]),
    ];
    for (method, path, body, expected) in cases {
        let body = if body.is_null() { None } else { Some(Bytes::from(body.to_string())) };
        let answer =
            ada.send(Method::from_bytes(method.as_bytes()).unwrap(), path, &[], body.clone()).await.unwrap();
        let status = answer.status.as_u16();
        // Every answer of a service to a write says what its log had come to; what has no route never gets to one.
        let position = method == "POST" && !matches!(status, 404 | 405);
        assert!(!position || answer.header("x-position").is_some(), "{method} {path} {body:?}");
        assert!(expected.contains(&status), "{method} {path} {body:?}: {status} {}", answer.body);
        answer.problem(status);
    }
    for (path, body, expected) in [
        ("/products", price(json!(-1)), 422),
        ("/products", price(json!(1.5)), 422),
        ("/products", price(json!(u64::MAX)), 422),
        ("/products", json!({ "name": "", "price": { "amount": 1, "currency": "EUR" }, "stock": 1 }), 422),
        ("/products", json!({ "name": "X", "price": { "amount": 1, "currency": "USD" }, "stock": 1 }), 422),
        ("/products", json!({ "name": "X", "price": { "amount": 1, "currency": "EUR" }, "stock": -1 }), 422),
        (&format!("/products/{product}/stock"), json!({ "add": 0 }), 422),
        (&format!("/products/{product}/stock"), json!({ "add": -5 }), 422),
        (&format!("/products/{unknown}/stock"), json!({ "add": 5 }), 404),
    ] {
        admin.post(path, &body).await.problem(expected);
    }
    for body in [
        json!({ "email": "x", "name": "X", "password": "correct horse" }),
        json!({ "email": "x@example.org", "name": "X", "password": "short" }),
        json!({ "email": "x@example.org", "name": "X", "password": "correct horse", "role": "admin" }),
    ] {
        client.post("/users", &body).await.problem(422);
    }
    let taken = json!({ "email": "ADA@example.org", "name": "X", "password": "correct horse" });
    client.post("/users", &taken).await.problem(409);
    let empty = ada.post("/orders", &json!({ "items": [] })).await;
    let position = empty.header("x-position").unwrap().to_owned();
    let empty = empty.expect(201);
    let empty = ada
        .post(
            &format!("/orders/{}/submit", crate::client::id_of(&empty)),
            &submission("tok_ok", "orchestrated", "DE"),
        )
        .await;
    let empty = empty.problem(409);
    assert_eq!(
        (&empty["type"], &empty["detail"]),
        (&json!("/problems/empty-order"), &json!("cannot submit an empty order"))
    );
    assert_eq!(ada.order(&order).await["version"], 1);
    let seen = ada.get(&format!("/orders?after={position}")).await.expect(200);
    assert_eq!(seen["items"].as_array().unwrap().len(), 2);
    assert_eq!(admin.stock(&product).await, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_no_json_too_long_or_cut_off_are_refused() {
    let shop = Shop::start().await;
    let ada = shop.client().customer("ada").await;
    for body in ["", "{", "nonsense", "{\"items\": [}", "\u{0}"] {
        let answer = ada.send(Method::POST, "/orders", &[], Some(body.to_owned().into())).await.unwrap();
        answer.problem(400);
    }
    let long = format!("{{\"items\": [], \"x\": \"{}\"}}", "x".repeat(10 << 20));
    if let Some(answer) = ada.send(Method::POST, "/orders", &[], Some(long.into())).await {
        answer.problem(413);
    }
    let mut socket =
        tokio::net::TcpStream::connect(shop.gateway.trim_start_matches("http://")).await.unwrap();
    let token = ada.token.as_ref().unwrap();
    let head = format!(
        "POST /orders HTTP/1.1\r\nhost: shop\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         content-length: 100\r\n\r\n{{\"items\""
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    let mut said = String::new();
    let _ = socket.read_to_string(&mut said).await;
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 400"), "{said}");
    assert_eq!(ada.all("/orders").await.len(), 0);
}
