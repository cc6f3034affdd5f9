//! Nothing is lost and nothing done twice, however often the process is killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::sync::{Mutex, watch};

use crate::client::{Client, id_of, submission};
use crate::invariants;
use crate::shop::Shop;

/// What the shop has promised.
#[derive(Default)]
struct Promises {
    /// Orders that were accepted.
    made: Vec<String>,
    /// Orders whose submission was accepted.
    submitted: Vec<String>,
    /// Orders whose cancellation was accepted.
    cancelled: Vec<String>,
    /// How much stock was added.
    added: i64,
}

/// How often it is killed; the environment may ask for more.
fn kills() -> u32 {
    std::env::var("SHOP_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(30)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_done_twice_when_the_process_is_killed_again_and_again() {
    let mut shop = Shop::start().await;
    let product = shop.client().admin().await.product("Lamp", 250, 100_000).await;
    shop.client().customer("ada").await;
    let (addresses, address) = watch::channel(Some(shop.gateway.clone()));
    let (promises, stop) = (Arc::new(Mutex::new(Promises::default())), Arc::new(AtomicBool::new(false)));
    let keys = Arc::new(AtomicU64::new(0));
    let mut customers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let work = Customer {
            address: address.clone(),
            promises: Arc::clone(&promises),
            stop: Arc::clone(&stop),
            keys: Arc::clone(&keys),
            product: product.clone(),
        };
        customers.spawn(work.run());
    }
    for kill in 0..kills() {
        // From moments in which hardly anything has begun to such in which much is under way.
        let moment = 20 + (u64::from(kill) * 7919) % 900;
        tokio::time::sleep(Duration::from_millis(moment)).await;
        shop.kill().await;
        addresses.send(None).unwrap();
        shop.restart().await;
        addresses.send(Some(shop.gateway.clone())).unwrap();
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::Release);
    while let Some(ended) = customers.join_next().await {
        ended.expect("a customer does not fail");
    }
    let (admin, promises) = (shop.client().admin().await, promises.lock().await);
    invariants::hold(&admin, &shop.operator()).await;
    for order in &promises.made {
        admin.get(&format!("/orders/{order}")).await.expect(200);
    }
    for order in &promises.submitted {
        let shown = admin.order(order).await;
        assert!(matches!(shown["status"].as_str(), Some("shipped" | "cancelled")), "{shown}");
    }
    for order in &promises.cancelled {
        assert_eq!(admin.order(order).await["status"], "cancelled");
    }
    let levels = admin.all("/admin/stock").await;
    let level = levels.iter().find(|level| level["product_id"] == product.as_str()).unwrap();
    assert_eq!(level["added"].as_i64(), Some(100_000 + promises.added));
    assert!(promises.submitted.len() > 20, "{} orders are too few to mean much", promises.submitted.len());
    let dead = shop.operator().get("/dead-letters").await.expect(200);
    assert_eq!(dead["items"], json!([]));
}

/// Somebody who orders, and asks again under the same key until he is answered.
struct Customer {
    address: watch::Receiver<Option<String>>,
    promises: Arc<Mutex<Promises>>,
    stop: Arc<AtomicBool>,
    keys: Arc<AtomicU64>,
    product: String,
}

impl Customer {
    async fn run(mut self) {
        let mut round = 0;
        while !self.stop.load(Ordering::Acquire) {
            round += 1;
            self.order(round).await;
        }
    }

    async fn order(&mut self, round: u64) {
        let n = self.keys.fetch_add(1, Ordering::Relaxed);
        let token = ["tok_ok", "tok_flaky", "tok_ok", "tok_timeout", "tok_declined", "tok_ok", "tok_slow"]
            [n as usize % 7];
        let flow = if n.is_multiple_of(2) { "orchestrated" } else { "choreographed" };
        let country = if n % 11 == 10 { "XX" } else { "DE" };
        let body = json!({ "items": [{ "product_id": self.product, "quantity": 1 + n % 3 }] });
        let (status, made) = self.until_answered("/orders", &body, &format!("order {n}")).await;
        assert_eq!(status, 201, "{made}");
        let order = id_of(&made);
        self.promises.lock().await.made.push(order.clone());
        let path = format!("/orders/{order}/submit");
        let (status, shown) =
            self.until_answered(&path, &submission(token, flow, country), &format!("submit {n}")).await;
        assert_eq!(status, 202, "{shown}");
        self.promises.lock().await.submitted.push(order.clone());
        if round.is_multiple_of(4) {
            let (status, _) = self
                .until_answered(&format!("/orders/{order}/cancel"), &json!(null), &format!("cancel {n}"))
                .await;
            if status == 202 {
                self.promises.lock().await.cancelled.push(order);
            }
        }
        if round.is_multiple_of(6) {
            let path = format!("/products/{}/stock", self.product);
            let (status, shown) = self.as_admin(&path, &json!({ "add": 7 }), &format!("add {n}")).await;
            assert_eq!(status, 200, "{shown}");
            self.promises.lock().await.added += 7;
        }
    }

