//! Stores in PostgreSQL that were put back: what an operator is told, and what he does.

use purlin::bus::Bus;
use purlin::message::Envelope;
use purlin::store::{Commit, Expected, Position, Store, StreamId};

use crate::process::{Folder, purlin};
use crate::server::Server;

async fn open(server: &Server, name: &str) -> Store {
    purlin_postgres::open(server.url(), name).await.expect("a store")
}

/// Appends to the orders, and publishes that.
async fn publish(orders: &Store, bus: &Store, events: u64) {
    for _ in 0..events {
        let stream = StreamId::new("order", 1).expect("a stream");
        let event = Envelope::raw("order.placed", "1").public();
        orders.commit(Commit::new().append(stream, Expected::Any, [event])).await.expect("a commit");
    }
    let (mut published, copies) = (bus.watch(), Position(bus.head().0 + events));
    tokio::select! {
        ended = Bus::embedded(bus.clone()).relay("orders", orders) => panic!("{ended:?}"),
        seen = published.wait_for(|head| *head >= copies) => drop(seen.expect("the bus is open")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_goes_on_with_a_log_that_was_put_back_when_it_is_told_to() {
    let Some(server) = Server::start() else { return };
    let (data, url) = (Folder::new(), server.url());
    let (orders, bus) = (open(&server, "orders").await, open(&server, "bus").await);
    publish(&orders, &bus, 3).await;
    let dump = server.file("dump");
    server.program("pg_dump", &["--schema=orders", "--format=custom", "--file", &dump, "postgres"]);
    publish(&orders, &bus, 2).await;
    orders.close().await;
    bus.close().await;
    server.program("pg_restore", &["--clean", "--dbname=postgres", &dump]);
    let doctor = purlin(&data, &format!("doctor --store {url}")).await;
    let line = doctor.out.lines().find(|line| line.contains("orders: store")).unwrap_or_default();
    assert!(line.starts_with("warn") && line.contains("put back"), "{}", doctor.out);
    let refuses = purlin(&data, &format!("store accept --store {url}")).await;
    assert!(refuses.out.contains("orders    relay"), "{}{}", refuses.out, refuses.err);
    let accepted =
        purlin(&data, &format!("store accept --store {url} --service orders --after 3 --yes")).await;
    assert_eq!(accepted.status, 0, "{}", accepted.err);
    let (orders, bus) = (open(&server, "orders").await, open(&server, "bus").await);
    publish(&orders, &bus, 1).await;
    assert_eq!((orders.head(), bus.head()), (Position(4), Position(6)));
    orders.close().await;
    bus.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_noticed_an_operator_says() {
    let Some(server) = Server::start() else { return };
    let (data, url) = (Folder::new(), server.url());
    let orders = open(&server, "orders").await;
    let id = orders.log_id();
    let begin = async |how: &str| purlin(&data, &format!("store new-incarnation --store {url} {how}")).await;
    let asked = begin("--service orders").await;
    assert!(asked.status == 1 && asked.err.contains("--yes"), "{}", asked.err);
    let used = begin("--service orders --yes").await;
    assert!(used.status == 1 && used.err.contains("in use"), "{}", used.err);
    orders.close().await;
    assert_eq!(begin("--service none --yes").await.status, 3);
    assert_eq!(begin("--yes").await.status, 2, "of which store");
    let done = begin("--service orders --yes").await;
    assert_eq!(done.status, 0, "{}", done.err);
    let orders = open(&server, "orders").await;
    assert!(orders.log_id().log == id.log && orders.log_id() != id);
    orders.close().await;

    purlin_sqlite::open(data.path().join("orders.db")).await.expect("a store").close().await;
    let file = purlin(&data, "store new-incarnation --service orders --yes").await;
    assert!(file.status == 1 && file.err.contains("purlin store restore"), "{}", file.err);
}
