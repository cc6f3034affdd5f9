//! Nothing is lost and nothing done twice, however often the process is killed.
//!
//! Customers register, order, cancel, and repeat under the same key whatever was not answered, while the process is
//! killed at random moments and started again on the same data. The dice are seeded, and the seed is printed:
//! `SHOP_SEED` throws them again (what the process is doing at a moment is its own affair), `SHOP_KILLS` asks for
//! more.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::client::{Answer, Client, id_of, submission};
use crate::dice::Dice;
use crate::invariants;
use crate::shop::{ADMIN_PASSWORD, Shop};

const CUSTOMERS: u64 = 5;
const PASSWORD: &str = "correct horse";

/// How long somebody repeats a request before he says that the shop does not come back.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a start on the data of a killed process may take, in a build that is not optimised and on a busy machine.
const START: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_done_twice_when_the_process_is_killed_again_and_again() {
    let seed = from_environment("SHOP_SEED").unwrap_or(purlin::message::new_id().as_u128() as u64);
    println!("SHOP_SEED={seed}");
    let mut dice = Dice::new(seed);
    let mut shop = Shop::start().await;
    let product = shop.client().admin().await.product("Lamp", 250, 100_000).await;
    let (addresses, address) = watch::channel(Some(shop.gateway.clone()));
    let town = Arc::new(Town { stop: AtomicBool::new(false), unanswered: AtomicU64::new(0), product });
    let (mut customers, mut supplier) = (JoinSet::new(), JoinSet::new());
    for n in 0..CUSTOMERS {
        let asker = Asker { address: address.clone(), town: Arc::clone(&town), token: None };
        customers.spawn(customer(n, asker, dice.split()));
    }
    let asker = Asker { address, town: Arc::clone(&town), token: None };
    supplier.spawn(supply(asker, dice.split()));
    let mut slowest = Duration::ZERO;
    for _ in 0..from_environment("SHOP_KILLS").unwrap_or(30).max(30) {
        // From moments in which hardly anything has begun to such in which much is under way.
        tokio::time::sleep(Duration::from_millis(dice.below(1000))).await;
        addresses.send(None).unwrap();
        shop.kill().await;
        let began = Instant::now();
        shop.restart().await;
        slowest = slowest.max(began.elapsed());
        addresses.send(Some(shop.gateway.clone())).unwrap();
    }
    town.stop.store(true, Ordering::Release);
    let (promises, added) = (customers.join_all().await, supplier.join_all().await);
    let (admin, operator) = (shop.client().admin().await, shop.operator());
    invariants::hold(&admin, &operator).await;
    let mut orders = 0;
    for made in &promises {
        made.check(&shop.client(), &admin).await;
        orders += made.orders.len();
    }
    let everybodys = admin.all("/orders").await.len();
    assert_eq!(everybodys, orders, "there are orders that nobody was promised");
    let levels = admin.all("/admin/stock").await;
    let level = levels.iter().find(|level| level["product_id"] == town.product.as_str()).unwrap();
    assert_eq!(level["added"].as_i64(), Some(100_000 + added.iter().sum::<i64>()));
    assert_eq!(operator.get("/dead-letters").await.expect(200)["items"], json!([]));
    assert!(!shop.said().contains("panicked"), "something panicked");
    let unanswered = town.unanswered.load(Ordering::Acquire);
    println!("{orders} orders, {unanswered} requests without an answer, the slowest start {slowest:?}");
    assert!(
        orders > 50 && unanswered > 10,
        "{orders} orders, {unanswered} lost answers: too few to mean much"
    );
    assert!(slowest < START, "a start took {slowest:?}");
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// What everybody shares.
struct Town {
    stop: AtomicBool,
    /// How many requests were cut off by a kill, so that whether they had an effect is unknown.
    unanswered: AtomicU64,
    product: String,
}

impl Town {
    fn stops(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

/// What the shop has promised to one customer.
struct Promises {
    email: String,
    user: String,
    token: Option<String>,
    orders: Vec<Promised>,
}

/// An order whose submission was accepted, and what was asked to have it.
struct Promised {
    order: String,
    key: u64,
    items: Value,
    submission: Value,
    /// How it must end.
    status: &'static str,
}

/// A customer: registers once, and orders as long as the test lasts.
async fn customer(n: u64, mut asker: Asker, mut dice: Dice) -> Promises {
    let email = format!("customer-{n}@example.org");
    let account = json!({ "email": email, "name": "A customer", "password": PASSWORD });
    let user = id_of(&asker.ask("/users", &account, &format!("register {n}"), 201).await.body);
    // Once: a token outlives every restart.
    asker.log_in(&email, PASSWORD).await;
    let mut orders = Vec::new();
    while !asker.town.stops() {
        let key = orders.len() as u64;
        orders.push(order(&mut asker, &mut dice, key).await);
    }
    Promises { email, user, token: asker.token, orders }
}

async fn order(asker: &mut Asker, dice: &mut Dice, key: u64) -> Promised {
    let token =
        dice.one_of(&["tok_ok", "tok_ok", "tok_ok", "tok_flaky", "tok_timeout", "tok_slow", "tok_declined"]);
    let country = if dice.below(8) == 0 { "XX" } else { "DE" };
    let flow = dice.one_of(&["orchestrated", "choreographed"]);
    let (quantity, cancels) = (1 + dice.below(3), dice.below(5) == 0);
    let items = json!({ "items": [{ "product_id": asker.town.product, "quantity": quantity }] });
    let submission = submission(token, flow, country);
    let order = id_of(&asker.ask("/orders", &items, &format!("order {key}"), 201).await.body);
    asker.ask(&format!("/orders/{order}/submit"), &submission, &format!("submit {key}"), 202).await;
    let mut status = if token == "tok_declined" || country == "XX" { "cancelled" } else { "shipped" };
    if cancels {
        let answer = asker
            .until_decided(&format!("/orders/{order}/cancel"), &Value::Null, &format!("cancel {key}"))
            .await;
        match answer.status.as_u16() {
            202 => status = "cancelled",
            409 => {
                assert_eq!(status, "shipped", "only what was shipped cannot be cancelled: {}", answer.body);
            }
            _ => panic!("{}", answer.body),
        }
    }
    Promised { order, key, items, submission, status }
}

/// Somebody who adds stock now and then; returns how much.
async fn supply(mut asker: Asker, mut dice: Dice) -> i64 {
    asker.log_in("admin@shop.local", ADMIN_PASSWORD).await;
    let path = format!("/products/{}/stock", asker.town.product);
    let (mut added, mut turn) = (0, 0);
    while !asker.town.stops() {
        let add = 1 + dice.below(9) as i64;
        asker.ask(&path, &json!({ "add": add }), &format!("add {turn}"), 200).await;
        (added, turn) = (added + add, turn + 1);
        tokio::time::sleep(Duration::from_millis(dice.below(300))).await;
    }
    added
}

/// Somebody who repeats a request under its key until he is answered, wherever the shop is by then.
struct Asker {
    address: watch::Receiver<Option<String>>,
    town: Arc<Town>,
    token: Option<String>,
}

impl Asker {
    async fn log_in(&mut self, email: &str, password: &str) {
        let session = json!({ "email": email, "password": password });
        let answer = self.ask("/sessions", &session, &format!("log in {email}"), 201).await;
        self.token = answer.body["token"].as_str().map(str::to_owned);
    }

    async fn ask(&mut self, path: &str, body: &Value, key: &str, status: u16) -> Answer {
        let answer = self.until_decided(path, body, key).await;
        assert_eq!(answer.status.as_u16(), status, "{path}: {}", answer.body);
        answer
    }

    async fn until_decided(&mut self, path: &str, body: &Value, key: &str) -> Answer {
        let began = Instant::now();
        loop {
            let there = self.address.wait_for(Option::is_some).await.expect("the test goes on").clone();
            let client = Client { token: self.token.clone(), ..Client::new(&there.expect("an address")) };
            match client.try_post(path, body, Some(key)).await {
                Some(answer) if answer.is_undecided() => {}
                Some(answer) => return answer,
                None => _ = self.town.unanswered.fetch_add(1, Ordering::AcqRel),
            }
            assert!(began.elapsed() < PATIENCE, "{path}, key `{key}`: no answer that decides");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Answer {
    /// Whether asking again is what one should do.
    fn is_undecided(&self) -> bool {
        matches!(self.status.as_u16(), 502..=504)
            || self.body["type"] == "/problems/idempotency-key-in-progress"
    }
}

impl Promises {
    /// Everything that was promised is there, once.
    async fn check(&self, client: &Client, admin: &Client) {
        let customer = Client { token: self.token.clone(), ..client.clone() };
        assert_eq!(id_of(&customer.get("/users/me").await.expect(200)), self.user);
        client.log_in(&self.email, PASSWORD).await;
        let listed: Vec<String> = customer.all("/orders").await.iter().map(id_of).collect();
        let promised: BTreeSet<&String> = self.orders.iter().map(|promised| &promised.order).collect();
        assert_eq!(listed.iter().collect::<BTreeSet<_>>(), promised, "{}", self.email);
        assert_eq!(listed.len(), self.orders.len(), "{}: an order is listed twice", self.email);
        for promised in &self.orders {
            promised.check(&customer, admin).await;
        }
    }
}

impl Promised {
    async fn check(&self, customer: &Client, admin: &Client) {
        let Self { order, key, items, submission, status } = self;
        let shown = admin.order(order).await;
        assert_eq!(shown["status"], *status, "{submission}: {shown}");
        assert_eq!(shown["items"][0]["quantity"], items["items"][0]["quantity"], "{shown}");
        for (path, body, key) in [
            ("/orders".to_owned(), items, format!("order {key}")),
            (format!("/orders/{order}/submit"), submission, format!("submit {key}")),
        ] {
            let again = customer.post_key(&path, body, &key).await;
            assert_eq!(again.header("idempotent-replayed"), Some("true"), "{}", again.body);
            assert_eq!(id_of(&again.body), *order);
        }
    }
}
