//! What the shipping service answers to administrators.

use axum::extract::State;
use axum::routing::get;
use axum::{Json as Answer, Router};
use purlin::http::{Cursors, Limit, Listing, Problem, Query};
use purlin::store::Query as Rows;
use serde::Deserialize;

use super::Shipping;
use super::list::Listed;
use crate::contracts::who::Admin;

const CURSORS: Cursors = Cursors::of("shipments");

/// The routes of the shipping service.
pub fn router(shipping: Shipping) -> Router {
    Router::new().route("/admin/shipments", get(list)).with_state(shipping)
}

#[derive(Debug, Deserialize)]
struct Page {
    #[serde(default)]
    limit: Limit,
    cursor: Option<String>,
}

async fn list(
    State(shipping): State<Shipping>,
    _: Admin,
    Query(page): Query<Page>,
) -> Result<Answer<Listing<Listed>>, Problem> {
    let after = CURSORS.read_optional(page.cursor.as_deref())?;
    let rows = shipping.list.list(Rows::all().after(after).limit(page.limit.get())).await?;
    let items = rows.items.into_iter().map(|(_, row)| row).collect();
    Ok(Answer(Listing { items, next: rows.next.map(|key| CURSORS.write(&key)) }))
}
