//! The operator's socket of a running shop.

use std::path::Path;
use std::time::Duration;

use purlin::service::operator;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

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
