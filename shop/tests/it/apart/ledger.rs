//! Payments that know nothing of the money that was taken, or too little: nobody pays twice.

use purlin::bus::{Acceptance, FollowerKind, followers};
use purlin::message::Uuid;
use purlin::store::{Commit, Position, Revision, Row, Store};
use purlin_sqlite::{Options, Sqlite};
use serde_json::json;

use super::payments::all_ship;
use super::{refused, shop_and, spawn};
use crate::client::{Client, eventually};
use crate::shop::Shop;

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
