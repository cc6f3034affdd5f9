//! What the payments service answers to administrators.

use axum::extract::State;
use axum::routing::get;
use axum::{Json as Answer, Router};
use purlin::http::{Cursors, Limit, Listing, Problem, Query};
use purlin::store::Query as Rows;
use serde::Deserialize;

use super::Payments;
use super::card_network::Entry;
use crate::contracts::who::Admin;

const CURSORS: Cursors = Cursors::of("ledger");

/// The routes of the payments service.
pub fn router(payments: Payments) -> Router {
    Router::new().route("/admin/ledger", get(ledger)).with_state(payments)
}

#[derive(Debug, Deserialize)]
struct Page {
    #[serde(default)]
    limit: Limit,
    cursor: Option<String>,
}

async fn ledger(
    State(payments): State<Payments>,
    _: Admin,
    Query(page): Query<Page>,
) -> Result<Answer<Listing<Entry>>, Problem> {
    let after = CURSORS.read_optional(page.cursor.as_deref())?;
    let rows = payments.network.ledger(Rows::all().after(after).limit(page.limit.get())).await?;
    let items = rows.records.iter().map(|record| record.decode()).collect::<Result<_, _>>()?;
    Ok(Answer(Listing { items, next: rows.next.map(|key| CURSORS.write(&key)) }))
}
