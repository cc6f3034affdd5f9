//! The operator's socket of a running shop.

use std::path::Path;
use std::time::Duration;

use purlin::service::operator;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::eventually;
use crate::shop::Shop;

/// What a running shop answers to a request of its operator's.
async fn ask(data: &Path, method: &str, path: &str) -> String {
    let asked = async {
        let mut socket = operator::connect(data).await.expect("the socket is there");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: operator\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.expect("it takes requests");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.expect("it answers");
        answer
    };
    tokio::time::timeout(Duration::from_secs(10), asked).await.expect("in time")
}

#[tokio::test]
async fn a_running_shop_answers_its_operator_on_a_socket_in_the_data_folder() {
    let shop = Shop::start().await;
    let answer = ask(&shop.folder.join("data"), "GET", "/").await;
    for service in ["users", "products", "inventory", "orders", "payments", "shipping"] {
        assert!(answer.contains(service), "{answer}");
    }
}

#[tokio::test]
async fn who_follows_a_log_that_was_restored_is_shown_and_let_go_on_while_the_shop_runs() {
    let mut shop = Shop::start().await;
    let data = shop.folder.join("data");
    let (client, admin) = (shop.client(), shop.client().admin().await);
    let ada = client.customer("ada").await;
    let product = admin.product("Lamp", 250, 10).await;
    let backup = shop.folder.join("orders.backup");
    let made = ask(&data, "POST", &format!("/orders/store/backup?to={}", backup.display())).await;
    assert!(made.starts_with("HTTP/1.1 200"), "{made}");
    let order = ada.draft(&product, 1).await;
    ada.submit(&order, "tok_ok", "choreographed").await;
    assert_eq!(ada.ended(&order).await["status"], "shipped");
    let followers = ask(&data, "GET", "/followers").await;
    assert!(
        followers.contains(r#""kind":"relay""#) && followers.contains(r#""follows":"bus""#),
        "{followers}"
    );
    assert!(!followers.contains(r#""lag":null"#) && !followers.contains(r#""refuses":true"#), "{followers}");

    assert_eq!(shop.stop().await, Some(0));
    for suffix in ["", "-wal", "-shm", ".lock"] {
        let _ = std::fs::remove_file(data.join(format!("orders.db{suffix}")));
    }
    purlin_sqlite::restore(&backup, data.join("orders.db")).await.expect("a store");
    shop.restart().await;
    let followers = ask(&data, "GET", "/followers").await;
    assert!(followers.contains(r#""refuses":true"#), "{followers}");
    let accept = "/followers/accept?service=bus&kind=relay&name=orders&after=0&dry_run=false";
    // Whoever is refused tries again meanwhile.
    eventually("the relay is let go on", async || {
        ask(&data, "POST", accept).await.starts_with("HTTP/1.1 200")
    })
    .await;
    let bob = shop.client().customer("bob").await;
    let order = bob.draft(&product, 1).await;
    bob.submit(&order, "tok_ok", "choreographed").await;
    assert_eq!(bob.ended(&order).await["status"], "shipped");
}

#[tokio::test]
async fn a_file_that_is_read_again_holds_as_a_whole_or_not_at_all() {
    let shop = Shop::configured("[places.orders]\nmax_under_way = 7\n", &[]).await;
    let (data, file) = (shop.folder.join("data"), shop.folder.join("shop.toml"));
    let reload = async |text: &str| {
        std::fs::write(&file, text).expect("a file");
        ask(&data, "POST", "/calls/reload").await
    };
    for (wrong, key) in [
        (
            "[calls.users]\ntimeout = \"9s\"\n[places.orders]\nmax_under_way = 0\n",
            "`places.orders.max_under_way`",
        ),
        ("[calls.users]\ntimeout = \"9s\"\n[places.nobody]\nmax_under_way = 1\n", "`places.nobody`"),
        (
            "[calls.payments]\nretry = { max_attempts = 5 }\n[places.orders]\nmax_under_way = 9\n",
            "`calls.payments.retry`",
        ),
    ] {
        let answer = reload(wrong).await;
        assert!(answer.starts_with("HTTP/1.1 422") && answer.contains(key), "{answer}");
    }
    let right = "[calls.users]\ntimeout = \"9s\"\n[places.orders]\nmax_under_way = 9\n";
    let answer = reload(right).await;
    assert!(
        answer.contains(r#""changed":["users"]"#) && answer.contains(r#""also":["places.orders"]"#),
        "{answer}"
    );
    let again = reload(right).await;
    assert!(again.contains(r#""changed":[]"#) && again.contains(r#""also":[]"#), "{again}");
}
