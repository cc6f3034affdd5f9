//! What must hold whenever the shop is at rest, checked from outside: over the public API and the ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::{Client, id_of};

/// Waits until every order has ended or is listed as stuck, and checks every invariant.
pub(crate) async fn hold(admin: &Client, operator: &Client) {
    let began = Instant::now();
    let mut wrong = vec!["nothing was looked at".to_owned()];
    // Read models and sisters may follow by up to 10 s; a checkout may wait for its next attempt as long.
    while !wrong.is_empty() && began.elapsed() < Duration::from_secs(60) {
        wrong = violations(admin, operator).await;
        if !wrong.is_empty() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    assert!(wrong.is_empty(), "after {:?}:\n{}", began.elapsed(), wrong.join("\n"));
}

async fn violations(admin: &Client, operator: &Client) -> Vec<String> {
    let listed = admin.all("/orders").await;
    let stuck: BTreeSet<String> = operator.get("/sagas/stuck").await.expect(200)["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(id_of)
        .collect();
    let mut wrong = Vec::new();
    let mut orders = Vec::new();
    for row in &listed {
        let order = admin.order(&id_of(row)).await;
        let id = id_of(&order);
        for member in ["status", "version", "total", "items", "user_id", "reason", "flow", "submitted_at"] {
            if order[member] != row[member] {
                wrong.push(format!(
                    "order {id}: `{member}` is {} in the list, {}",
                    row[member], order[member]
                ));
            }
        }
        if matches!(order["status"].as_str(), Some("submitted" | "confirmed")) && !stuck.contains(&id) {
            wrong.push(format!("order {id} is {} and not listed as stuck", order["status"]));
        }
        check_history(&order, &mut wrong);
        orders.push(order);
    }
    check_money(&orders, &admin.all("/admin/ledger").await, &mut wrong);
    check_shipments(&orders, &admin.all("/admin/shipments").await, &mut wrong);
    check_stock(&orders, &admin.all("/admin/stock").await, &admin.all("/products").await, &mut wrong);
    wrong
}

/// Each event once, in an order that an order can have.
fn check_history(order: &Value, wrong: &mut Vec<String>) {
    let id = id_of(order);
    let kinds: Vec<&str> = order["history"]
        .as_array()
        .expect("a history")
        .iter()
        .filter_map(|event| event["kind"].as_str())
        .collect();
    for kind in ["submitted", "confirmed", "shipped", "cancelled"] {
        if kinds.iter().filter(|known| **known == kind).count() > 1 {
            wrong.push(format!("order {id}: {kind} more than once: {kinds:?}"));
        }
    }
    let has = |kind| kinds.contains(&kind);
    if has("shipped") && (has("cancelled") || has("cancel_requested")) {
        wrong.push(format!("order {id} was shipped and cancelled: {kinds:?}"));
    }
    if order["status"] == "cancelled" && !order["reason"].is_string() {
        wrong.push(format!("order {id} was cancelled without a reason"));
    }
}

fn check_money(orders: &[Value], ledger: &[Value], wrong: &mut Vec<String>) {
    let mut moved: BTreeMap<String, (i64, usize)> = BTreeMap::new();
    for entry in ledger {
        let (sum, charges) =
            moved.entry(entry["order_id"].as_str().expect("an order").to_owned()).or_default();
        let amount = entry["amount"]["amount"].as_i64().expect("an amount");
        match entry["kind"].as_str() {
            Some("charge") => (*sum, *charges) = (*sum + amount, *charges + 1),
            _ => *sum -= amount,
        }
    }
    for order in orders {
        let id = id_of(order);
        let (sum, charges) = moved.remove(&id).unwrap_or_default();
        let due = match order["status"].as_str() {
            Some("confirmed" | "shipped") => order["total"]["amount"].as_i64().expect("a total"),
            _ => 0,
        };
        if sum != due {
            wrong.push(format!("order {id} ({}) has paid {sum}, not {due}", order["status"]));
        }
        if charges > 1 {
            wrong.push(format!("order {id} was charged {charges} times"));
        }
    }
    for id in moved.keys() {
        wrong.push(format!("money moved for order {id}, which there is not"));
    }
}

fn check_shipments(orders: &[Value], shipments: &[Value], wrong: &mut Vec<String>) {
    let mut made = BTreeSet::new();
    for shipment in shipments.iter().filter(|shipment| shipment["state"] == "created") {
        made.insert(shipment["order_id"].as_str().expect("an order").to_owned());
    }
    for order in orders {
        let id = id_of(order);
        match (order["status"].as_str(), made.remove(&id)) {
            (Some("confirmed" | "shipped"), false) => wrong.push(format!("order {id} has no shipment")),
            (Some("cancelled" | "draft"), true) => wrong.push(format!("order {id} has a shipment")),
            _ => {}
        }
    }
    for id in made {
        wrong.push(format!("there is a shipment for order {id}, which there is not"));
    }
}

fn check_stock(orders: &[Value], levels: &[Value], products: &[Value], wrong: &mut Vec<String>) {
    let mut shipped: BTreeMap<String, i64> = BTreeMap::new();
    for order in orders.iter().filter(|order| order["status"] == "shipped") {
        for item in order["items"].as_array().expect("items") {
            let product = item["product_id"].as_str().expect("a product").to_owned();
            *shipped.entry(product).or_default() += item["quantity"].as_i64().expect("a quantity");
        }
    }
    let is_open = |order: &&Value| matches!(order["status"].as_str(), Some("submitted" | "confirmed"));
    let open = orders.iter().filter(is_open).count();
    let stock: BTreeMap<String, i64> =
        products.iter().map(|product| (id_of(product), product["stock"].as_i64().expect("stock"))).collect();
    for level in levels {
        let product = level["product_id"].as_str().expect("a product").to_owned();
        let number = |name: &str| level[name].as_i64().expect("a number");
        let (on_hand, reserved, left, added) =
            (number("on_hand"), number("reserved"), number("shipped"), number("added"));
        if on_hand + reserved + left != added || on_hand < 0 || reserved < 0 || left < 0 {
            wrong.push(format!("product {product}: {on_hand} + {reserved} + {left} is not {added}"));
        }
        let expected = shipped.get(&product).copied().unwrap_or_default();
        if left != expected {
            wrong.push(format!("product {product}: {left} have left, {expected} are in shipped orders"));
        }
        if open == 0 && reserved != 0 {
            wrong.push(format!("product {product}: {reserved} are held for nobody"));
        }
        if let Some(stock) = stock.get(&product).filter(|stock| **stock != on_hand) {
            wrong.push(format!("product {product}: {stock} are shown, {on_hand} are on hand"));
        }
    }
}
