//! A callee that is really away: the products as a process of their own, stopped, killed and started again.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use purlin::service::operator;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::client::{Answer, Client, eventually};
use crate::shop::{Shop, program};

/// How a shop calls the products here: so long may all of a call take.
const CALLS: &str =
    "[calls.products]\ntimeout = \"2s\"\nattempt = \"500ms\"\nbreaker = { timeout = \"1s\" }\n";

/// No request may hang beyond the deadline of the call it makes; the rest is for a busy machine.
const IN_TIME: Duration = Duration::from_secs(6);

/// What waits for nobody is at once.
const AT_ONCE: Duration = Duration::from_secs(1);

/// The process that has the products, and nothing else.
struct Products {
    child: Child,
    folder: PathBuf,
    port: u16,
}

impl Products {
    async fn start(shop: &Shop, port: u16) -> Self {
        let folder = shop.folder.join("apart");
        std::fs::create_dir_all(&folder).expect("a folder");
        let child = spawn(&folder, shop, port).await;
        Self { child, folder, port }
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().expect("it runs").to_string();
        let sent = std::process::Command::new("kill").args([signal, &id]).status().expect("kill runs");
        assert!(sent.success());
    }

    async fn restart(&mut self, shop: &Shop) {
        self.child = spawn(&self.folder, shop, self.port).await;
    }
}

async fn spawn(folder: &Path, shop: &Shop, port: u16) -> Child {
    let mut command: Command = program(folder);
    command.args(["products", "--listen", &format!("127.0.0.1:{port}")]);
    for role in ["users", "inventory", "orders"] {
        command.args(["--peer", &format!("{role}={}", shop.rooms[role])]);
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
    assert_eq!(ready, Ok(true), "the products do not start: {}", said());
    child
}

/// A shop without the products, which are where the port is.
async fn shop_and_products() -> (Shop, Products) {
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let peer = format!("products=http://127.0.0.1:{port}");
    let shop = Shop::configured(CALLS, &["--peer", &peer]).await;
    let products = Products::start(&shop, port).await;
    (shop, products)
}

/// Makes an order, for which the orders must ask the products, and says how long that took.
async fn draft(customer: &Client, product: &str) -> (Answer, Duration) {
    let body = serde_json::json!({ "items": [{ "product_id": product, "quantity": 1 }] });
    let began = Instant::now();
    let answer = customer.post("/orders", &body).await;
    (answer, began.elapsed())
}

async fn breaker(admin: &Client) -> Value {
    let listed = admin.get("/admin/breakers").await.expect(200);
    let found = listed["items"].as_array().expect("a list").iter().find(|one| one["name"] == "products");
    found.cloned().unwrap_or_default()
}

/// Asks for what needs the products until it is refused at once, because they are known to be away.
async fn until_refused_at_once(customer: &Client, product: &str) {
    eventually("it is refused at once", async || {
        let (answer, took) = draft(customer, product).await;
        assert!(took < IN_TIME, "it took {took:?}");
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
    let (shop, mut products) = shop_and_products().await;
    let (admin, ada) = (shop.client().admin().await, shop.client().customer("ada").await);
    let product = admin.product("Lamp", 250, 100).await;
    let mut orders = Vec::new();
    for _ in 0..2 {
        orders.push(ada.draft(&product, 1).await);
    }
    assert_eq!(breaker(&admin).await["state"], "closed");

    // It hangs: it takes connections and answers nothing.
    products.signal("-STOP");
    until_refused_at_once(&ada, &product).await;
    let opened = breaker(&admin).await;
    assert!(opened["opened"].as_u64() >= Some(1) && opened["forced"].is_null(), "by itself: {opened}");
    the_rest_works(&admin, &ada, &orders[0]).await;

    // It is gone: nobody takes connections.
    products.child.kill().await.expect("it is ours");
    until_refused_at_once(&ada, &product).await;
    let began = Instant::now();
    let list = ada.get("/products").await;
    assert!(
        list.status.is_server_error() && began.elapsed() < IN_TIME,
        "{} {:?}",
        list.status,
        began.elapsed()
    );
    list.clone().problem(list.status.as_u16());
    the_rest_works(&admin, &ada, &orders[1]).await;

    products.restart(&shop).await;
    eventually("it is used again", async || {
        let (answer, took) = draft(&ada, &product).await;
        assert!(took < IN_TIME, "it took {took:?}");
        answer.status == 201 && breaker(&admin).await["state"] == "closed"
    })
    .await;
    eventually("the gateway uses it again", async || ada.get("/products").await.status == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_of_a_role_answers_its_operator_on_a_socket_of_its_own() {
    let (shop, products) = shop_and_products().await;
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
