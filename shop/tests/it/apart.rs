//! A callee that is really away: a role as a process of its own, stopped, killed and started again.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use purlin::bus::{Acceptance, FollowerKind, followers};
use purlin::message::Uuid;
use purlin::service::operator;
use purlin::store::{Commit, Position, Revision, Row, Store};
use purlin_sqlite::{Options, Sqlite};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::client::{Answer, Client, eventually};
use crate::invariants;
use crate::shop::{Shop, program};

/// So long a call waits here for products that hang, and no call waits for less. Whoever takes as long has waited for somebody;
/// all else is at once, on a busy machine too.
const AT_ONCE: Duration = Duration::from_secs(2);

/// So long a call waits for payments that hang.
const CHARGE: Duration = Duration::from_secs(5);

/// No request may hang beyond the deadline of the call it makes; the rest is for a busy machine.
const IN_TIME: Duration = Duration::from_secs(6);

/// How a shop calls what is apart here.
fn calls() -> String {
    let (products, payments) = (AT_ONCE.as_millis(), CHARGE.as_millis());
    format!(
        "[calls.products]\ntimeout = \"{products}ms\"\nattempt = \"{products}ms\"\nbreaker = {{ timeout = \"1s\" }}\n\
         [calls.payments]\ntimeout = \"{payments}ms\"\nattempt = \"{payments}ms\"\nbreaker = {{ timeout = \"1s\" }}\n"
    )
}

/// The process that has one role, and nothing else.
struct Apart {
    role: &'static str,
    child: Child,
    folder: PathBuf,
    port: u16,
}

impl Apart {
    async fn start(shop: &Shop, role: &'static str, port: u16) -> Self {
        let folder = shop.folder.join("apart");
        std::fs::create_dir_all(&folder).expect("a folder");
        let child = spawn(&folder, shop, role, port).await;
        Self { role, child, folder, port }
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().expect("it runs").to_string();
        let sent = std::process::Command::new("kill").args([signal, &id]).status().expect("kill runs");
        assert!(sent.success());
    }

    async fn restart(&mut self, shop: &Shop) {
        self.child = spawn(&self.folder, shop, self.role, self.port).await;
    }
}

/// Starts the process of a role that is told where the others are.
async fn spawn(folder: &Path, shop: &Shop, role: &str, port: u16) -> Child {
    let mut command: Command = program(folder);
    command.args([role, "--listen", &format!("127.0.0.1:{port}")]);
    for (other, url) in
        shop.rooms.iter().filter(|(other, _)| !["gateway", "console"].contains(&other.as_str()))
    {
        command.args(["--peer", &format!("{other}={url}")]);
    }
    let stderr = std::fs::File::create(folder.join("stderr")).expect("a file");
    let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().expect("the program starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let ready = async {
        while let Some(line) = lines.next_line().await.expect("a line") {
            if line == "ready" {
                return true;
            }
        }
        false
    };
    let ready = tokio::time::timeout(Duration::from_secs(60), ready).await;
    let said = || std::fs::read_to_string(folder.join("stderr")).unwrap_or_default();
    assert_eq!(ready, Ok(true), "the {role} do not start: {}", said());
    child
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port()
}

/// A shop without a role, which is a process of its own.
async fn shop_and(role: &'static str) -> (Shop, Apart) {
    shop_with(&calls(), role).await
}

/// The same, as this file says.
async fn shop_with(file: &str, role: &'static str) -> (Shop, Apart) {
    let port = free_port();
    let peer = format!("{role}=http://127.0.0.1:{port}");
    let shop = Shop::configured(file, &["--peer", &peer]).await;
    let apart = Apart::start(&shop, role, port).await;
    (shop, apart)
}

/// Makes an order, for which the orders must ask the products, and says how long that took.
async fn draft(customer: &Client, product: &str) -> (Answer, Duration) {
    let body = json!({ "items": [{ "product_id": product, "quantity": 1 }] });
    let began = Instant::now();
    let answer = customer.post("/orders", &body).await;
    (answer, began.elapsed())
}

/// Asks for something, and says how long that took.
async fn timed(asked: impl Future<Output = Answer>) -> (Answer, Duration) {
    let began = Instant::now();
    (asked.await, began.elapsed())
}

/// How a breaker of a process stands, as administrators see it.
async fn breaker(admin: &Client, process: &str, name: &str) -> Value {
    let listed = admin.get("/admin/breakers").await.expect(200);
    let mut items = listed["items"].as_array().expect("a list").iter();
    items.find(|one| one["name"] == name && one["process"] == process).cloned().unwrap_or_default()
}

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

