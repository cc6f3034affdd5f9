//! The operator's socket of a running shop.

use std::time::Duration;

use purlin::service::operator;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::shop::Shop;

#[tokio::test]
async fn a_running_shop_answers_its_operator_on_a_socket_in_the_data_folder() {
    let shop = Shop::start().await;
    let asked = async {
        let mut socket = operator::connect(&shop.folder.join("data")).await.expect("the socket is there");
        let request = b"GET / HTTP/1.1\r\nhost: operator\r\nconnection: close\r\n\r\n";
        socket.write_all(request).await.expect("it takes requests");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.expect("it answers");
        answer
    };
    let answer = tokio::time::timeout(Duration::from_secs(10), asked).await.expect("in time");
    for service in ["users", "products", "inventory", "orders", "payments", "shipping"] {
        assert!(answer.contains(service), "{answer}");
    }
}
