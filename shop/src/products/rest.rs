//! What the products service answers to customers and administrators.

use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use axum::{Json as Answer, Router};
use http::StatusCode;
use purlin::http::{Attempt, Cursors, Decided, Limit, Listing, Path, Problem, Query, Write};
use purlin::message::Uuid;
use purlin::store::{Commit, Query as Rows};
use serde::{Deserialize, Deserializer, Serialize};

use super::Products;
use super::catalogue::{Entry, enter};
use super::product::{Product, ProductError};
use crate::contracts::money::Money;
use crate::contracts::numbers::FirstStock;
use crate::contracts::who::Admin;

const CURSORS: Cursors = Cursors::of("products");

/// The routes of the products service.
pub fn router(products: Products) -> Router {
    Router::new()
        .route("/products", get(list).post(create))
        .route("/products/{id}", get(show).patch(change))
        .with_state(products)
}

#[derive(Debug, Deserialize)]
struct Page {
    #[serde(default)]
    limit: Limit,
    cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
struct NewProduct {
    name: String,
    price: Money,
    stock: FirstStock,
}

#[derive(Debug, Deserialize)]
struct Changes {
    #[serde(default, deserialize_with = "given")]
    name: Option<String>,
    #[serde(default, deserialize_with = "given")]
    price: Option<Money>,
}

/// A member that may be left out, but is not null when it is there.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A product as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    id: Uuid,
    name: String,
    price: Money,
    stock: i64,
}

async fn list(
    State(products): State<Products>,
    Query(page): Query<Page>,
) -> Result<Answer<Listing<Shown>>, Problem> {
    let after = CURSORS.read_optional(page.cursor.as_deref())?;
    let rows = products.base.store.list::<Entry>(Rows::all().after(after).limit(page.limit.get())).await?;
    let entries = rows.records.iter().map(|record| record.decode()).collect::<Result<Vec<Entry>, _>>()?;
    let ids: Vec<Uuid> = entries.iter().map(|entry| entry.id).collect();
    let levels = products.inventory.levels(&ids).await?;
    let stock = |id: &Uuid| levels.get(id).copied().unwrap_or_default();
    let items = entries.into_iter().map(|entry| entry.shown(stock(&entry.id))).collect();
    Ok(Answer(Listing { items, next: rows.next.map(|key| CURSORS.write(&key)) }))
}

async fn show(State(products): State<Products>, Path(id): Path<Uuid>) -> Result<Answer<Shown>, Problem> {
    let entry = products.base.store.get::<Entry>(&id.to_string()).await?.ok_or(ProductError::NotFound)?;
    Ok(Answer(entry.shown(products.stock(id).await?)))
}

async fn create(State(products): State<Products>, Admin(admin): Admin, write: Write<NewProduct>) -> Response {
    let Write { request, body } = write;
    products.base.keys.run(&admin.caller(), &request, |attempt| products.create(attempt, &body)).await
}

async fn change(
    State(products): State<Products>,
    Admin(admin): Admin,
    Path(id): Path<Uuid>,
    write: Write<Changes>,
) -> Response {
    let Write { request, body } = write;
    products.base.keys.run(&admin.caller(), &request, |_| products.change(id, &body)).await
}

impl Products {
    async fn create(&self, attempt: Attempt, new: &NewProduct) -> Result<Decided, Problem> {
        let FirstStock(stock) = new.stock;
        let made = self.products.change(attempt.id, |product| product.create(&new.name, new.price)).await?;
        // The stock is there first: a product without stock of its own would be one that nobody can order.
        self.inventory.open(&attempt.key("stock"), attempt.id, stock).await?;
        let commit = enter(Commit::new().append_all(made.append), attempt.id, made.root.state());
        let shown = made.root.state().shown(attempt.id, stock);
        Decided::new(commit, StatusCode::CREATED, &shown)?
            .header(http::header::LOCATION, format!("/products/{}", attempt.id))
    }

    async fn change(&self, id: Uuid, changes: &Changes) -> Result<Decided, Problem> {
        let decide = |product: &Product| product.change(changes.name.as_deref(), changes.price);
        let changed = self.products.change(id, decide).await?;
        let shown = changed.root.state().shown(id, self.stock(id).await?);
        let commit = if changed.append.events.is_empty() {
            Commit::new()
        } else {
            enter(Commit::new().append_all(changed.append), id, changed.root.state())
        };
        Decided::new(commit, StatusCode::OK, &shown)
    }

    /// How many of a product can be ordered.
    async fn stock(&self, id: Uuid) -> Result<i64, Problem> {
        Ok(self.inventory.levels(&[id]).await?.get(&id).copied().unwrap_or_default())
    }
}

impl Entry {
    fn shown(&self, stock: i64) -> Shown {
        Shown { id: self.id, name: self.name.clone(), price: self.price, stock }
    }
}

impl Product {
    fn shown(&self, id: Uuid, stock: i64) -> Shown {
        Shown { id, name: self.name.clone(), price: self.price, stock }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_left_out_or_has_a_value() {
        let read = serde_json::from_str::<Changes>;
        assert!(read(r#"{"name": "Lamp"}"#).is_ok_and(|changes| changes.price.is_none()));
        assert!(read(r#"{"name": null}"#).is_err());
        assert!(read(r#"{"price": null}"#).is_err());
    }
}
