//! What the orders service answers to customers.

mod read;
mod write;

use axum::Router;
use axum::routing::{get, post};
use purlin::message::Uuid;

use super::Orders;
use super::order::{Order, OrderError};
use crate::contracts::who::Known;

/// The routes of the orders service.
pub fn router(orders: Orders) -> Router {
    Router::new()
        .route("/orders", get(read::list).post(write::draft))
        .route("/orders/{id}", get(read::show))
        .route("/orders/{id}/items", post(write::add_item))
        .route("/orders/{id}/submit", post(write::submit))
        .route("/orders/{id}/cancel", post(write::cancel))
        .route("/orders/{id}/saga", get(read::saga))
        .with_state(orders)
}

/// Whether somebody may see an order; another's is none.
fn may_see(known: Known, order: &Order) -> Result<(), OrderError> {
    if known.is_admin() && order.status.is_some() { Ok(()) } else { owns(known.id, order) }
}

/// Whether it is somebody's own order; another's is none.
fn owns(user_id: Uuid, order: &Order) -> Result<(), OrderError> {
    if order.status.is_some() && order.user_id == user_id { Ok(()) } else { Err(OrderError::NotFound) }
}