    async fn until_answered(
        &mut self,
        path: &str,
        body: &serde_json::Value,
        key: &str,
    ) -> (u16, serde_json::Value) {
        self.ask("ada@example.org", "correct horse", path, body, key).await
    }

    async fn as_admin(
        &mut self,
        path: &str,
        body: &serde_json::Value,
        key: &str,
    ) -> (u16, serde_json::Value) {
        self.ask("admin@shop.local", crate::shop::ADMIN_PASSWORD, path, body, key).await
    }

    /// Asks until there is an answer that decides.
    async fn ask(
        &mut self,
        email: &str,
        password: &str,
        path: &str,
        body: &serde_json::Value,
        key: &str,
    ) -> (u16, serde_json::Value) {
        loop {
            let there = self.address.wait_for(Option::is_some).await.expect("the test goes on").clone();
            let client = Client::new(&there.expect("an address"));
            let session = json!({ "email": email, "password": password });
            let answer = match client.try_post("/sessions", &session, None).await {
                Some(session) if session.status == 201 => {
                    let token = session.body["token"].as_str().map(str::to_owned);
                    Client { token, ..client }.try_post(path, body, Some(key)).await
                }
                _ => None,
            };
            match answer {
                Some(answer)
                    if answer.status.is_server_error()
                        || answer.body["type"] == "/problems/idempotency-key-in-progress" =>
                {
                    assert_ne!(answer.status, 500, "500 is only ever a bug: {}", answer.body);
                }
                Some(answer) => return (answer.status.as_u16(), answer.body),
                None => {}
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// How many commits a checkout has at most, those of read models and of the bus included.
const COMMITS: i64 = 60;

#[tokio::test(flavor = "multi_thread")]
async fn a_checkout_survives_the_end_of_the_process_before_and_after_each_of_its_commits() {
    for flow in ["orchestrated", "choreographed"] {
        let mut shop = Shop::start().await;
        let product = shop.client().admin().await.product("Lamp", 250, 100_000).await;
        shop.client().customer("ada").await;
        for when in ["before", "after"] {
            for commits in 1..=COMMITS {
                let order = crash_at(&mut shop, &product, flow, when, commits).await;
                let Some(order) = order else {
                    assert!(commits > 15, "{flow}: a checkout has more than {commits} commits");
                    break;
                };
                let ada = shop.client().log_in("ada@example.org", "correct horse").await;
                assert_eq!(ada.ended(&order).await["status"], "shipped", "{flow}: {when} commit {commits}");
            }
        }
        invariants::hold(&shop.client().admin().await, &shop.operator()).await;
    }
}

/// An order during whose checkout the process ends at a commit; none if there were not so many.
async fn crash_at(shop: &mut Shop, product: &str, flow: &str, when: &str, commits: i64) -> Option<String> {
    let ada = shop.client().log_in("ada@example.org", "correct horse").await;
    let armed = shop.operator().post("/crash", &json!({ "when": when, "commits": commits })).await;
    assert_eq!(armed.status, 204);
    let body = json!({ "items": [{ "product_id": product, "quantity": 1 }] });
    let key = |what: &str| format!("{what} {flow} {when} {commits}");
    let (mut client, mut crashed) = (ada, false);
    let (mut made, mut submitted) = (None, false);
    for _ in 0..200 {
        let answer = match (&made, submitted) {
            (None, _) => client.try_post("/orders", &body, Some(&key("order"))).await,
            (Some(order), false) => {
                let path = format!("/orders/{order}/submit");
                client.try_post(&path, &submission("tok_ok", flow, "DE"), Some(&key("submit"))).await
            }
            (Some(order), true) => {
                client.send(http::Method::GET, &format!("/orders/{order}"), &[], None).await
            }
        };
        match answer {
            Some(answer) if answer.status == 201 => made = Some(id_of(&answer.body)),
            Some(answer) if answer.status == 202 => submitted = true,
            Some(answer) if answer.body["status"] == "shipped" && crashed => return made,
            Some(answer) if answer.body["status"] == "shipped" => {
                // What follows the end, the read models say, may still be under way.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Some(answer) => assert_ne!(answer.status, 500, "{}", answer.body),
            None => {}
        }
        if shop.has_ended() {
            shop.restart().await;
            let token = client.token.clone();
            client = Client { token, ..shop.client() };
            crashed = true;
        }
    }
    assert!(!crashed, "{flow}: {when} commit {commits}: the order does not end");
    None
}
