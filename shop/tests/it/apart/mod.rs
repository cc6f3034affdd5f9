//! A role as a process of its own, stopped, killed and started again; and what the others make of that.

mod callee;
mod ledger;
mod payments;
mod processes;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use purlin::testing::free_port;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::client::{Answer, Client};
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

/// The program, which ends by itself; what it says.
async fn refused(arguments: &[&str], folder: &Path) -> String {
    let ended = program(folder).args(arguments).output();
    let ended =
        tokio::time::timeout(Duration::from_secs(60), ended).await.expect("it ends").expect("it runs");
    assert!(!ended.status.success());
    String::from_utf8(ended.stderr).expect("text")
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
