//! Orders a second through the gateway: the whole shop as one process, from an empty draft to `shipped`.
//!
//! Each customer makes an order of one item and submits it, one request after the other, over loopback. An order
//! counts when it has shipped: the time ends when the last one has. The latency is that of the submission.

mod client;
mod shop;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use purlin_bench::{Bench, Figure, Reading, Session, Unit};
use serde_json::json;
use tokio::task::JoinSet;

use client::Client;
use shop::Shop;

pub(crate) const BENCH: Bench =
    Bench { name: "orders", about: "orders a second through the gateway, until they have shipped", run };

/// Products on sale: customers do not all want the same one.
const PRODUCTS: usize = 64;

fn run(session: &mut Session) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut started = None;
    for flow in ["orchestrated", "choreographed"] {
        for customers in [1, 16, 64] {
            let case = format!("{flow} {customers}");
            if !session.wants(&case) {
                continue;
            }
            let (_shop, people) = match &started {
                Some(started) => started,
                None => started.insert(runtime.block_on(open(session))?),
            };
            let duration = session.duration();
            let figure = Figure::new(BENCH.name, &case, Unit::PerSecond("orders"))
                .ours(|| runtime.block_on(people.buy(flow, customers, duration)));
            session.figure(&case, figure)?;
        }
    }
    Ok(())
}

/// A running shop, and people in it.
async fn open(session: &Session) -> Result<(Shop, People)> {
    let shop = Shop::start(&session.folder("orders")?).await?;
    let admin = Client::new(&shop.gateway).log_in("admin@shop.local", shop::ADMIN_PASSWORD).await?;
    let mut products = Vec::new();
    for n in 0..PRODUCTS {
        let price = json!({ "amount": 1299, "currency": "EUR" });
        let product = json!({ "name": format!("Lamp {n}"), "price": price, "stock": 10_000_000 });
        products.push(admin.post("/products", &product).await?.text("id")?);
    }
    let mut customers = Vec::new();
    for n in 0..64 {
        let (email, password) = (format!("customer{n}@example.com"), "a good password");
        let user = json!({ "email": email, "name": "Customer", "password": password });
        admin.post("/users", &user).await?;
        customers.push(Client::new(&shop.gateway).log_in(&email, password).await?);
    }
    Ok((shop, People { admin, customers, products }))
}

struct People {
    admin: Client,
    customers: Vec<Client>,
    products: Vec<String>,
}

impl People {
    async fn buy(&self, flow: &'static str, customers: usize, time: Duration) -> Result<Reading> {
        let start = Instant::now();
        let mut buying = JoinSet::new();
        for (n, customer) in self.customers.iter().take(customers).enumerate() {
            let (customer, products) = (customer.clone(), self.products.clone());
            buying.spawn(async move {
                let mut waits = Vec::new();
                while start.elapsed() < time {
                    let product = &products[(n * 7 + waits.len()) % products.len()];
                    waits.push(order(&customer, product, flow).await?);
                }
                anyhow::Ok(waits)
            });
        }
        let mut waits = Vec::new();
        while let Some(bought) = buying.join_next().await {
            waits.extend(bought??);
        }
        let accepted = start.elapsed();
        self.all_shipped().await?;
        let shipped = start.elapsed();
        ensure!(!waits.is_empty(), "no order was made in time");
        waits.sort_by(f64::total_cmp);
        let at = |part: f64| waits[((waits.len() - 1) as f64 * part).round() as usize];
        Ok(Reading::from(waits.len() as f64 / shipped.as_secs_f64())
            .with("accepted/s", waits.len() as f64 / accepted.as_secs_f64())
            .with("p50 ms", at(0.5))
            .with("p99 ms", at(0.99)))
    }

    /// Waits until no order is under way.
    async fn all_shipped(&self) -> Result<()> {
        for status in ["submitted", "confirmed"] {
            loop {
                let page = self.admin.get(&format!("/orders?status={status}&limit=1")).await?;
                if page.body["items"].as_array().context("a list of orders")?.is_empty() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        Ok(())
    }
}

/// Makes and submits an order; how long the submission took, in milliseconds.
async fn order(customer: &Client, product: &str, flow: &str) -> Result<f64> {
    let draft = json!({ "items": [{ "product_id": product, "quantity": 1 }] });
    let id = customer.post("/orders", &draft).await?.text("id")?;
    let ship_to =
        json!({ "name": "Ada", "street": "1 Lane", "city": "Town", "postcode": "1", "country": "DE" });
    let submission = json!({ "payment": { "token": "tok_ok" }, "ship_to": ship_to, "flow": flow });
    let start = Instant::now();
    customer.post(&format!("/orders/{id}/submit"), &submission).await?;
    Ok(start.elapsed().as_secs_f64() * 1000.0)
}
