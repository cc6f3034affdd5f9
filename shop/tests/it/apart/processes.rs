//! Several processes: what each has to say is asked of all of them, and done where it belongs.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use purlin::service::operator;
use purlin::testing::free_port;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use super::{AT_ONCE, Apart, breaker, calls, shop_and, spawn, timed};
use crate::client::{Client, eventually};
use crate::shop::{Shop, program};

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
