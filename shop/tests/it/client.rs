//! A client of the shop's public API.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client as Hyper;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

/// Somebody who talks to the shop; with a token once he has logged in.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) http: Hyper<HttpConnector, Full<Bytes>>,
    pub(crate) base: String,
    pub(crate) token: Option<String>,
}

/// What the shop answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    /// The body, if the status is as expected.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self.body
    }

    /// Checks that this is a problem as RFC 9457 says it, of a status.
    #[track_caller]
    pub(crate) fn problem(self, status: u16) -> Value {
        let kind = self.headers.get("content-type").cloned();
        let body = self.expect(status);
        assert_eq!(
            kind.as_ref().map(|kind| kind.as_bytes()),
            Some(&b"application/problem+json"[..]),
            "{body}"
        );
        for member in ["type", "title", "detail", "instance", "trace_id"] {
            assert!(body[member].is_string(), "`{member}` is missing: {body}");
        }
        assert_eq!(body["status"], status, "{body}");
        assert_eq!(body["trace_id"].as_str().map(str::len), Some(32), "{body}");
        assert!(body["type"].as_str().is_some_and(|kind| kind.starts_with("/problems/")), "{body}");
        body
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl Client {
    pub(crate) fn new(base: &str) -> Self {
        let http = Hyper::builder(TokioExecutor::new()).build_http();
        Self { http, base: base.to_owned(), token: None }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], None).await.expect("the shop answers")
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.try_post(path, body, None).await.expect("the shop answers")
    }

    pub(crate) async fn post_key(&self, path: &str, body: &Value, key: &str) -> Answer {
        self.try_post(path, body, Some(key)).await.expect("the shop answers")
    }

    pub(crate) async fn post_empty(&self, path: &str) -> Answer {
        self.send(Method::POST, path, &[], Some(Bytes::new())).await.expect("the shop answers")
    }

    /// A post that may meet a shop that is not there.
    pub(crate) async fn try_post(&self, path: &str, body: &Value, key: Option<&str>) -> Option<Answer> {
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let headers: Vec<(&str, &str)> = key.map(|key| ("idempotency-key", key)).into_iter().collect();
        self.send(Method::POST, path, &headers, Some(body)).await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Bytes>,
    ) -> Option<Answer> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.unwrap_or_default())).expect("a request");
        let response = tokio::time::timeout(Duration::from_secs(70), self.http.request(request)).await;
        let response = response.ok()?.ok()?;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.ok()?.to_bytes();
        let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| text());
        Some(Answer { status: parts.status, headers: parts.headers, body })
    }

    /// The same client, logged in.
    pub(crate) async fn log_in(&self, email: &str, password: &str) -> Self {
        let body = json!({ "email": email, "password": password });
        let session = self.post("/sessions", &body).await.expect(201);
        Self { token: session["token"].as_str().map(str::to_owned), ..self.clone() }
    }

    /// A new customer, logged in.
    pub(crate) async fn customer(&self, name: &str) -> Self {
        let email = format!("{name}@example.org");
        let body = json!({ "email": email, "name": name, "password": "correct horse" });
        self.post("/users", &body).await.expect(201);
        self.log_in(&email, "correct horse").await
    }

    pub(crate) async fn admin(&self) -> Self {
        self.log_in("admin@shop.local", crate::shop::ADMIN_PASSWORD).await
    }

    /// Makes a product, and gives its id.
    pub(crate) async fn product(&self, name: &str, cents: i64, stock: i64) -> String {
        let body = json!({ "name": name, "price": { "amount": cents, "currency": "EUR" }, "stock": stock });
        id_of(&self.post("/products", &body).await.expect(201))
    }

    pub(crate) async fn stock(&self, product: &str) -> i64 {
        self.get(&format!("/products/{product}")).await.expect(200)["stock"].as_i64().expect("stock")
    }

    /// Makes a draft, and gives its id.
    pub(crate) async fn draft(&self, product: &str, quantity: u32) -> String {
        let body = json!({ "items": [{ "product_id": product, "quantity": quantity }] });
        id_of(&self.post("/orders", &body).await.expect(201))
    }

    /// Submits an order.
    pub(crate) async fn submit(&self, order: &str, token: &str, flow: &str) -> Answer {
        self.post(&format!("/orders/{order}/submit"), &submission(token, flow, "DE")).await
    }

    pub(crate) async fn order(&self, order: &str) -> Value {
        self.get(&format!("/orders/{order}")).await.expect(200)
    }

    pub(crate) async fn saga(&self, order: &str) -> Value {
        self.get(&format!("/orders/{order}/saga")).await.expect(200)
    }

    /// The order once it has ended.
    pub(crate) async fn ended(&self, order: &str) -> Value {
        let began = Instant::now();
        loop {
            let shown = self.order(order).await;
            if matches!(shown["status"].as_str(), Some("shipped" | "cancelled")) {
                return shown;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "it does not end: {shown}");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Everything of a list, page by page.
    pub(crate) async fn all(&self, path: &str) -> Vec<Value> {
        let (mut items, mut cursor) = (Vec::new(), String::new());
        loop {
            let mut page = self.get(&format!("{path}?limit=100{cursor}")).await.expect(200);
            items.append(page["items"].as_array_mut().expect("a list has items"));
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return items,
            }
        }
    }
}

pub(crate) fn submission(token: &str, flow: &str, country: &str) -> Value {
    json!({
        "payment": { "token": token }, "flow": flow,
        "ship_to": { "name": "Ada", "street": "Lane 1", "city": "Town", "postcode": "12345", "country": country },
    })
}

pub(crate) fn id_of(shown: &Value) -> String {
    shown["id"].as_str().expect("an id").to_owned()
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < Duration::from_secs(30), "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}
