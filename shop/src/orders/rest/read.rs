//! Looking at orders.

use std::time::Duration;

use axum::Json as Answer;
use axum::extract::State;
use http::StatusCode;
use purlin::http::{Limit, Listing, Path, Problem, Query};
use purlin::message::Uuid;
use purlin::saga::SagaView;
use purlin::store::TokenError;
use serde::Deserialize;

use super::super::Orders;
use super::super::history::Shown;
use super::super::order::Status;
use super::super::progress::Progress;
use super::super::search::{SearchError, Wanted, cursor, page, whose};
use super::super::view::OrderRow;
use super::may_see;
use crate::contracts::events::Flow;
use crate::contracts::who::{Known, forbidden};

/// How long a reader waits for the view to have seen his writes.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Deserialize)]
pub(super) struct Filter {
    status: Option<Status>,
    user_id: Option<Uuid>,
    product_id: Option<Uuid>,
    after: Option<String>,
    #[serde(default)]
    limit: Limit,
    cursor: Option<String>,
}

pub(super) async fn list(
    State(orders): State<Orders>,
    known: Known,
    Query(filter): Query<Filter>,
) -> Result<Answer<Listing<OrderRow>>, Problem> {
    let Filter { status, user_id, product_id, after, limit, cursor: begin } = filter;
    let begin = cursor(begin.as_deref())?;
    // Who may not see them does not wait for them either.
    whose(known, user_id).map_err(refused)?;
    if let Some(position) = after {
        orders.caught_up(&position).await?;
    }
    let wanted = Wanted { status, user_id, product_id, limit: limit.get(), after: begin };
    Ok(Answer(page(orders.search(known, wanted).await.map_err(refused)?)))
}

fn refused(error: SearchError) -> Problem {
    match error {
        SearchError::Forbidden => forbidden(&error.to_string()),
        error => error.into(),
    }
}

pub(super) async fn show(
    State(orders): State<Orders>,
    known: Known,
    Path(id): Path<Uuid>,
) -> Result<Answer<Shown>, Problem> {
    let (order, history) = orders.read(id).await?;
    may_see(known, &order)?;
    Ok(Answer(orders.show(id, &order, &history)))
}

pub(super) async fn saga(
    State(orders): State<Orders>,
    known: Known,
    Path(id): Path<Uuid>,
) -> Result<Answer<SagaView>, Problem> {
    let order = orders.orders.load(id).await?;
    may_see(known, &order)?;
    let view = match (order.flow, order.submitted_at) {
        (Some(Flow::Orchestrated), _) => orders.sagas.show(id).await?,
        (Some(Flow::Choreographed), Some(submitted_at)) => {
            let progress = orders.base.store.get::<Progress>(&id.to_string()).await?;
            // Before the first event comes back from the bus, all that is known is that it was submitted.
            Some(progress.unwrap_or_else(|| Progress::begun(id, submitted_at)).view)
        }
        _ => None,
    };
    let none = || {
        Problem::new(StatusCode::NOT_FOUND, "not-found")
            .detail("the order has no checkout: it was not submitted")
    };
    view.map(Answer).ok_or_else(none)
}

impl Orders {
    /// Waits until the view has seen a position that one of our answers bore.
    async fn caught_up(&self, position: &str) -> Result<(), Problem> {
        let position = self.base.store.parse_token(position).await.map_err(|error: TokenError| {
            Problem::new(StatusCode::BAD_REQUEST, "invalid-position")
                .detail(format!("`after`: {error}"))
                .with("field", "after")
        })?;
        Ok(self.view.wait_for(position, PATIENCE).await?)
    }
}
