//! The program itself: how it starts, says where it is, and stops.

use std::process::Stdio;

use serde_json::json;

use crate::client::Client;
use crate::invariants;
use crate::shop::{Shop, program};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_data_is_refused() {
    let shop = Shop::start().await;
    let second = program(&shop.folder).stdout(Stdio::piped()).stderr(Stdio::piped()).output().await.unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains("in use by another process"), "{said}");
    assert!(second.stdout.is_empty());
    shop.client().get("/products").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_while_it_starts_it_stops_cleanly() {
    let folder = std::env::temp_dir().join(format!("shop-it-{}", purlin::message::new_id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut child = program(&folder).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // The lock is the first that it makes; opening its stores takes much longer.
    let stopping = async {
        while !folder.join("data/shop.lock").exists() {
            tokio::task::yield_now().await;
        }
        let id = child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        child.wait().await.unwrap()
    };
    let ended = tokio::time::timeout(std::time::Duration::from_secs(20), stopping).await.unwrap();
    assert_eq!(ended.code(), Some(0), "{ended}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stops_cleanly_and_goes_on_where_it_was() {
    let mut shop = Shop::start().await;
    let (admin, ada) = (shop.client().admin().await, shop.client().customer("ada").await);
    let product = admin.product("Lamp", 250, 100).await;
    let mut orders = Vec::new();
    for flow in ["orchestrated", "choreographed"] {
        for token in ["tok_ok", "tok_slow", "tok_flaky"] {
            let order = ada.draft(&product, 1).await;
            ada.submit(&order, token, flow).await.expect(202);
            orders.push(order);
        }
    }
    assert_eq!(shop.stop().await, Some(0));
    shop.restart().await;
    // The token still holds: its key is kept.
    let (admin, ada) =
        (Client { base: shop.gateway.clone(), ..admin }, Client { base: shop.gateway.clone(), ..ada });
    for order in orders {
        assert_eq!(ada.ended(&order).await["status"], "shipped");
    }
    assert_eq!(admin.all("/products").await.len(), 9, "the catalogue is made once");
    invariants::hold(&admin, &shop.operator()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_made_up_password_is_in_a_file_of_its_own() {
    let folder = std::env::temp_dir().join(format!("shop-it-{}", purlin::message::new_id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut command = program(&folder);
    let mut child = command
        .env_remove("SHOP_ADMIN_PASSWORD")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines =
        tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(child.stdout.take().unwrap()));
    let mut gateway = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some(url) = line.strip_prefix("gateway ") {
            gateway = url.to_owned();
        }
        if line == "ready" {
            break;
        }
    }
    let password = std::fs::read_to_string(folder.join("data/admin-password")).unwrap();
    let client = Client::new(&gateway);
    client.log_in("admin@shop.local", password.trim()).await.get("/admin/ledger").await.expect(200);
    child.kill().await.unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_needs_a_bus_says_so() {
    let folder = std::env::temp_dir().join(format!("shop-it-{}", purlin::message::new_id()));
    std::fs::create_dir_all(&folder).unwrap();
    for (arguments, said) in [
        (vec!["orders"], "reaches no other process"),
        (vec!["--bus", "nats://127.0.0.1:4222"], "knows only `embedded`"),
        (vec!["--store", "mysql://x"], "is not the URL of a store"),
        (vec!["--store", "postgres://x/y?sslmode=sometimes"], "known are disable, prefer, require"),
        (vec!["--rate-limits", "rediss://:secret@x"], "not encrypted"),
        (vec!["--rate-limits", "memcached://:secret@x"], "known are memory: and redis://"),
        (vec!["--colour", "red"], "unexpected argument"),
        (vec!["--listen", "127.0.0.1:0"], "name the role"),
        (vec!["gateway", "--peer", "user=http://127.0.0.1:1"], "there is no role `user`"),
    ] {
        let ended = program(&folder).args(arguments).output().await.unwrap();
        assert!(!ended.status.success());
        let stderr = String::from_utf8(ended.stderr).unwrap();
        assert!(stderr.contains(said), "{stderr}");
        assert!(!stderr.contains("secret"), "{stderr}");
    }
    let help = program(&folder).arg("--help").output().await.unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for option in [
        "--data",
        "--store",
        "--bus",
        "--gateway",
        "--console",
        "--drain",
        "--connections-per-address",
        "--rate-limits",
        "flow-unavailable",
        "SHOP_DATA",
        "[default: 10s]",
    ] {
        assert!(help.contains(option), "{option} is not in {help}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_shows_health_numbers_and_what_is_stuck() {
    let shop = Shop::start().await;
    let operator = shop.operator();
    assert_eq!(operator.get("/livez").await.status, 200);
    assert_eq!(operator.get("/readyz").await.expect(200)["ready"], true);
    assert!(operator.get("/metrics").await.body.as_str().unwrap().contains("# TYPE"));
    for list in ["/sagas/stuck", "/dead-letters"] {
        assert_eq!(operator.get(list).await.expect(200), json!({ "items": [], "next": null }));
        operator.get(&format!("{list}?limit=0")).await.problem(400);
        operator.get(&format!("{list}?cursor=nonsense")).await.problem(400);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_limits_cannot_be_shared_has_its_own_and_says_so() {
    // Nobody listens on port 1.
    let shop =
        Shop::with(&["--rate-limits", "redis://127.0.0.1:1", "--rate", "5", "--rate-burst", "10"]).await;
    let client = shop.client();
    let answers = futures_util::future::join_all((0..20).map(|_| client.get("/products"))).await;
    let passed = answers.iter().filter(|answer| answer.status == 200).count();
    assert!((10..20).contains(&passed), "{passed}");
    let numbers = shop.operator().get("/metrics").await;
    assert!(numbers.body.as_str().unwrap().contains("rate_limits_shared 0"));
    assert!(shop.said().contains("rate limits are not shared"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_lasts_in_memory() {
    let mut shop = Shop::with(&["--store", "memory:"]).await;
    shop.client().customer("ada").await;
    assert_eq!(shop.stop().await, Some(0));
    shop.restart().await;
    shop.client().customer("ada").await;
}