/// With the payments away: orders are taken and wait, and everything else is as it was.
async fn orders_are_taken(shop: &Shop, admin: &Client, ada: &Client, product: &str) -> Vec<String> {
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let (drafted, took) = draft(ada, product).await;
        assert!(took < AT_ONCE, "a draft took {took:?}");
        let order = crate::client::id_of(&drafted.expect(201));
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
async fn all_ship(shop: &Shop, admin: &Client, ada: &Client, orders: &[String]) {
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

#[tokio::test(flavor = "multi_thread")]
async fn breakers_of_all_processes_are_seen_and_held_where_they_are() {
    let (shop, mut products) = shop_and("products").await;
    let (admin, ada) = (shop.client().admin().await, shop.client().customer("ada").await);
    let product = admin.product("Lamp", 250, 100).await;
    ada.draft(&product, 1).await;
    let both = async |name: &str| {
        let listed = admin.get("/admin/breakers").await.expect(200);
        assert_eq!(listed["unreached"], json!([]));
        let items = listed["items"].as_array().expect("a list").clone();
        let of = items.into_iter().filter(|one| one["name"] == name);
        of.map(|one| (one["process"].as_str().expect("a name").to_owned(), one)).collect::<Vec<_>>()
    };
    // The orders ask the inventory in one process, the products in the other.
    let of: Vec<String> = both("inventory").await.into_iter().map(|(process, _)| process).collect();
    assert_eq!(of, ["shop", "products"]);
    let hops: Vec<String> = both("gateway-orders").await.into_iter().map(|(process, _)| process).collect();
    assert_eq!(hops, ["shop"]);

    let why = json!({ "reason": "the shelves are counted" });
    let ambiguous = admin.post("/admin/breakers/inventory/open", &why).await.problem(409);
    assert_eq!(ambiguous["type"], "/problems/breaker-ambiguous");
    let held = admin.post("/admin/breakers/inventory/open?process=products", &why).await.expect(200);
    assert_eq!((&held["process"], &held["forced"]), (&json!("products"), &json!("open")));
    for (process, one) in both("inventory").await {
        assert_eq!(one["state"], if process == "products" { "open" } else { "closed" }, "{one}");
        if process == "products" {
            assert!(one["forced_by"].as_str().is_some_and(|by| by.starts_with("administrator ")), "{one}");
            assert_eq!(one["forced_why"], "the shelves are counted");
        }
    }
    // It is held where it is: the products cannot ask, the orders can.
    let list = ada.get("/products").await.problem(503);
    assert_eq!(list["type"], "/problems/circuit-open");
    ada.draft(&product, 1).await;
    let endpoint = format!("127.0.0.1:{}", products.port);
    admin.post_empty(&format!("/admin/breakers/inventory/reset?process={endpoint}")).await.expect(200);
    ada.get("/products").await.expect(200);

    // Of its own hop too; not of the way to these very answers.
    admin.post("/admin/breakers/gateway-products/open", &why).await.expect(200);
    let refused = ada.get("/products").await;
    assert!(refused.header("retry-after").is_some());
    assert_eq!(refused.problem(503)["type"], "/problems/circuit-open");
    ada.get("/orders").await.expect(200);
    admin.post_empty("/admin/breakers/gateway-products/reset").await.expect(200);
    ada.get("/products").await.expect(200);
    let refused = admin.post("/admin/breakers/gateway-breakers/open", &why).await.problem(409);
    assert_eq!(refused["type"], "/problems/breaker-needed");

    // Who does not answer is named; what was asked of him is not taken for nothing.
    products.child.kill().await.expect("it is ours");
    let (listed, took) = timed(admin.get("/admin/breakers")).await;
    let listed = listed.expect(200);
    assert!(took < 3 * AT_ONCE, "{took:?}");
    assert_eq!(listed["unreached"][0]["process"], "products");
    assert_eq!(listed["unreached"][0]["endpoint"], endpoint);
    admin.post_empty("/admin/breakers/nobody/open").await.problem(503);
    // Nor is it guessed that he has none of the name.
    let unsure = admin.post_empty("/admin/breakers/card-network/open").await.problem(503);
    assert!(unsure["detail"].as_str().is_some_and(|detail| detail.contains("?process=shop")), "{unsure}");
    assert_eq!(unsure["unreached"][0]["endpoint"], endpoint);
    assert_eq!(breaker(&admin, "shop", "card-network").await["state"], "closed");
    for verb in ["open", "reset"] {
        let path = format!("/admin/breakers/card-network/{verb}?process=shop");
        admin.post_empty(&path).await.expect(200);
    }
    products.restart(&shop).await;
    eventually("it answers again", async || {
        admin.post_empty("/admin/breakers/nobody/open").await.status == 404
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_processes_of_a_role_are_asked_alike_and_each_is_known_by_all_its_addresses() {
    let (here, there) = (free_port(), free_port());
    let peers = [
        format!("products=http://127.0.0.1:{here}"),
        format!("products=http://localhost:{here}"),
        format!("products=http://127.0.0.1:{there}"),
    ];
    let shop =
        Shop::configured(&calls(), &["--peer", &peers[0], "--peer", &peers[1], "--peer", &peers[2]]).await;
    let _one = Apart::start(&shop, "products", here).await;
    let folder = shop.folder.join("another");
    std::fs::create_dir_all(&folder).expect("a folder");
    let child = spawn(&folder, &shop, "products", there).await;
    let another = Apart { role: "products", child, folder, port: there };
    let admin = shop.client().admin().await;
    let listed = admin.get("/admin/breakers").await.expect(200);
    assert_eq!(listed["unreached"], json!([]));

    // Each is waited for as long as one alone would be.
    another.signal("-STOP");
    let (listed, took) = timed(admin.get("/admin/breakers")).await;
    let listed = listed.expect(200);
    assert!(took < 3 * AT_ONCE, "{took:?}");
    let unreached = listed["unreached"].as_array().expect("a list");
    assert_eq!(unreached.len(), 1, "{unreached:?}");
    assert_eq!(unreached[0]["endpoint"], format!("127.0.0.1:{there}"));
    let held = format!("/admin/breakers/inventory/open?process=localhost:{here}");
    let held = admin.post_empty(&held).await.expect(200);
    assert_eq!((&held["process"], &held["forced"]), (&json!("products"), &json!("open")));
    another.signal("-CONT");
}

/// The program, which ends by itself; what it says.
async fn refused(arguments: &[&str], folder: &Path) -> String {
    let ended = program(folder).args(arguments).output();
    let ended =
        tokio::time::timeout(Duration::from_secs(60), ended).await.expect("it ends").expect("it runs");
    assert!(!ended.status.success());
    String::from_utf8(ended.stderr).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_were_paid_are_paid_with_no_payments_that_know_nothing_of_it() {
    let (mut shop, mut payments) = shop_and("payments").await;
    let (admin, ada) = (shop.client().admin().await, shop.client().customer("ada").await);
    let product = admin.product("Lamp", 250, 100).await;
    // The money was taken, and nobody has said so yet.
    let order = ada.draft(&product, 1).await;
    ada.submit(&order, "tok_slow", "orchestrated").await.expect(202);
    eventually("it is being paid", async || {
        let ledger = admin.get("/admin/ledger").await.expect(200);
        ledger["items"]
            .as_array()
            .is_some_and(|entries| entries.iter().any(|one| one["order_id"] == order.as_str()))
    })
    .await;
    shop.kill().await;
    payments.child.kill().await.expect("it is ours");

    // With all in one process it would be taken again.
    let said = refused(&[], &shop.folder).await;
    assert!(said.contains("the orders here were paid with payments that are elsewhere"), "{said}");
    assert!(!shop.folder.join("data/payments.db").exists(), "and nothing is in the way of those that know");

    // Nor is it taken again by others that are apart.
    let folder = shop.folder.join("empty");
    std::fs::create_dir_all(&folder).expect("a folder");
    shop.restart().await;
    let mut empty = spawn(&folder, &shop, "payments", payments.port).await;
    let (admin, ada) =
        (Client { base: shop.gateway.clone(), ..admin }, Client { base: shop.gateway.clone(), ..ada });
    eventually("they refuse to be paid", async || {
        let said = std::fs::read_to_string(folder.join("stderr")).expect("a file");
        said.contains("has paid in another ledger")
    })
    .await;
    assert_eq!(admin.get("/admin/ledger").await.expect(200)["items"], json!([]));
    assert_eq!(ada.order(&order).await["status"], "submitted");
    empty.kill().await.expect("it is ours");

    // Those that know are the right ones.
    payments.restart(&shop).await;
    all_ship(&shop, &admin, &ada, &[order]).await;
}

/// Which payments these are, as they keep it.
#[derive(serde::Serialize, serde::Deserialize)]
struct Ledger {
    id: Uuid,
}

impl Row for Ledger {
    const COLLECTION: &'static str = "ledger";
}

/// The store of a shop that does not run.
async fn store_of(shop: &Shop, name: &str) -> Store {
    let file = shop.folder.join("data").join(format!("{name}.db"));
    Store::new(Sqlite::open(Options::new(file)).await.expect("a store"))
}

/// Sweeps away what a shop that does not run has in a store.
fn lose(shop: &Shop, name: &str) {
    for file in std::fs::read_dir(shop.folder.join("data")).expect("a folder") {
        let file = file.expect("a file");
        if file.file_name().to_string_lossy().starts_with(&format!("{name}.db")) {
            std::fs::remove_file(file.path()).expect("it is lost");
        }
    }
}

/// Lets the relay of payments that were lost go on with their new log, as `purlin store accept --service payments --after 0
/// --yes` does.
async fn accept_the_payments(shop: &Shop) {
    let (bus, payments) = (store_of(shop, "bus").await, store_of(shop, "payments").await);
    let relays = followers(&bus).await.expect("they are read");
    let relay = relays.into_iter().find(|one| one.kind == FollowerKind::Relay && one.name == "payments");
    let relay = relay.expect("it has copied");
    assert_ne!(relay.log.log, payments.log_id().log);
    let accepted = Acceptance::of_successor(&bus, &relay, &payments, Position::START).await;
    accepted.expect("it may").apply().await.expect("it goes on");
    bus.close().await;
    payments.close().await;
}

/// How many charges the card network has for each of some orders.
async fn charges(shop: &Shop, admin: &Client, orders: &[String]) -> Vec<usize> {
    let admin = Client { base: shop.gateway.clone(), ..admin.clone() };
    let ledger = admin.all("/admin/ledger").await;
    let of = |order: &String| ledger.iter().filter(|entry| entry["order_id"] == order.as_str()).count();
    orders.iter().map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_card_network_lost_as_well_nobody_is_charged_again_for_what_the_bus_still_says() {
    let mut shop = Shop::start().await;
    let (admin, ada) = (shop.client().admin().await, shop.client().customer("ada").await);
    let product = admin.product("Lamp", 250, 100).await;
    let is_paid = async |shop: &Shop| {
        let ada = Client { base: shop.gateway.clone(), ..ada.clone() };
        let order = ada.draft(&product, 1).await;
        ada.submit(&order, "tok_ok", "choreographed").await.expect(202);
        assert_eq!(ada.ended(&order).await["status"], "shipped");
        order
    };
    let old = is_paid(&shop).await;
    // The orders know their ledger by an orchestrated one.
    let other = ada.draft(&product, 1).await;
    ada.submit(&other, "tok_ok", "orchestrated").await.expect(202);
    assert_eq!(ada.ended(&other).await["status"], "shipped");
    assert_eq!(shop.stop().await, Some(0));
    let payments = store_of(&shop, "payments").await;
    payments.define::<Ledger>().await.expect("a collection");
    let ledger =
        payments.get::<Ledger>("own").await.expect("it is read").expect("it is there").id.to_string();
    payments.close().await;

    lose(&shop, "payments");
    lose(&shop, "card-network");
    shop.restart_with(&["--payments-ledger", &ledger]).await;
    assert_eq!(shop.stop().await, Some(0));
    accept_the_payments(&shop).await;
    shop.restart_with(&[]).await;
    // A message behind all that is on the bus: they have heard the rest before.
    let new = is_paid(&shop).await;
    assert_eq!(charges(&shop, &admin, &[old, new]).await, [0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_that_know_nothing_or_too_little_are_taken_only_if_the_operator_says_so() {
    let mut shop = Shop::start().await;
    let (admin, ada) = (shop.client().admin().await, shop.client().customer("ada").await);
    let product = admin.product("Lamp", 250, 100).await;
    let is_paid = async |shop: &Shop, flow: &str| {
        let ada = Client { base: shop.gateway.clone(), ..ada.clone() };
        let order = ada.draft(&product, 1).await;
        ada.submit(&order, "tok_ok", flow).await.expect(202);
        assert_eq!(ada.ended(&order).await["status"], "shipped");
        order
    };
    let mut orders = vec![is_paid(&shop, "orchestrated").await, is_paid(&shop, "choreographed").await];
    assert_eq!(shop.stop().await, Some(0));

    // A backup of the time before ledgers.
    let payments = store_of(&shop, "payments").await;
    payments.define::<Ledger>().await.expect("a collection");
    let ledger =
        payments.get::<Ledger>("own").await.expect("it is read").expect("it is there").id.to_string();
    payments.commit(Commit::new().delete::<Ledger>("own", Revision::Any)).await.expect("it is gone");
    payments.close().await;
    let said = refused(&[], &shop.folder).await;
    assert!(said.contains(&format!("--payments-ledger {ledger}")), "{said}");
    shop.restart_with(&["--payments-ledger", &ledger]).await;
    orders.push(is_paid(&shop, "choreographed").await);
    assert_eq!(shop.stop().await, Some(0));

    lose(&shop, "payments");
    let said = refused(&[], &shop.folder).await;
    assert!(said.contains(&format!("--payments-ledger {ledger}")), "{said}");
    let other = purlin::message::new_id().to_string();
    let said = refused(&["--payments-ledger", &other], &shop.folder).await;
    assert!(said.contains(&format!("the orders here were paid in the ledger {ledger}")), "{said}");
    shop.restart_with(&["--payments-ledger", &ledger]).await;
    orders.push(is_paid(&shop, "orchestrated").await);
    eventually("what they say is not published: it is another log", async || {
        shop.said().contains("the relay of `payments` knows incarnation")
    })
    .await;
    assert_eq!(shop.stop().await, Some(0));

    accept_the_payments(&shop).await;
    shop.restart_with(&[]).await;
    for flow in ["choreographed", "orchestrated"] {
        orders.push(is_paid(&shop, flow).await);
    }
    assert_eq!(charges(&shop, &admin, &orders).await, vec![1; orders.len()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_apart_shows_and_holds_its_own_breakers_and_those_of_the_others() {
    let (shop, products) = shop_and("products").await;
    let (port, folder) = (free_port(), shop.folder.join("gateway"));
    std::fs::create_dir_all(&folder).expect("a folder");
    let mut command = program(&folder);
    command.args(["gateway", "--listen", &format!("127.0.0.1:{port}")]);
    let peers =
        shop.rooms.iter().filter(|(role, _)| !["gateway", "console", "products"].contains(&role.as_str()));
    for (role, url) in peers {
        command.args(["--peer", &format!("{role}={url}")]);
    }
    command.args(["--peer", &format!("products=http://127.0.0.1:{}", products.port)]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the program starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    while lines.next_line().await.expect("a line").expect("it becomes ready") != "ready" {}

    let admin = Client { base: format!("http://127.0.0.1:{port}"), ..shop.client().admin().await };
    let listed = admin.get("/admin/breakers").await.expect(200);
    assert_eq!(listed["unreached"], json!([]));
    let mut processes: Vec<&str> = listed["items"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["process"].as_str())
        .collect();
    processes.dedup();
    processes.sort_unstable();
    assert_eq!(processes, ["gateway", "products", "shop"], "each process once");

    let hop = "/admin/breakers/gateway-products";
    admin.post_empty(&format!("{hop}/open")).await.problem(409);
    admin.post_empty(&format!("{hop}/open?process=gateway")).await.expect(200);
    assert_eq!(admin.get("/products").await.problem(503)["type"], "/problems/circuit-open");
    shop.client().get("/products").await.expect(200);
    admin.post_empty(&format!("{hop}/reset?process=gateway")).await.expect(200);
    admin.get("/products").await.expect(200);
    child.kill().await.expect("it is ours");
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

#[tokio::test(flavor = "multi_thread")]
async fn the_process_of_a_role_answers_its_operator_on_a_socket_of_its_own() {
    let (shop, products) = shop_and("products").await;
    shop.client().admin().await.product("Lamp", 250, 100).await;
    let asked = async |folder: &Path, path: &str| {
        let mut socket = operator::connect(folder).await.expect("the socket is there");
        let request = format!("GET {path} HTTP/1.1\r\nhost: operator\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.expect("it takes requests");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.expect("it answers");
        answer
    };
    let (of_role, of_shop) = (products.folder.join("data/products"), shop.folder.join("data"));
    let within = Duration::from_secs(10);
    let asked = async {
        assert!(asked(&of_role, "/").await.contains(r#"{"services":["products"]}"#));
        let breakers = asked(&of_role, "/breakers").await;
        assert!(breakers.contains(r#""name":"inventory""#), "{breakers}");
        assert!(asked(&of_role, "/calls").await.contains("inventory"));
        let rest = asked(&of_shop, "/").await;
        assert!(rest.contains("orders") && !rest.contains("products"), "{rest}");
    };
    tokio::time::timeout(within, asked).await.expect("in time");
}
