//! What the inventory service answers to administrators.

use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json as Answer, Router};
use http::StatusCode;
use purlin::http::{Cursors, Decided, Limit, Listing, Path, Problem, Query, Write};
use purlin::message::Uuid;
use purlin::store::{Commit, Query as Rows};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::Inventory;
use super::levels::Level;
use super::shelf::ShelfError;
use crate::contracts::clients::Product;
use crate::contracts::money::Money;
use crate::contracts::numbers::Addition;
use crate::contracts::who::Admin;

const CURSORS: Cursors = Cursors::of("stock");

/// The routes of the inventory service.
pub fn router(inventory: Inventory) -> Router {
    Router::new()
        .route("/products/{id}/stock", post(add))
        .route("/admin/stock", get(list))
        .with_state(inventory)
}

#[derive(Debug, Deserialize)]
struct More {
    add: Addition,
}

#[derive(Debug, Deserialize)]
struct Page {
    #[serde(default)]
    limit: Limit,
    cursor: Option<String>,
}

/// A product as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    id: Uuid,
    name: String,
    price: Money,
    stock: i64,
}

async fn add(
    State(inventory): State<Inventory>,
    Admin(admin): Admin,
    Path(id): Path<Uuid>,
    write: Write<More>,
) -> Response {
    let Write { request, body: More { add: Addition(quantity) } } = write;
    // Nobody else changes shelves from the decision until it is committed.
    let turn = Mutex::new(None);
    let add = async |_| {
        let product = inventory.products.find(&[id]).await?.remove(&id);
        let mut turn = turn.lock().await;
        if turn.is_none() {
            *turn = Some(inventory.stockroom.turn().await);
        }
        inventory.add(id, product.as_ref(), quantity).await
    };
    inventory.base.keys.run(&admin.caller(), &request, add).await
}

async fn list(
    State(inventory): State<Inventory>,
    _: Admin,
    Query(page): Query<Page>,
) -> Result<Answer<Listing<Level>>, Problem> {
    let after = CURSORS.read_optional(page.cursor.as_deref())?;
    let rows = inventory.levels.list(Rows::all().after(after).limit(page.limit.get())).await?;
    let levels = rows.items.into_iter().map(|(_, row)| row);
    let ids: Vec<Uuid> = levels.clone().map(|level| level.product_id).collect();
    // A shelf was opened in vain if what makes the product died before there was one.
    let items = match inventory.products.find(&ids).await {
        Ok(products) => levels.filter(|level| products.contains_key(&level.product_id)).collect(),
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "shelves without a product are shown as well"
            );
            levels.collect()
        }
    };
    Ok(Answer(Listing { items, next: rows.next.map(|key| CURSORS.write(&key)) }))
}

impl Inventory {
    async fn add(&self, id: Uuid, product: Option<&Product>, quantity: i64) -> Result<Decided, Problem> {
        let product = product.ok_or(ShelfError::NotFound)?;
        let filled = self.stockroom.shelves().change(id, |shelf| shelf.add(quantity)).await?;
        let (name, price, stock) = (product.name.clone(), product.price, filled.root.on_hand);
        let commit = Commit::new().append_all(filled.append);
        Decided::new(commit, StatusCode::OK, &Shown { id, name, price, stock })
    }
}
