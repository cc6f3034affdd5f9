//! A checkout survives the end of the process before and after each of its commits.
//!
//! The data of a shop are prepared once. For every place to crash at, a shop starts on a copy of them, dies there
//! while an order is made and checked out, and starts again without the switch; the customer repeats under the same
//! keys what was not answered. Commits are counted from the start of the process, so that those of a start are
//! places to crash at too.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::client::{Client, id_of, submission};
use crate::invariants;
use crate::shop::Shop;

/// How many places are tried at a time.
const AT_ONCE: usize = 2;

/// How long one place may take, from the start on a copy to the end of the order.
const PATIENCE: Duration = Duration::from_secs(60);

/// A checkout, and how it ends.
#[derive(Clone, Copy)]
struct Checkout {
    flow: &'static str,
    token: &'static str,
    country: &'static str,
    status: &'static str,
}

const SHIPS: Checkout = Checkout { flow: "", token: "tok_ok", country: "DE", status: "shipped" };
const IS_DECLINED: Checkout = Checkout { token: "tok_declined", status: "cancelled", ..SHIPS };
/// The longest way back: the parcel is refused when the stock is held and the money taken.
const IS_REFUSED: Checkout = Checkout { country: "XX", status: "cancelled", ..SHIPS };

#[tokio::test(flavor = "multi_thread")]
async fn an_orchestrated_order_ships_wherever_the_process_dies() {
    everywhere(Checkout { flow: "orchestrated", ..SHIPS }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_choreographed_order_ships_wherever_the_process_dies() {
    everywhere(Checkout { flow: "choreographed", ..SHIPS }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_order_is_undone_wherever_the_process_dies() {
    everywhere(Checkout { flow: "orchestrated", ..IS_DECLINED }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_choreographed_order_that_cannot_be_sent_is_undone_wherever_the_process_dies() {
    everywhere(Checkout { flow: "choreographed", ..IS_REFUSED }).await;
}

/// What every shop of a test begins with.
struct Prepared {
    shop: Shop,
    product: String,
    ada: Client,
    admin: Client,
}

async fn prepare() -> Prepared {
    let mut shop = Shop::start().await;
    let (admin, ada) = (shop.client().admin().await, shop.client().customer("ada").await);
    let product = admin.product("Lamp", 250, 10).await;
    invariants::hold(&admin, &shop.operator()).await;
    assert_eq!(shop.stop().await, Some(0));
    Prepared { shop, product, ada, admin }
}

/// Tries every place on both sides.
async fn everywhere(checkout: Checkout) {
    let (prepared, began) = (prepare().await, Instant::now());
    let counted = count(&prepared, checkout).await;
    let mut places = 0;
    for (side, commits) in [("before", counted.0), ("after", counted.1)] {
        let at = |n: u64| format!("{side}:{n}");
        let tries = futures_util::stream::iter(1..=commits)
            .map(|n| {
                let prepared = &prepared;
                async move { (n, dies_at(prepared, checkout, &at(n)).await) }
            })
            .buffer_unordered(AT_ONCE);
        let tried: Vec<(u64, bool)> = tries.collect().await;
        let missed: Vec<u64> = tried.into_iter().filter(|(_, died)| !died).map(|(n, _)| n).collect();
        // One run may join what another commits apart, so that only the last places can be beyond its end.
        let first = missed.iter().min().copied().unwrap_or(commits + 1);
        assert!(4 * first > 3 * commits, "{side}: of {commits} commits, these were not met: {missed:?}");
        places += commits - missed.len() as u64;
    }
    assert!(places > 40, "{places} places are too few for a checkout");
    let Checkout { flow, token, country, .. } = checkout;
    println!("{flow} {token} {country}: died at {places} places in {:?}", began.elapsed());
}

/// How many commits begin, and how many are applied, from a start until an order is at rest.
async fn count(prepared: &Prepared, checkout: Checkout) -> (u64, u64) {
    let shop = prepared.shop.copy(None).await;
    let mut customer = Customer::new(prepared, checkout, shop);
    customer.until_ended().await;
    customer.until_still().await;
    customer.commits().await.expect("it has not died")
}

/// Whether the process died where it should; the order comes to its end and all is well, be that as it may.
async fn dies_at(prepared: &Prepared, checkout: Checkout, at: &str) -> bool {
    let shop = prepared.shop.copy(Some(at)).await;
    let mut customer = Customer::new(prepared, checkout, shop);
    customer.until_ended().await;
    if !customer.died {
        customer.until_still().await;
    }
    let died = customer.died;
    if !died {
        // What it is asked from here on is no place to die at.
        customer.shop.kill().await;
        customer.shop.restart().await;
    }
    customer.check(at).await;
    died
}

/// Somebody who wants an order, and repeats under the same keys what was not answered.
struct Customer<'a> {
    prepared: &'a Prepared,
    checkout: Checkout,
    shop: Shop,
    died: bool,
    order: Option<String>,
    began: Instant,
}

impl<'a> Customer<'a> {
    fn new(prepared: &'a Prepared, checkout: Checkout, shop: Shop) -> Self {
        Self { prepared, checkout, shop, died: false, order: None, began: Instant::now() }
    }

    fn ada(&self) -> Client {
        Client { base: self.shop.gateway.clone(), ..self.prepared.ada.clone() }
    }

    fn admin(&self) -> Client {
        Client { base: self.shop.gateway.clone(), ..self.prepared.admin.clone() }
    }

    /// Starts the shop again if it has died.
    async fn revive(&mut self) {
        assert!(self.began.elapsed() < PATIENCE, "order {:?} does not come to rest", self.order);
        if self.shop.has_ended() {
            assert!(!self.died, "it dies again without a switch");
            self.died = true;
            self.shop.restart().await;
        }
    }

    /// Makes the order, submits it, and looks at it until it has ended.
    async fn until_ended(&mut self) {
        let body = self.items();
        let made = self.until_answered("/orders", &body, "order", 201).await;
        let order = id_of(&made);
        self.order = Some(order.clone());
        let Checkout { flow, token, country, .. } = self.checkout;
        let body = submission(token, flow, country);
        self.until_answered(&format!("/orders/{order}/submit"), &body, "submit", 202).await;
        loop {
            self.revive().await;
            let path = format!("/orders/{order}");
            if let Some(shown) = self.ada().send(http::Method::GET, &path, &[], None).await {
                let status = shown.body["status"].as_str().unwrap_or_default();
                if matches!(status, "shipped" | "cancelled") {
                    return;
                }
                assert_ne!(shown.status, 500, "{}", shown.body);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn until_answered(&mut self, path: &str, body: &Value, key: &str, status: u16) -> Value {
        loop {
            self.revive().await;
            match self.ada().try_post(path, body, Some(key)).await {
                Some(answer) if answer.status == status => return answer.body,
                Some(answer) if matches!(answer.status.as_u16(), 502..=504) => {}
                Some(answer) if answer.body["type"] == "/problems/idempotency-key-in-progress" => {}
                Some(answer) => panic!("{path}: {} {}", answer.status, answer.body),
                None => {}
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until nothing is committed any more, or the process dies of it.
    async fn until_still(&mut self) {
        let (mut before, mut same) = (None, 0);
        while same < 10 && !self.died {
            let now = self.commits().await;
            same = if now == before && now.is_some() { same + 1 } else { 0 };
            before = now;
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.revive().await;
        }
    }

    /// How many commits have begun and were applied, if there is an answer.
    async fn commits(&self) -> Option<(u64, u64)> {
        let answer = self.shop.operator().send(http::Method::GET, "/metrics", &[], None).await?;
        let text = answer.body.as_str().expect("a text").to_owned();
        let number = |state: &str| {
            let name = format!("purlin_chaos_commits{{state=\"{state}\"}} ");
            let count = text.lines().find_map(|line| line.strip_prefix(&name)).expect("the count");
            count.parse::<f64>().expect("a number") as u64
        };
        Some((number("begun"), number("applied")))
    }

    fn items(&self) -> Value {
        json!({ "items": [{ "product_id": self.prepared.product, "quantity": 3 }] })
    }

    /// Nothing is lost, nothing done twice.
    async fn check(&self, at: &str) {
        let (order, checkout) = (self.order.clone().expect("an order"), self.checkout);
        let (ada, admin) = (self.ada(), self.admin());
        invariants::hold(&admin, &self.shop.operator()).await;
        let shown = ada.order(&order).await;
        assert_eq!(shown["status"], checkout.status, "{at}: {shown}");
        let again = ada.post_key("/orders", &self.items(), "order").await;
        assert_eq!(again.header("idempotent-replayed"), Some("true"), "{at}");
        assert_eq!(id_of(&again.expect(201)), order, "{at}");
        let orders: Vec<String> = admin.all("/orders").await.iter().map(id_of).collect();
        assert_eq!(orders, [order], "{at}: one wish, one order");
        let stock = if checkout.status == "shipped" { 7 } else { 10 };
        assert_eq!(admin.stock(&self.prepared.product).await, stock, "{at}");
        let dead = self.shop.operator().get("/dead-letters").await.expect(200);
        assert_eq!(dead["items"], json!([]), "{at}");
        assert!(!self.shop.said().contains("panicked"), "{at}");
    }
}
